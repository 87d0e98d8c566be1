//! Tensors between wasi-nn, where they are untrusted bytes, and ONNX Runtime, where they are typed.

use std::borrow::Cow;

use bytemuck::Pod;
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType, TensorRef};
use wasmtime_wasi_nn::Tensor;
use wasmtime_wasi_nn::wit::TensorType;

/// What is wrong with a tensor.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// Its bytes do not fill its dimensions.
    #[error("dimensions {dimensions:?} of {kind} need {wanted} bytes, not {given}")]
    Length {
        /// Its dimensions.
        dimensions: Vec<u32>,
        /// Its type.
        kind: &'static str,
        /// What the dimensions come to, in bytes.
        wanted: u128,
        /// The bytes that it has.
        given: usize,
    },
    /// Its elements are of a type that is not served.
    #[error("elements of type {0} are not served; use FP32, FP64, U8, I32 or I64")]
    Type(String),
    /// ONNX Runtime does not take it.
    #[error(transparent)]
    Runtime(#[from] ort::Error),
}

/// Lends a guest's tensor to ONNX Runtime: its bytes are borrowed as they lie.
pub(super) fn borrow(tensor: &Tensor) -> Result<SessionInputValue<'_>, TensorError> {
    match tensor.ty {
        TensorType::Fp32 => typed::<f32>(tensor, "FP32"),
        TensorType::Fp64 => typed::<f64>(tensor, "FP64"),
        TensorType::U8 => typed::<u8>(tensor, "U8"),
        TensorType::I32 => typed::<i32>(tensor, "I32"),
        TensorType::I64 => typed::<i64>(tensor, "I64"),
        TensorType::Fp16 => Err(TensorError::Type("FP16".to_owned())),
        TensorType::Bf16 => Err(TensorError::Type("BF16".to_owned())),
    }
}

fn typed<'t, T>(tensor: &'t Tensor, kind: &'static str) -> Result<SessionInputValue<'t>, TensorError>
where
    T: Pod + PrimitiveTensorElementType + std::fmt::Debug + 'static,
{
    // Five dimensions of u32 overflow 128 bits; a product that does is far from any real length.
    let elements = tensor.dimensions.iter().try_fold(1_u128, |product, &length| product.checked_mul(length.into()));
    let wanted = elements.and_then(|count| count.checked_mul(size_of::<T>() as u128)).unwrap_or(u128::MAX);
    if wanted != tensor.data.len() as u128 {
        let (dimensions, given) = (tensor.dimensions.clone(), tensor.data.len());
        return Err(TensorError::Length { dimensions, kind, wanted, given });
    }
    let shape: Vec<i64> = tensor.dimensions.iter().map(|&length| i64::from(length)).collect();
    // An allocation of bytes is aligned for every element in practice, but nothing promises it.
    Ok(match aligned::<T>(&tensor.data) {
        Cow::Borrowed(elements) => TensorRef::from_array_view((shape, elements))?.into(),
        Cow::Owned(elements) => OrtTensor::from_array((shape, elements))?.into(),
    })
}

fn aligned<T: Pod>(bytes: &[u8]) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(elements) => Cow::Borrowed(elements),
        Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(bytes)),
    }
}

/// Copies an output of ONNX Runtime into a tensor for the guest.
pub(super) fn copy_out(value: &DynValue) -> Result<Tensor, TensorError> {
    let kind = value.dtype().tensor_type().ok_or_else(|| TensorError::Type(value.dtype().to_string()))?;
    let (ty, data) = match kind {
        TensorElementType::Float32 => (TensorType::Fp32, bytes::<f32>(value)?),
        TensorElementType::Float64 => (TensorType::Fp64, bytes::<f64>(value)?),
        TensorElementType::Uint8 => (TensorType::U8, bytes::<u8>(value)?),
        TensorElementType::Int32 => (TensorType::I32, bytes::<i32>(value)?),
        TensorElementType::Int64 => (TensorType::I64, bytes::<i64>(value)?),
        other => return Err(TensorError::Type(other.to_string())),
    };
    let dimensions = value.shape().iter().map(|&length| u32::try_from(length).unwrap_or(0)).collect();
    Ok(Tensor { dimensions, ty, data })
}

fn bytes<T: Pod + PrimitiveTensorElementType>(value: &DynValue) -> Result<Vec<u8>, TensorError> {
    let (_, elements) = value.try_extract_tensor::<T>()?;
    Ok(bytemuck::cast_slice(elements).to_vec())
}
