//! Errors of loading and running models.

use crate::tensor::TensorError;

/// Error of a model that cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// ONNX Runtime rejects the model's bytes.
    #[error("cannot load model `{name}`: {cause}")]
    Load {
        /// Name of the model.
        name: String,
        /// Error of ONNX Runtime.
        cause: ort::Error,
    },
    /// ONNX Runtime rejects the bytes of the model's 8-bit variant.
    #[error("cannot load the 8-bit variant of model `{name}`: {cause}")]
    LoadVariant {
        /// Name of the model.
        name: String,
        /// Error of ONNX Runtime.
        cause: ort::Error,
    },
    /// The 8-bit variant cannot replace the model in a run.
    #[error(
        "the 8-bit variant of model `{name}` has other inputs or outputs than the \
         model, or outputs that are not finite"
    )]
    VariantMismatch {
        /// Name of the model.
        name: String,
    },
    /// The inputs do not match the model's inputs.
    #[error("model `{model}` takes the inputs {expected:?}, not {actual:?}")]
    Inputs {
        /// Name of the model.
        model: String,
        /// Names of its inputs.
        expected: Vec<String>,
        /// Names of the guest's inputs.
        actual: Vec<String>,
    },
    /// A tensor is malformed.
    #[error("tensor `{name}`: {cause}")]
    Tensor {
        /// Name of the tensor.
        name: String,
        /// The fault.
        cause: TensorError,
    },
    /// No session was free before the deadline or the cancellation.
    #[error("model `{name}` got no session before the deadline or the cancellation")]
    Late {
        /// Name of the model.
        name: String,
    },
    /// A run failed in ONNX Runtime.
    #[error("model `{name}` failed: {cause}")]
    Run {
        /// Name of the model.
        name: String,
        /// Error of ONNX Runtime.
        cause: ort::Error,
    },
}
