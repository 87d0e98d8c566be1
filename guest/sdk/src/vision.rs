//! The half of a pipeline that sees.

use crate::analysis::{Analysis, AnalyzeError, Description, Purpose};
use crate::host::Host;

/// Everything that looks at pixels.
pub trait Vision: 'static {
    /// What the host must know before it stages the component. Always the same.
    ///
    /// `identity` is that of [`Policy::identity`](crate::policy::Policy::identity) where one type is both.
    fn describe() -> Description;

    /// Finds the faces in an encoded image (JPEG, PNG, WebP; whatever a caller sent).
    ///
    /// What it returns is in pixels of the upright image; [`Analysis`] says what the host checks of it. Every call is on a fresh instance:
    /// nothing is remembered from one image to the next.
    ///
    /// # Errors
    ///
    /// [`AnalyzeError`]: the image cannot be decoded or is too large, which is the caller's fault, or a model failed, which is not.
    fn analyze(host: &impl Host, image: Vec<u8>, purpose: Purpose) -> Result<Analysis, AnalyzeError>;
}
