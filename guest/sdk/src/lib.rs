//! Building blocks for authors of Rostro pipelines.
//!
//! A pipeline is a type that implements [`Vision`](vision::Vision) and [`Policy`](policy::Policy),
//! or [`Policy`](policy::Policy) alone; [`export!`] makes a component of it. Both traits get their
//! settings and models through the traits of [`host`]. A component implements those with its
//! imports, and a test implements them natively: `cargo test` needs no WebAssembly.
//!
//! # Building blocks
//!
//! The default pipeline (`guest/insightface` in Rostro's repository) combines these and has nothing
//! else. Most are pure functions on plain slices; those that run a model take the
//! [host](host::Host). In the order of processing:
//!
//! | step | function | from | to |
//! | --- | --- | --- | --- |
//! | decode | [`decode::decode`], [`decode::decode_within`] | JPEG, PNG, WebP, BMP, GIF, TIFF | upright [`Rgb`](decode::Rgb), height × width × 3 bytes |
//! | letterbox | [`letterbox::Letterbox`] | a picture | 1×3×H×W tensor, picture in the upper left |
//! | detect | [`scrfd::detect`] | outputs of SCRFD | [`Detection`](scrfd::Detection)s in pixels of the picture |
//! | one detection pass | [`detector::run_pass`] | a picture, a letterbox | letterbox, model and SCRFD together |
//! | choose passes | [`scales::Pass`] | the detections of a pass | the size of the next pass, if it is worth its time |
//! | all passes | [`detector::detect`] | a picture | [`Detection`](scrfd::Detection)s, as in the default pipeline |
//! | align | [`align::align`] | a picture, five landmarks | [`AlignedFace`](align::AlignedFace), 112 × 112 × 3 bytes |
//! | all before embedding | [`faces::detect_faces`], [`faces::crop`] | an encoded picture | [`FaceCrop`](faces::FaceCrop)s, as in the default pipeline |
//! | another model | [`region::tensor`] | a box of a picture | 1×3×H×W tensor |
//! | measure | [`measure::Measures::of`] | box, landmarks, aligned face | size, yaw, roll, brightness, sharpness |
//! | degrade | [`distance::simulate_distance`] | an aligned face | two, as a distant camera would give them |
//! | embed | [`recognizer::embed`] | N aligned faces | N raw embeddings of D numbers |
//! | embed to enrol | [`faces::embed_near_and_far`] | face crops | raw embeddings, the best also as from a distance |
//! | average | [`embed::mean`], [`embed::near_and_far`], [`embed::normalized`] | embeddings of D numbers | one of D numbers |
//! | compare | [`embed::cosine`] | two embeddings | -1 to 1 |
//! | review | [`review::best_face`] | detection scores | the face to enrol |
//! | assign | [`policy::assigned`], [`decide::assign`] | probes with their candidates | a decision for each face, each person once |
//! | track | [`track::Tracker`] | the detections of a stream's frames | the track of each face, and the faces to embed |
//! | vote | [`track::Votes`] | a stream's tracks with their candidates | as assign, by all embeddings of a track |
//!
//! [`faces`], [`detector`] and [`recognizer`] each combine several steps. [`analysis`] has the
//! types of the result. [`track`] carries state from frame to frame of a stream.
//!
//! # Conventions
//!
//! - A *picture* is upright, by its EXIF orientation, and 8-bit RGB. Coordinates are in its pixels:
//!   x to the right, y down, the origin in the upper left. Boxes need not be whole pixels.
//! - A *tensor* is 32-bit floats, N×3×H×W: image by image, channel by channel, row by row.
//!   [`tensor::Normalization`] defines how bytes become numbers. Functions take sizes as width,
//!   height; dimensions are in the order of models, height before width.
//! - An *anchor* is a place in the detector's input with a score, a box and *landmarks* of the
//!   network. A *detection* is an anchor that was kept, in pixels of the picture. A *score* is the
//!   detector's confidence, 0 to 1.
//! - An *embedding* is the recogniser's output for one face, raw: not normalised. D is its length,
//!   512 in the packs that come with Rostro. The host compares embeddings by cosine similarity, -1
//!   to 1, so their lengths matter only for averages.
//! - A *sample* is the embedding of an enrolment photo. A *template* is a vector that stands for a
//!   person, made of samples. The *gallery*, which only the host has, holds the templates of all
//!   people.
//! - A *probe* is a face of a frame together with its *candidates*: the nearest people of the
//!   gallery.
//! - A *track* is one person's faces in a stream, frame after frame. An embedding is *fresh* in the
//!   frame in which its face was embedded.
//!
//! # A pipeline
//!
//! ```
//! use rostro_sdk::align::align;
//! use rostro_sdk::analysis::{
//!     Analysis, AnalyzeError, AnalyzedFace, Description, EmbeddingContract, Purpose,
//! };
//! use rostro_sdk::decode::decode;
//! use rostro_sdk::detector::{DETECTOR, detect};
//! use rostro_sdk::host::Host;
//! use rostro_sdk::policy::{Identity, Policy};
//! use rostro_sdk::recognizer::{RECOGNIZER, embed};
//! use rostro_sdk::vision::Vision;
//!
//! struct Pipeline;
//!
//! rostro_sdk::export!(Pipeline);
//!
//! impl Vision for Pipeline {
//!     fn describe() -> Description {
//!         Description {
//!             identity: Self::identity(),
//!             models: vec![DETECTOR, RECOGNIZER],
//!             contract: EmbeddingContract::arcface(RECOGNIZER),
//!         }
//!     }
//!
//!     fn analyze(
//!         host: &impl Host,
//!         image: Vec<u8>,
//!         purpose: Purpose,
//!     ) -> Result<Analysis, AnalyzeError> {
//!         let picture = decode(&image, host.max_pixels())?;
//!         let (width, height) = (picture.width, picture.height);
//!         let mut faces = Vec::new();
//!         for face in detect(host, &picture, host.thresholds().detection, purpose)? {
//!             // Skips faces outside the picture or with coinciding landmarks.
//!             let Some(bounds) = face.bounds.within(width, height) else { continue };
//!             let Some(aligned) = align(&picture, &face.landmarks) else { continue };
//!             let embedding = embed(host, RECOGNIZER, [&aligned])?.concat();
//!             faces.push(AnalyzedFace {
//!                 bounds,
//!                 score: face.score,
//!                 landmarks: face.landmarks.into(),
//!                 measures: Vec::new(),
//!                 track: None,
//!                 embedding,
//!             });
//!         }
//!         Ok(Analysis::new(width, height, faces))
//!     }
//! }
//!
//! // Keeps the default rules of review and matching.
//! impl Policy for Pipeline {
//!     fn identity() -> Identity {
//!         Identity::new("my-pipeline", "0.1.0")
//!     }
//! }
//! # assert_eq!(Pipeline::describe().identity.name, "my-pipeline");
//! # let host = rostro_sdk::testing::Fixed::default();
//! # let answer = Pipeline::analyze(&host, b"no image".to_vec(), Purpose::Recognize);
//! # assert!(matches!(answer, Err(AnalyzeError::Image(_))));
//! ```
//!
//! # A policy and its test
//!
//! [`testing::Fixed`] is a host with settings; [`testing`] has an example with a model.
//!
//! ```
//! use rostro_sdk::decide::Rule;
//! use rostro_sdk::geometry::Rect;
//! use rostro_sdk::host::Settings;
//! use rostro_sdk::policy::{Candidate, Decision, Face, Identity, Policy, Probe, assigned};
//! use rostro_sdk::testing::Fixed;
//!
//! struct Strict;
//!
//! rostro_sdk::export!(policy: Strict);
//!
//! // Leaves small faces unknown; `review` and `template` keep the default rules.
//! impl Policy for Strict {
//!     fn identity() -> Identity {
//!         Identity::new("strict", "0.1.0")
//!     }
//!
//!     fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
//!         let least: f32 = settings
//!             .setting("least-side")
//!             .and_then(|text| text.parse().ok())
//!             .unwrap_or(40.0);
//!         let decisions = assigned(probes, Rule::plain(settings.thresholds().similarity));
//!         let judged = decisions.into_iter().zip(probes).map(|(decision, probe)| {
//!             if probe.face.bounds.shorter_side() < least {
//!                 Decision::unknown("face_too_small")
//!             } else {
//!                 decision
//!             }
//!         });
//!         judged.collect()
//!     }
//! }
//!
//! let bounds = Rect { x1: 0.0, y1: 0.0, x2: 50.0, y2: 60.0 };
//! let face = Face { bounds, score: 0.9, landmarks: Vec::new(), measures: Vec::new() };
//! let candidates = vec![Candidate { id: "alice".to_owned(), similarity: 0.8 }];
//! let probe = Probe::new(face, candidates);
//!
//! let mut host = Fixed::default();
//! let known = Decision::Known { candidate: 0, confidence: 0.8 };
//! assert_eq!(Strict::decide(&host, &[probe.clone()]), [known]);
//! host.settings.insert("least-side".to_owned(), "64".to_owned());
//! assert_eq!(Strict::decide(&host, &[probe]), [Decision::unknown("face_too_small")]);
//! ```

pub mod analysis;
pub mod bindings;
pub mod component;
pub mod host;
pub mod policy;
pub mod testing;
pub mod track;
pub mod types;
pub mod vision;

mod detect;
mod image;

// Pipelines of other authors use these paths: keep them.
#[doc(inline)]
pub use self::detect::{detector, embed, faces, recognizer, scales, scrfd, tensor};
#[doc(inline)]
pub use self::image::{align, decode, distance, geometry, letterbox, region};
#[doc(inline)]
pub use self::policy::{decide, measure, review};

/// Former names of [`distance`], kept for existing pipelines.
pub mod afar {
    pub use crate::image::distance::simulate_distance as from_afar;
}

#[cfg(test)]
mod tests {
    /// Pipelines that were written against former names still compile.
    #[test]
    #[expect(unused_imports, reason = "the imports are the test")]
    fn former_names_are_valid() {
        use crate::afar::from_afar;
        use crate::analysis::Measure;
        use crate::detector::{is_insightfaces, longest_look, look};
        use crate::faces::{FoundFace, Seen, see};
        use crate::policy::{Face, Identity, Reason};
        use crate::review::{Best, Gates};
        use crate::scales::{LOOKS, Look};
    }
}
