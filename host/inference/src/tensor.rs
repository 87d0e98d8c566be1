//! Conversion of tensors between `wasi:nn`, where they are untrusted bytes, and ONNX Runtime, where
//! they are typed.

use std::borrow::Cow;
use std::ops::Range;

use bytemuck::Pod;
use ort::session::SessionInputValue;
use ort::value::{
    DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType, TensorRef,
};
use wasmtime_wasi_nn::Tensor;
use wasmtime_wasi_nn::backend::NamedTensor;
use wasmtime_wasi_nn::wit::TensorType;

/// Fault of a tensor.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// The number of bytes does not match the dimensions.
    #[error("dimensions {dimensions:?} of {kind} need {expected} bytes, not {actual}")]
    Length {
        /// Dimensions of the tensor.
        dimensions: Vec<u32>,
        /// Type of its elements.
        kind: &'static str,
        /// Number of bytes that the dimensions need.
        expected: u128,
        /// Number of bytes in the tensor.
        actual: usize,
    },
    /// A dimension is zero, so that there are no elements.
    #[error("dimensions {0:?}: none may be zero")]
    Empty(Vec<u32>),
    /// The host does not support the type of the elements.
    #[error("elements of type {0} are not supported; use FP32, FP64, U8, I32 or I64")]
    Type(String),
    /// An output of several images does not have a row for each.
    #[error("an output of dimensions {dimensions:?} for {images} images")]
    Rows {
        /// Dimensions of the tensor.
        dimensions: Vec<u32>,
        /// Number of images in the run.
        images: usize,
    },
    /// ONNX Runtime rejects the tensor.
    #[error(transparent)]
    Runtime(#[from] ort::Error),
}

/// A guest's tensor with as many bytes as its dimensions need.
#[derive(Clone, Copy)]
pub(super) struct ValidTensor<'t> {
    tensor: &'t Tensor,
    kind: ElementType,
}

/// Supported types of elements.
#[derive(Clone, Copy)]
enum ElementType {
    Fp32,
    Fp64,
    U8,
    I32,
    I64,
}

impl ElementType {
    fn new(ty: TensorType) -> Result<Self, TensorError> {
        match ty {
            TensorType::Fp32 => Ok(Self::Fp32),
            TensorType::Fp64 => Ok(Self::Fp64),
            TensorType::U8 => Ok(Self::U8),
            TensorType::I32 => Ok(Self::I32),
            TensorType::I64 => Ok(Self::I64),
            TensorType::Fp16 => Err(TensorError::Type("FP16".to_owned())),
            TensorType::Bf16 => Err(TensorError::Type("BF16".to_owned())),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::U8 => "U8",
            Self::I32 => "I32",
            Self::I64 => "I64",
        }
    }

    fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::Fp32 | Self::I32 => 4,
            Self::Fp64 | Self::I64 => 8,
        }
    }
}

impl<'t> ValidTensor<'t> {
    pub(super) fn new(tensor: &'t Tensor) -> Result<Self, TensorError> {
        let kind = ElementType::new(tensor.ty)?;
        // Rows without elements would cost the guest nothing and the host a run each.
        if tensor.dimensions.contains(&0) {
            return Err(TensorError::Empty(tensor.dimensions.clone()));
        }
        // Five dimensions can overflow 128 bits. Such a product exceeds any real length.
        let elements = tensor
            .dimensions
            .iter()
            .try_fold(1_u128, |product, &length| {
                product.checked_mul(length.into())
            });
        let expected = elements
            .and_then(|count| count.checked_mul(kind.size() as u128))
            .unwrap_or(u128::MAX);
        if expected != tensor.data.len() as u128 {
            return Err(TensorError::Length {
                dimensions: tensor.dimensions.clone(),
                kind: kind.name(),
                expected,
                actual: tensor.data.len(),
            });
        }
        Ok(Self { tensor, kind })
    }

    /// Returns the length of the first dimension, which is the number of images in a batch.
    pub(super) fn rows(&self) -> usize {
        self.tensor
            .dimensions
            .first()
            .map_or(1, |&rows| rows as usize)
    }

    /// Returns the number of bytes.
    pub(super) fn byte_len(&self) -> usize {
        self.tensor.data.len()
    }

    /// Converts the tensor for ONNX Runtime, which borrows its bytes.
    pub(super) fn whole(&self) -> Result<SessionInputValue<'t>, TensorError> {
        self.borrow(self.shape(), &self.tensor.data)
    }

    /// Converts some of the rows, a range within [`Self::rows`].
    pub(super) fn part(&self, rows: Range<usize>) -> Result<SessionInputValue<'t>, TensorError> {
        let row = self.tensor.data.len() / self.rows().max(1);
        let mut shape = self.shape();
        if let Some(first) = shape.first_mut() {
            *first = rows.len() as i64;
        }
        self.borrow(
            shape,
            self.tensor
                .data
                .get(rows.start * row..rows.end * row)
                .unwrap_or_default(),
        )
    }

    fn shape(&self) -> Vec<i64> {
        self.tensor
            .dimensions
            .iter()
            .map(|&length| i64::from(length))
            .collect()
    }

    fn borrow(
        &self,
        shape: Vec<i64>,
        bytes: &'t [u8],
    ) -> Result<SessionInputValue<'t>, TensorError> {
        match self.kind {
            ElementType::Fp32 => borrow::<f32>(shape, bytes),
            ElementType::Fp64 => borrow::<f64>(shape, bytes),
            ElementType::U8 => borrow::<u8>(shape, bytes),
            ElementType::I32 => borrow::<i32>(shape, bytes),
            ElementType::I64 => borrow::<i64>(shape, bytes),
        }
    }
}

fn borrow<T>(shape: Vec<i64>, bytes: &[u8]) -> Result<SessionInputValue<'_>, TensorError>
where
    T: Pod + PrimitiveTensorElementType + std::fmt::Debug + 'static,
{
    // In practice an allocation of bytes is aligned for every element, but that is not guaranteed.
    Ok(match aligned::<T>(bytes) {
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
    let kind = value
        .dtype()
        .tensor_type()
        .ok_or_else(|| TensorError::Type(value.dtype().to_string()))?;
    let (ty, data) = match kind {
        TensorElementType::Float32 => (TensorType::Fp32, bytes::<f32>(value)?),
        TensorElementType::Float64 => (TensorType::Fp64, bytes::<f64>(value)?),
        TensorElementType::Uint8 => (TensorType::U8, bytes::<u8>(value)?),
        TensorElementType::Int32 => (TensorType::I32, bytes::<i32>(value)?),
        TensorElementType::Int64 => (TensorType::I64, bytes::<i64>(value)?),
        other => return Err(TensorError::Type(other.to_string())),
    };
    let dimensions = value
        .shape()
        .iter()
        .map(|&length| u32::try_from(length).unwrap_or(0))
        .collect();
    Ok(Tensor {
        dimensions,
        ty,
        data,
    })
}

/// Concatenates the outputs of a batch's parts by rows. Every part has the same outputs.
pub(super) fn concat(parts: Vec<Vec<NamedTensor>>) -> Result<Vec<NamedTensor>, TensorError> {
    let mut parts = parts.into_iter();
    let mut whole = parts.next().unwrap_or_default();
    for part in parts {
        for (output, more) in whole.iter_mut().zip(part) {
            let (tensor, more) = (&mut output.tensor, more.tensor);
            let [rows, row @ ..] = tensor.dimensions.as_mut_slice() else {
                continue;
            };
            let [more_rows, more_row @ ..] = more.dimensions.as_slice() else {
                continue;
            };
            if row != more_row {
                return Err(TensorError::Rows {
                    dimensions: more.dimensions.clone(),
                    images: *more_rows as usize,
                });
            }
            *rows += more_rows;
            tensor.data.extend_from_slice(&more.data);
        }
    }
    Ok(whole)
}

fn bytes<T: Pod + PrimitiveTensorElementType>(value: &DynValue) -> Result<Vec<u8>, TensorError> {
    let (_, elements) = value.try_extract_tensor::<T>()?;
    Ok(bytemuck::cast_slice(elements).to_vec())
}
