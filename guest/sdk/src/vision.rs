//! The half of a pipeline that sees.

use crate::analysis::{Analysis, AnalyzeError, Description, Purpose};
use crate::host::Host;

/// Everything that looks at pixels.
pub trait Vision: 'static {
    /// What the host must know before it stages the component. Always the same.
    fn describe() -> Description;

    /// Finds the faces in an encoded image (JPEG, PNG, WebP).
    ///
    /// # Errors
    ///
    /// [`AnalyzeError`]: the image cannot be decoded or is too large, which is the caller's fault, or a model failed, which is not.
    fn analyze(host: &impl Host, image: Vec<u8>, purpose: Purpose) -> Result<Analysis, AnalyzeError>;
}
