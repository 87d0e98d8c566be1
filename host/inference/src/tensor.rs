//! Tensors between wasi-nn, where they are untrusted bytes, and ONNX Runtime, where they are typed.

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
    /// It has a dimension of zero: no elements, however many rows.
    #[error("dimensions {0:?}: none may be zero")]
    Empty(Vec<u32>),
    /// Its elements are of a type that is not served.
    #[error("elements of type {0} are not served; use FP32, FP64, U8, I32 or I64")]
    Type(String),
    /// An output of several images that has no row for each.
    #[error("an output of dimensions {dimensions:?} for {images} images")]
    Rows {
        /// Its dimensions.
        dimensions: Vec<u32>,
        /// The images that were run.
        images: usize,
    },
    /// ONNX Runtime does not take it.
    #[error(transparent)]
    Runtime(#[from] ort::Error),
}

/// A guest's tensor whose bytes fill its dimensions.
#[derive(Clone, Copy)]
pub(super) struct ValidTensor<'t> {
    tensor: &'t Tensor,
    kind: ElementType,
}

/// The types of elements that are served.
#[derive(Clone, Copy)]
enum ElementType {
    Fp32,
    Fp64,
    U8,
    I32,
    I64,
}

impl ElementType {
    fn of(ty: TensorType) -> Result<Self, TensorError> {
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

    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::Fp32 | Self::I32 => 4,
            Self::Fp64 | Self::I64 => 8,
        }
    }
}

impl<'t> ValidTensor<'t> {
    pub(super) fn new(tensor: &'t Tensor) -> Result<Self, TensorError> {
        let kind = ElementType::of(tensor.ty)?;
        // Rows without elements would cost nothing to send and a run each.
        if tensor.dimensions.contains(&0) {
            return Err(TensorError::Empty(tensor.dimensions.clone()));
        }
        // Five dimensions of u32 overflow 128 bits; a product that does is far from any real
        // length.
        let elements = tensor
            .dimensions
            .iter()
            .try_fold(1_u128, |product, &length| {
                product.checked_mul(length.into())
            });
        let wanted = elements
            .and_then(|count| count.checked_mul(kind.bytes() as u128))
            .unwrap_or(u128::MAX);
        if wanted != tensor.data.len() as u128 {
            let (dimensions, given) = (tensor.dimensions.clone(), tensor.data.len());
            return Err(TensorError::Length {
                dimensions,
                kind: kind.name(),
                wanted,
                given,
            });
        }
        Ok(Self { tensor, kind })
    }

    /// The length of the first dimension: how many images there are in a batch of them.
    pub(super) fn rows(&self) -> usize {
        self.tensor
            .dimensions
            .first()
            .map_or(1, |&rows| rows as usize)
    }

    /// How many bytes it has.
    pub(super) fn bytes(&self) -> usize {
        self.tensor.data.len()
    }

    /// Lends all of it to ONNX Runtime: the bytes are borrowed as they lie.
    pub(super) fn whole(&self) -> Result<SessionInputValue<'t>, TensorError> {
        self.lend(self.shape(), &self.tensor.data)
    }

    /// Lends some of its rows, a range within [`Self::rows`].
    pub(super) fn part(&self, rows: Range<usize>) -> Result<SessionInputValue<'t>, TensorError> {
        let row = self.tensor.data.len() / self.rows().max(1);
        let mut shape = self.shape();
        if let Some(first) = shape.first_mut() {
            *first = rows.len() as i64;
        }
        self.lend(
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

    fn lend(&self, shape: Vec<i64>, bytes: &'t [u8]) -> Result<SessionInputValue<'t>, TensorError> {
        match self.kind {
            ElementType::Fp32 => lend::<f32>(shape, bytes),
            ElementType::Fp64 => lend::<f64>(shape, bytes),
            ElementType::U8 => lend::<u8>(shape, bytes),
            ElementType::I32 => lend::<i32>(shape, bytes),
            ElementType::I64 => lend::<i64>(shape, bytes),
        }
    }
}

fn lend<T>(shape: Vec<i64>, bytes: &[u8]) -> Result<SessionInputValue<'_>, TensorError>
where
    T: Pod + PrimitiveTensorElementType + std::fmt::Debug + 'static,
{
    // An allocation of bytes is aligned for every element in practice, but nothing promises it.
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

/// Puts the outputs of parts of a batch together, row after row. Every part has the same outputs,
/// with rows of its own.
pub(super) fn join(parts: Vec<Vec<NamedTensor>>) -> Result<Vec<NamedTensor>, TensorError> {
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
