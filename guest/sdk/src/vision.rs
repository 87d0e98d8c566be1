//! The vision half of a pipeline.

use crate::analysis::{Analysis, AnalyzeError, Description, Purpose};
use crate::detect::detector;
use crate::host::{Host, Setting, Settings};

/// Analysis of images. Only this half of a pipeline sees pixels.
pub trait Vision: 'static {
    /// Returns the description by which the host stages the component. It must always be the same.
    ///
    /// `identity` is that of [`Policy::identity`](crate::policy::Policy::identity) if one type
    /// implements both.
    fn describe() -> Description;

    /// Returns the settings that it knows. The host treats all others of the operator as misspelt.
    ///
    /// The default returns those of the [detector](crate::detector::settings). Those of
    /// [`Policy`](crate::policy::Policy) belong to its own
    /// [`settings`](crate::policy::Policy::settings).
    fn settings() -> Vec<Setting> {
        detector::settings()
    }

    /// Version of the state that it keeps of a stream. The host drops states of another version.
    const STATE_VERSION: u32 = 0;

    /// [Refuses](crate::host::refused) values of settings that follow their type and still cannot be
    /// used. Called while the component describes itself.
    ///
    /// The default checks those of the [detector](crate::detector::check_settings).
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

    /// Finds the faces in a frame of a stream, for recognition. `state` is what the last frame's
    /// [`Analysis::state`] was: empty for the first frame of a stream, and after the host dropped it.
    ///
    /// The default analyzes each frame alone.
    ///
    /// # Errors
    ///
    /// As of [`analyze`](Self::analyze).
    fn analyze_frame(
        host: &impl Host,
        image: Vec<u8>,
        _state: &[u8],
    ) -> Result<Analysis, AnalyzeError> {
        Self::analyze(host, image, Purpose::Recognize)
    }
}
