//! The half of a pipeline that sees.

use crate::analysis::{Analysis, AnalyzeError, Description, Purpose};
use crate::detector;
use crate::host::{Host, Settings};

/// Everything that looks at pixels.
pub trait Vision: 'static {
    /// What the host must know before it stages the component. Always the same.
    ///
    /// `identity` is that of [`Policy::identity`](crate::policy::Policy::identity) where one type
    /// is both.
    fn describe() -> Description;

    /// Reads every setting that it knows, and [refuses](crate::host::refused) values that it cannot
    /// use. Called while the component describes itself: the host learns from it which settings
    /// there are, and takes any other of the operator's for misspelt.
    ///
    /// By default those of the [detector](crate::detector::check_settings). Settings of
    /// [`Policy`](crate::policy::Policy) are read by its own
    /// [`check_settings`](crate::policy::Policy::check_settings).
    fn check_settings(settings: &impl Settings) {
        detector::check_settings(settings);
    }

    /// Finds the faces in an encoded image (JPEG, PNG, WebP, BMP, GIF, TIFF; whatever a caller
    /// sent).
    ///
    /// What it returns is in pixels of the upright image; [`Analysis`] says what the host checks of
    /// it. Every request has a fresh instance: nothing is remembered from one request to the next.
    /// The images of one request share an instance: all photos of an enrolment, and both images of
    /// a comparison. Statics must keep nothing that belongs to one image.
    ///
    /// # Errors
    ///
    /// [`AnalyzeError`]: the image cannot be decoded or is too large, which is the caller's fault, or a model failed, which is not.
    fn analyze(
        host: &impl Host,
        image: Vec<u8>,
        purpose: Purpose,
    ) -> Result<Analysis, AnalyzeError>;
}
