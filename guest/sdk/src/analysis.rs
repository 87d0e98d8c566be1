//! The result of a pipeline's vision for one image.
//!
//! The host checks all of it before anything is stored, matched or answered. A result that breaks a
//! rule stated here fails the request.

use crate::image::decode::DecodeError;
use crate::image::geometry::{Point, Rect};
use crate::types::Identity;
pub use crate::types::Measure;

/// Description of a component with vision. The host reads it before it stages the component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Name and version.
    pub identity: Identity,
    /// The roles of the models that it loads; the host grants these and no others. At most 16, each
    /// once, of 1 to 32 lower-case letters, digits and `-`.
    pub models: Vec<&'static str>,
    /// The contract of its embeddings.
    pub contract: EmbeddingContract,
}

/// The contract that makes embeddings comparable. Two embeddings are compared only if all of it
/// agrees, and also the recogniser's SHA-256 and dimension, which the host adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingContract {
    /// The role of the model that makes embeddings: one of [`Description::models`].
    pub recognizer: &'static str,
    /// Name and version of the alignment that brings a face to the recogniser's input. 1 to 64
    /// lower-case letters, digits, `-`, `.` and `/`, of your own choice. Embeddings with different
    /// values here cannot be compared.
    pub alignment: &'static str,
    /// Name and version of the conversion of pixels to numbers; the same format as `alignment`.
    pub preprocessing: &'static str,
}

impl EmbeddingContract {
    /// Returns the contract of [`crate::recognizer::embed`] with the model of this role. Its
    /// embeddings can be compared with the default pipeline's.
    #[must_use]
    pub const fn arcface(recognizer: &'static str) -> Self {
        Self {
            recognizer,
            alignment: "arcface-5-point-112/1",
            preprocessing: "bilinear-mean-std/1",
        }
    }
}

/// Purpose of an analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Recognition: every face that scores at least the detection threshold, each with an
    /// embedding.
    Recognize,
    /// Enrolment: every face that the detector reports, weak ones too, so that the policy can give
    /// the reason for a rejection. Faces that score at least the threshold need embeddings, because
    /// no other can be enrolled.
    Enroll,
    /// Detection only, without embeddings.
    Detect,
}

/// An image and its faces.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Width of the upright image in pixels, not 0.
    pub width: u32,
    /// Height of the upright image in pixels, not 0.
    pub height: u32,
    /// The faces in order of box area, largest first; at most 1024.
    pub faces: Vec<AnalyzedFace>,
    /// The state for the next frame of the stream, at most 256 KiB unless the operator's limit
    /// `state-kib` differs. None keeps the present one.
    pub state: Option<Vec<u8>>,
}

impl Analysis {
    /// Creates the analysis of an image of this size in pixels. Sorts the faces by area.
    #[must_use]
    pub fn new(width: u32, height: u32, mut faces: Vec<AnalyzedFace>) -> Self {
        faces.sort_by(|a, b| b.bounds.area().total_cmp(&a.bounds.area()));
        Self {
            width,
            height,
            faces,
            state: None,
        }
    }

    /// Sets the state for the next frame of the stream.
    #[must_use]
    pub fn with_state(self, state: Vec<u8>) -> Self {
        Self {
            state: Some(state),
            ..self
        }
    }
}

/// A face and its embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyzedFace {
    /// Its box in pixels of the upright image: not empty, and cut to the image ([`Rect::within`]).
    pub bounds: Rect,
    /// The detector's confidence, 0 to 1.
    pub score: f32,
    /// Five landmarks in pixels of the upright image, in the order of
    /// [`Landmarks`](crate::geometry::Landmarks): finite, perhaps outside it. Empty if the detector
    /// has no landmarks.
    pub landmarks: Vec<Point>,
    /// Its measures, at most 32: [`crate::measure::Measures::named`] returns the default
    /// pipeline's.
    pub measures: Vec<Measure>,
    /// The track of the stream that the face continues or begins: a number of the component's
    /// choice, at most once in a frame. None outside a stream.
    pub track: Option<u32>,
    /// The recogniser's raw output, not normalised. For an enrolment it may be the combination of
    /// several by [`crate::embed::near_and_far`]; then
    /// [`Host::raw_sample`](crate::host::Host::raw_sample) reports the raw one. Its length is the
    /// recogniser's dimension; its numbers are finite and not all zero. Empty if the purpose needs
    /// none, or if the face's track had one in an earlier frame of the stream, which the host keeps.
    pub embedding: Vec<f32>,
}

/// Error of an analysis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnalyzeError {
    /// The caller's image is invalid. The caller gets the cause.
    #[error(transparent)]
    Image(#[from] DecodeError),
    /// A model failed, or a setting is invalid. The caller gets a 500 without details, and the
    /// host's log the cause.
    #[error("{0}")]
    Model(String),
}

impl From<String> for AnalyzeError {
    fn from(cause: String) -> Self {
        Self::Model(cause)
    }
}
