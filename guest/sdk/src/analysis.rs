//! What a pipeline says of an image.
//!
//! The host checks all of it before anything is stored, matched or answered; what breaks a rule
//! stated here fails the request.

use std::borrow::Cow;

use crate::decode::DecodeError;
use crate::geometry::{Point, Rect};
use crate::policy::Identity;

/// What the host must know before it stages a component that sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Who this is.
    pub identity: Identity,
    /// The roles of the models that it loads: the host grants these and no others. At most 16, each
    /// once, of 1 to 32 lower-case letters, digits and `-`.
    pub models: Vec<&'static str>,
    /// What its embeddings mean.
    pub contract: EmbeddingContract,
}

/// What an embedding means. Two are compared only if all of this agrees, and the recogniser's
/// SHA-256 and dimension, which the host adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingContract {
    /// The role of the model that makes embeddings: one of [`Description::models`].
    pub recognizer: &'static str,
    /// How a face is brought to the recogniser's input, with a version: 1 to 64 lower-case letters,
    /// digits, `-`, `.` and `/`, of your own choice. Another text means that embeddings cannot be
    /// compared.
    pub alignment: &'static str,
    /// How pixels become numbers, with a version; written as `alignment` is.
    pub preprocessing: &'static str,
}

impl EmbeddingContract {
    /// Embeddings of [`crate::recognizer::embed`], by the model of this role: they can be compared
    /// with the default pipeline's.
    #[must_use]
    pub const fn arcface(recognizer: &'static str) -> Self {
        Self {
            recognizer,
            alignment: "arcface-5-point-112/1",
            preprocessing: "bilinear-mean-std/1",
        }
    }
}

/// A number that vision measured on a face, for policies to judge it by.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// What was measured: 1 to 32 lower-case letters, digits and `-`; each name at most once a
    /// face.
    pub name: Cow<'static, str>,
    /// The value, finite; its unit belongs to the name's definition. [`crate::measure::Measures`]
    /// has those of the default pipeline.
    pub value: f32,
}

impl Measure {
    /// A measure of this name and value.
    #[must_use]
    pub const fn new(name: &'static str, value: f32) -> Self {
        Self {
            name: Cow::Borrowed(name),
            value,
        }
    }
}

/// What the faces are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To find who is there: every face that scores at least the detection threshold, each with an
    /// embedding.
    Recognize,
    /// To enrol a person: every face that the detector reports, weak ones too, so that the policy
    /// can say why a photo is refused. With embeddings at least for those that score the threshold:
    /// no other can be enrolled.
    Enroll,
    /// Only to find the faces, without embeddings.
    Detect,
}

/// An image and who is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Width of the upright image in pixels, not 0.
    pub width: u32,
    /// Height of the upright image in pixels, not 0.
    pub height: u32,
    /// The faces in order of box area, largest first; at most 1024.
    pub faces: Vec<AnalyzedFace>,
}

impl Analysis {
    /// An image of this size in pixels with these faces, in any order: they are put in the order of
    /// area.
    #[must_use]
    pub fn new(width: u32, height: u32, mut faces: Vec<AnalyzedFace>) -> Self {
        faces.sort_by(|a, b| b.bounds.area().total_cmp(&a.bounds.area()));
        Self {
            width,
            height,
            faces,
        }
    }
}

/// A face with the embedding that stands for it.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyzedFace {
    /// Its box in pixels of the upright image: not empty, and cut to the image ([`Rect::within`]).
    pub bounds: Rect,
    /// The detector's confidence, 0 to 1.
    pub score: f32,
    /// Five landmarks in pixels of the upright image, in the order of
    /// [`Landmarks`](crate::geometry::Landmarks): finite, perhaps outside it. None if the detector
    /// knows none.
    pub landmarks: Vec<Point>,
    /// What was measured of it, at most 32: [`crate::measure::Measures::named`] gives the default
    /// pipeline's.
    pub measures: Vec<Measure>,
    /// The recogniser's raw output, not normalised, or for an enrolment what
    /// [`crate::embed::near_and_far`] makes of several; then
    /// [`Host::raw_sample`](crate::host::Host::raw_sample) hands over the raw one. As many numbers
    /// as the recogniser's dimension, finite and not all zero; empty if none was asked for.
    pub embedding: Vec<f32>,
}

/// Why an image could not be analysed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnalyzeError {
    /// The caller's image is at fault, and the caller is told the cause.
    #[error(transparent)]
    Image(#[from] DecodeError),
    /// A model failed, or a setting is not understood: the caller gets a 500 without details, and
    /// the host's log the cause.
    #[error("{0}")]
    Model(String),
}

impl From<String> for AnalyzeError {
    fn from(cause: String) -> Self {
        Self::Model(cause)
    }
}
