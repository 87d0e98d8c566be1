//! What the author of a Rostro pipeline builds on.
//!
//! A pipeline is a type that is [`Vision`](vision::Vision) and [`Policy`](policy::Policy), or
//! [`Policy`](policy::Policy) alone, and [`export!`] makes a component of it. Both are written
//! against the traits of [`host`], which a component answers with what it imports, and a test
//! natively: `cargo test` needs no WebAssembly.
//!
//! # Building blocks
//!
//! The default pipeline (`guest/insightface` in Rostro's repository) puts these together and has
//! nothing else. Most are pure functions on plain slices; those that run a model take the
//! [host](host::Host). In the order in which a picture goes through them:
//!
//! | step | function | from | to |
//! | --- | --- | --- | --- |
//! | decode | [`decode::decode`], [`decode::decode_within`] | JPEG, PNG, WebP, BMP, GIF, TIFF | upright [`Rgb`](decode::Rgb), height × width × 3 bytes |
//! | letterbox | [`letterbox::Letterbox`] | a picture | 1×3×H×W tensor, picture in the upper left |
//! | detect | [`scrfd::detect`] | outputs of SCRFD | [`Detection`](scrfd::Detection)s in pixels of the picture |
//! | one look | [`detector::look`] | a picture, a letterbox | letterbox, model and SCRFD together |
//! | choose looks | [`scales::Look`] | what a look found | the size of the next look, if it is worth its time |
//! | all looks | [`detector::detect`] | a picture | all of the above after decoding, as the default pipeline does it |
//! | align | [`align::align`] | a picture, five landmarks | [`AlignedFace`](align::AlignedFace), 112 × 112 × 3 bytes |
//! | all before embedding | [`faces::see`], [`faces::crop`] | an encoded picture | [`FoundFace`](faces::FoundFace)s, as the default pipeline has them |
//! | another model | [`region::tensor`] | a box of a picture | 1×3×H×W tensor |
//! | measure | [`measure::Measures::of`] | box, landmarks, aligned face | size, yaw, roll, brightness, sharpness |
//! | degrade | [`afar::from_afar`] | an aligned face | two, as a distant camera would give them |
//! | embed | [`recognizer::embed`] | N aligned faces | N raw embeddings of D numbers |
//! | embed to enrol | [`faces::embed_near_and_far`] | found faces | raw embeddings, the best also as from afar |
//! | average | [`embed::mean`], [`embed::near_and_far`], [`embed::normalized`] | embeddings of D numbers | one of D numbers |
//! | compare | [`embed::cosine`] | two embeddings | -1 to 1 |
//! | review | [`review::best_face`] | detection scores | the face to enrol |
//! | assign | [`policy::assigned`], [`decide::assign`] | probes with their candidates | who each face is, each person once |
//!
//! [`faces`], [`detector`] and [`recognizer`] each put some of them together; what was seen is said
//! in the types of [`analysis`].
//!
//! # Conventions
//!
//! - A *picture* is upright, as its EXIF orientation says, and 8-bit RGB. Coordinates are in its
//!   pixels: x to the right, y down, the origin in the upper left. Boxes need not be whole pixels.
//! - A *tensor* is 32-bit floats, N×3×H×W: image by image, channel by channel, row by row.
//!   [`tensor::Normalization`] says how bytes become numbers. Functions take sizes as width,
//!   height; dimensions are written as the models have them, height before width.
//! - An *anchor* is a place in the detector's input for which the network gives a score, a box and
//!   *landmarks*; a *detection* is what is left of them in pixels of the picture. A *score* is the
//!   detector's confidence, 0 to 1.
//! - An *embedding* is the recogniser's output for one face, raw: not normalised. D is its length,
//!   512 in the packs that come with Rostro. The host compares embeddings by cosine similarity, -1
//!   to 1, so their lengths matter only where they are averaged.
//! - A *template* is a vector that stands for a person, made of the embeddings of enrolment photos
//!   (*samples*). The *gallery*, which only the host has, is everybody's templates.
//! - A *probe* is a face of a frame together with its *candidates*: the nearest people of the
//!   gallery.
//!
//! # A pipeline
//!
//! ```
//! use rostro_sdk::align::align;
//! use rostro_sdk::analysis::{Analysis, AnalyzeError, AnalyzedFace, Description, EmbeddingContract, Purpose};
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
//!         Description { identity: Self::identity(), models: vec![DETECTOR, RECOGNIZER], contract: EmbeddingContract::arcface(RECOGNIZER) }
//!     }
//!
//!     fn analyze(host: &impl Host, image: Vec<u8>, purpose: Purpose) -> Result<Analysis, AnalyzeError> {
//!         let picture = decode(&image, host.max_pixels())?;
//!         let (width, height) = (picture.width, picture.height);
//!         let mut faces = Vec::new();
//!         for face in detect(host, &picture, host.thresholds().detection, purpose)? {
//!             // What lies outside the picture, or has landmarks in one point, is no face.
//!             let Some(bounds) = face.bounds.within(width, height) else { continue };
//!             let Some(aligned) = align(&picture, &face.landmarks) else { continue };
//!             let embedding = embed(host, RECOGNIZER, [&aligned])?.concat();
//!             faces.push(AnalyzedFace { bounds, score: face.score, landmarks: face.landmarks.into(), measures: Vec::new(), embedding });
//!         }
//!         Ok(Analysis::new(width, height, faces))
//!     }
//! }
//!
//! // The default rules of who is who.
//! impl Policy for Pipeline {
//!     fn identity() -> Identity {
//!         Identity::new("my-pipeline", "0.1.0")
//!     }
//! }
//! # assert_eq!(Pipeline::describe().identity.name, "my-pipeline");
//! # let answer = Pipeline::analyze(&rostro_sdk::testing::Fixed::default(), b"no image".to_vec(), Purpose::Recognize);
//! # assert!(matches!(answer, Err(AnalyzeError::Image(_))));
//! ```
//!
//! # A policy and its test
//!
//! [`testing::Fixed`] is a host with settings; [`testing`] shows one with a model.
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
//! // Small faces are nobody; `review` and `template` stay the default pipeline's.
//! impl Policy for Strict {
//!     fn identity() -> Identity {
//!         Identity::new("strict", "0.1.0")
//!     }
//!
//!     fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
//!         let least: f32 = settings.setting("least-side").and_then(|text| text.parse().ok()).unwrap_or(40.0);
//!         let decisions = assigned(probes, Rule::plain(settings.thresholds().similarity));
//!         let judged = decisions.into_iter().zip(probes).map(|(decision, probe)| {
//!             if probe.face.bounds.shorter_side() < least { Decision::unknown("face_too_small") } else { decision }
//!         });
//!         judged.collect()
//!     }
//! }
//!
//! let bounds = Rect { x1: 0.0, y1: 0.0, x2: 50.0, y2: 60.0 };
//! let face = Face { bounds, score: 0.9, landmarks: Vec::new(), measures: Vec::new() };
//! let probe = Probe { face, candidates: vec![Candidate { id: "alice".to_owned(), similarity: 0.8 }] };
//!
//! let mut host = Fixed::default();
//! assert_eq!(Strict::decide(&host, &[probe.clone()]), [Decision::Known { candidate: 0, confidence: 0.8 }]);
//! host.settings.insert("least-side".to_owned(), "64".to_owned());
//! assert_eq!(Strict::decide(&host, &[probe]), [Decision::unknown("face_too_small")]);
//! ```

pub mod afar;
pub mod align;
pub mod analysis;
pub mod bindings;
pub mod component;
pub mod decide;
pub mod decode;
pub mod detector;
pub mod embed;
pub mod faces;
pub mod geometry;
pub mod host;
pub mod letterbox;
pub mod measure;
pub mod policy;
pub mod recognizer;
pub mod region;
mod resize;
pub mod review;
pub mod scales;
pub mod scrfd;
pub mod tensor;
pub mod testing;
pub mod vision;
