//! The vision half of a pipeline.

use crate::analysis::{Analysis, AnalyzeError, Description, Purpose};
use crate::detect::detector;
use crate::host::{Host, Settings};

/// Analysis of images. Only this half of a pipeline sees pixels.
pub trait Vision: 'static {
    /// Returns the description by which the host stages the component. It must always be the same.
    ///
    /// `identity` is that of [`Policy::identity`](crate::policy::Policy::identity) if one type
    /// implements both.
    fn describe() -> Description;

    /// Reads every setting that it knows, and [refuses](crate::host::refused) invalid values.
    /// Called while the component describes itself: the host treats all other settings of the
    /// operator as misspelt.
    ///
    /// The default reads those of the [detector](crate::detector::check_settings). Settings of
    /// [`Policy`](crate::policy::Policy) belong to its own
    /// [`check_settings`](crate::policy::Policy::check_settings).
    fn check_settings(settings: &impl Settings) {
        detector::check_settings(settings);
    }

    /// Finds the faces in an encoded image: any bytes that a caller sent, supposedly JPEG, PNG,
    /// WebP, BMP, GIF or TIFF.
    ///
    /// The result is in pixels of the upright image; [`Analysis`] lists the host's checks. Every
    /// request has a fresh instance, without state of earlier requests. Images of one request share
    /// an instance: all photos of an enrolment, and both images of a comparison. Statics must keep
    /// nothing of one image, because the next image would see it.
    ///
    /// # Errors
    ///
    /// [`AnalyzeError::Image`] if the image cannot be decoded or is too large,
    /// [`AnalyzeError::Model`] if a model failed.
    fn analyze(
        host: &impl Host,
        image: Vec<u8>,
        purpose: Purpose,
    ) -> Result<Analysis, AnalyzeError>;
}
