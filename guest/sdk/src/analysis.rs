//! What a pipeline says of an image.

use crate::decode::DecodeError;
use crate::geometry::{Landmarks, Rect};
use crate::measure::Measures;

/// What the faces are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To find who is there: every face above the detection threshold, with embeddings.
    Recognize,
    /// To enrol a person: every face that the detector reports, with embeddings.
    Enroll,
    /// Only to find the faces, without embeddings.
    Detect,
}

/// An image and who is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Width of the upright image in pixels.
    pub width: u32,
    /// Height of the upright image in pixels.
    pub height: u32,
    /// The faces in order of box area, largest first.
    pub faces: Vec<AnalyzedFace>,
}

/// A face with the embedding that stands for it.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyzedFace {
    /// Its box, cut to the image.
    pub bounds: Rect,
    /// The detector's confidence, 0 to 1.
    pub score: f32,
    /// Its landmarks.
    pub landmarks: Landmarks,
    /// What was measured of it.
    pub measures: Measures,
    /// The recogniser's raw output, or for an enrolment what [`crate::embed::near_and_far`] makes of several; empty if none was asked for.
    pub embedding: Vec<f32>,
}

/// Why an image could not be analysed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnalyzeError {
    /// The caller's image is at fault.
    #[error(transparent)]
    Image(#[from] DecodeError),
    /// A model failed, or a setting is not understood.
    #[error("{0}")]
    Model(String),
}
