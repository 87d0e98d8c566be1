//! A pipeline's answer to one photo, as the commands draw, compare and print it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use rostro_sandbox::bindings::Face;
use rostro_sandbox::limits::Usage;

/// Answer of a pipeline to one photo.
#[derive(Debug, Serialize)]
pub(super) struct AnalysisReport {
    pub width: u32,
    pub height: u32,
    pub faces: Vec<FaceReport>,
    pub milliseconds: f64,
    #[serde(skip)]
    pub stages: Vec<(String, Duration)>,
    #[serde(skip)]
    pub used: Usage,
}

/// Face with its identity.
#[derive(Debug, Serialize)]
pub(super) struct FaceReport {
    #[serde(skip)]
    pub face: Face,
    #[serde(skip)]
    pub embedding: Vec<f32>,
    /// Left, upper, right and lower edge in pixels.
    pub bounds: [f32; 4],
    pub score: f32,
    /// Id of the person; none if unknown.
    pub identity: Option<String>,
    pub confidence: Option<f32>,
    /// Reason for an unknown face.
    pub reason: Option<String>,
    /// Similarity of the most similar person.
    pub similarity: Option<f32>,
    /// Five points in pixels, or none.
    pub landmarks: Vec<[f32; 2]>,
    /// Measures of vision, by name.
    pub measures: BTreeMap<String, f32>,
}

impl FaceReport {
    /// Returns the identity with its confidence, or the score of an unknown face.
    pub(super) fn label(&self) -> String {
        match (&self.identity, self.confidence) {
            (Some(id), Some(confidence)) => format!("{id} {confidence:.2}"),
            _ => format!("? {:.2}", self.score),
        }
    }
}
