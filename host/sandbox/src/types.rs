//! Analyses and decisions as the host uses them, validated and independent of the version of
//! `rostro:pipeline`.

use crate::bindings::{Event, Face, Ruling};

/// An image and its faces.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Width of the upright image in pixels.
    pub width: u32,
    /// Height of the upright image in pixels.
    pub height: u32,
    /// The faces in order of box area, largest first.
    pub faces: Vec<AnalyzedFace>,
}

/// A face and the embedding that stands for it.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyzedFace {
    /// The face as vision reports it.
    pub face: Face,
    /// Track of the stream that the face continues or begins.
    pub track: Option<u32>,
    /// Whether the embedding is of this image. If not, it is the last one of the track.
    pub is_fresh: bool,
    /// Output of the recogniser, not normalised. Empty if it was not computed.
    pub embedding: Vec<f32>,
}

/// A policy's answer about a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Decisions {
    /// One ruling for each face, in the order of the probes.
    pub rulings: Vec<Ruling>,
    /// The policy's own events.
    pub events: Vec<Event>,
}
