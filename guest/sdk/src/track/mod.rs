//! Tracks of people in a stream, and identities by votes.
//!
//! A frame of a stream shows mostly the people of the frame before. [`Tracker`] says which face
//! continues which track, and which faces to embed: few, because embeddings are most of a frame's
//! time. [`Votes`] decides who a track is, by all its embeddings.
//!
//! Both are states of one stream. They read the bytes that they returned for the frame before, and
//! know no clock: the caller gives the time in milliseconds. Coordinates are pixels of the upright
//! picture, scores and qualities 0 to 1, similarities cosines of -1 to 1.
//!
//! The bytes of [`Tracker`] hold an embedding and a thumbnail of each track, which are biometric data. Those of
//! [`Votes`] hold hashes of people's ids. Damaged bytes are an empty state.
//!
//! # Vision
//!
//! ```
//! use rostro_sdk::geometry::Rect;
//! use rostro_sdk::track::{Observation, Tracker, quality::quality};
//!
//! # let state = Vec::new();
//! # let embed = |_: &[usize]| vec![(0, vec![0.6, 0.8])];
//! # let (time_ms, detection_threshold, state_limit) = (0, 0.7, 256 * 1024);
//! let mut tracker = Tracker::from_bytes(&state);
//! let bounds = Rect { x1: 10.0, y1: 10.0, x2: 70.0, y2: 90.0 };
//! let observations = [Observation {
//!     bounds,
//!     score: 0.9,
//!     quality: quality(0.9, 60.0, None, None),
//!     // `Appearance::of` an aligned face.
//!     appearance: None,
//! }];
//!
//! let mut due = tracker.update(time_ms, detection_threshold, &observations);
//! while !due.is_empty() {
//!     // Returns each index with the recogniser's output.
//!     let embeddings: Vec<(usize, Vec<f32>)> = embed(&due);
//!     due = tracker.embedded(&embeddings);
//! }
//! for face in tracker.faces() {
//!     // Report the track, and the embedding if it is fresh.
//!     assert!(face.track == 1 && face.is_new && face.is_fresh);
//! }
//! let state = tracker.to_bytes(state_limit);
//! # assert_eq!(Tracker::from_bytes(&state).tracks().collect::<Vec<_>>(), [1]);
//! ```
//!
//! # Policy
//!
//! ```
//! use rostro_sdk::decide::Rule;
//! use rostro_sdk::policy::{Candidate, Decision};
//! use rostro_sdk::track::{Ballot, Votes};
//!
//! # let state = Vec::new();
//! # let (time_ms, similarity_threshold, state_limit) = (0, 0.5, 256 * 1024);
//! let mut votes = Votes::from_bytes(&state);
//! let candidates = [Candidate { id: "alice".to_owned(), similarity: 0.8 }];
//! let ballot = Ballot { track: 1, is_fresh: true, weight: 0.7, candidates: &candidates };
//!
//! let rule = Rule::against_rivals(similarity_threshold);
//! let decisions = votes.decide(time_ms, rule, &[ballot]);
//! assert_eq!(decisions, [Decision::Known { candidate: 0, confidence: 0.8 }]);
//! let state = votes.to_bytes(state_limit);
//! # assert!(!state.is_empty());
//! ```
//!
//! # Parts
//!
//! | part | from | to |
//! | --- | --- | --- |
//! | [`motion::Motion`] | boxes and intervals | the expected box |
//! | [`associate::associate`] | expected boxes, detections | the track of each detection, and doubts |
//! | [`Appearance`] | aligned faces | does the face still look like the embedded one? |
//! | [`quality::quality`] | score and measures | 0 to 1 |
//! | [`schedule::History`] | quality, doubts, changes, intervals | is the face embedded now? |
//! | [`verify::verify`] | embeddings of tracks and faces | the face's track is the same, another or new |
//! | [`Votes`] | similarities of a track's embeddings | one decision a face |
//!
//! Each names the sources of its algorithm. Association is ByteTrack's with a Kalman filter for any
//! interval.

pub mod appearance;
pub mod associate;
pub mod embedding;
pub mod motion;
pub mod quality;
pub mod schedule;
pub mod verify;
pub mod votes;

mod matching;
mod state;
mod tracker;

#[cfg(test)]
mod tests;

pub use self::appearance::Appearance;
pub use self::associate::Observation;
pub use self::tracker::{MAX_TRACKS, TrackedFace, Tracker};
pub use self::votes::{Ballot, Votes};
