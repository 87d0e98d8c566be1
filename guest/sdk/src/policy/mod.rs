//! The policy half of a pipeline: review of enrolment photos, templates, and matching.
//!
//! A policy sees no pixels and no gallery: only small data about faces, and the nearest people of
//! each. The crate's root has a short example with its test. The host checks the results of a
//! policy; a result that breaks a rule stated here fails the request.

use std::borrow::Cow;

use self::decide::{Rule, assign};
use self::review::best_face;
use crate::detect::embed::mean;
use crate::host::{Setting, Settings};
use crate::types::{Best, Gates};
pub use crate::types::{Face, Identity, Reason};

pub mod decide;
pub mod measure;
pub mod review;

/// A person of the gallery with a template near a face.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The person's id.
    pub id: String,
    /// Cosine similarity of the face's embedding and the person's nearest template, -1 to 1.
    pub similarity: f32,
}

/// A face and its candidates.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The face as vision reports it.
    pub face: Face,
    /// The nearest people, most similar first, each once: at most 8, and none if the gallery is
    /// empty. They may be dissimilar, because the host applies no threshold.
    pub candidates: Vec<Candidate>,
    /// Its track in the stream, if vision tracks.
    pub track: Option<u32>,
    /// Whether the embedding is of this frame. If not, it is the last one of the track, and the
    /// similarities are no new evidence.
    pub is_fresh: bool,
}

impl Probe {
    /// Creates the probe of a face outside a stream.
    #[must_use]
    pub fn new(face: Face, candidates: Vec<Candidate>) -> Self {
        Self {
            face,
            candidates,
            track: None,
            is_fresh: true,
        }
    }
}

/// The decision on a face, and what the caller sees of its candidates.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruling {
    /// Identity of the face.
    pub decision: Decision,
    /// Indices of the candidates that the answer may name, in its order. The host answers the first
    /// of them. A person who must not be named is left out here and in the decision.
    pub shown: Vec<usize>,
}

/// Something that a policy reports of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Stable code: 1 to 64 lower-case letters, digits and `_`.
    pub code: Cow<'static, str>,
    /// Index of the face that it is about.
    pub face: Option<usize>,
    /// A number that belongs to it, finite.
    pub value: Option<f32>,
    /// One sentence of at most 300 characters, without names of people: the host adds the identity
    /// of the face.
    pub message: Cow<'static, str>,
}

/// A policy's answer about a frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// One ruling for each face, in the order of the probes.
    pub rulings: Vec<Ruling>,
    /// At most 64 events.
    pub events: Vec<Event>,
    /// The state for the next frame of the stream, at most 256 KiB unless the operator's limit
    /// `state-kib` differs. None keeps the present one.
    pub state: Option<Vec<u8>>,
}

impl Outcome {
    /// Creates an outcome that shows all candidates of the probes.
    #[must_use]
    pub fn new(decisions: Vec<Decision>, probes: &[Probe]) -> Self {
        let counts = probes.iter().map(|probe| probe.candidates.len());
        let counts = counts.chain(std::iter::repeat(0));
        let ruling = |(decision, count)| Ruling {
            decision,
            shown: (0..count).collect(),
        };
        Self {
            rulings: decisions.into_iter().zip(counts).map(ruling).collect(),
            ..Self::default()
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

/// Identity of a face.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// One of its candidates.
    Known {
        /// Its index in [`Probe::candidates`].
        candidate: usize,
        /// The policy's confidence, 0 to 1: the answer's `confidence`.
        confidence: f32,
    },
    /// Unknown, with a stable code for the reason: 1 to 64 lower-case letters, digits and `_`.
    /// [`assigned`] has four; others are your own.
    Unknown(Cow<'static, str>),
}

impl Decision {
    /// Creates an unknown decision with this code.
    #[must_use]
    pub const fn unknown(code: &'static str) -> Self {
        Self::Unknown(Cow::Borrowed(code))
    }
}

/// Result of the review of an enrolment photo.
#[derive(Clone, Debug, PartialEq)]
pub enum Review {
    /// Enrol the face at this index, which must have an embedding.
    Accept(usize),
    /// Reject the photo for all of these reasons: 1 to 32.
    Reject(Vec<Reason>),
}

/// Rules for review, templates and matching. Pure functions of small data: equal arguments and
/// settings give equal results. Only the name is required; the other methods default to the rules
/// of the default pipeline.
///
/// None of the methods can fail. [`check_settings`](Policy::check_settings) is the place to refuse
/// invalid settings, because it runs before the component serves.
pub trait Policy: 'static {
    /// Returns name and version.
    fn identity() -> Identity;

    /// Returns the settings that it knows. The host treats all others of the operator as misspelt.
    ///
    /// The default returns none.
    fn settings() -> Vec<Setting> {
        Vec::new()
    }

    /// Version of the state that it keeps of a stream. The host drops states of another version.
    const STATE_VERSION: u32 = 0;

    /// [Refuses](crate::host::refused) values of settings that follow their type and still cannot be
    /// used. Called while the component describes itself.
    ///
    /// The default refuses none.
    fn check_settings(_settings: &impl Settings) {}

    /// Chooses the face of an enrolment photo, or returns the reasons for its rejection. `faces`
    /// are in order of box area, largest first; possibly empty.
    ///
    /// The default takes [`best_face`], or rejects the photo as `no_face` or `low_detection_score`.
    /// It also applies the [`Gates`] of the host's review level.
    fn review(settings: &impl Settings, faces: &[Face]) -> Review {
        let scores: Vec<f32> = faces.iter().map(|face| face.score).collect();
        let threshold = settings.thresholds().detection;
        let faults = |chosen| {
            Gates::of(settings.review_level())
                .map(|gates| gates.faults(faces, chosen, threshold))
                .unwrap_or_default()
        };
        let reasons = match best_face(&scores, threshold) {
            Best::Face(index) => match faults(index) {
                faults if faults.is_empty() => return Review::Accept(index),
                faults => faults,
            },
            Best::NoFace => vec![Reason::new(
                "no_face",
                "No face was found; take the photo from nearer, with the whole face in it.",
            )],
            Best::LowScore {
                index,
                score,
                threshold,
            } => {
                let advice = "The face is not clear enough; take the photo from nearer, in better light, facing the camera.";
                let mut reasons =
                    vec![Reason::new("low_detection_score", advice).measured(score, threshold)];
                reasons.extend(faults(index));
                reasons
            }
        };
        Review::Reject(reasons)
    }

    /// Makes a person's templates from their samples. Samples are raw embeddings, at least one, all
    /// of length D. Templates are 1 to 16 vectors of length D, finite and not all zero; they need
    /// not be normalised. The nearest template counts.
    ///
    /// The default returns one, the [`mean`] of the samples.
    fn template(_settings: &impl Settings, samples: &[Vec<f32>]) -> Vec<Vec<f32>> {
        vec![mean(samples)]
    }

    /// Identifies the faces of a frame: one decision a face, in the same order, and no person for
    /// two faces. Faces are in order of box area, largest first.
    ///
    /// The default is [`assigned`] with [`Rule::against_rivals`] and the operating point's
    /// threshold.
    fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
        assigned(
            probes,
            Rule::against_rivals(settings.thresholds().similarity),
        )
    }

    /// Decides on a frame, shows or hides candidates, and reports events. `state` is what the last
    /// frame's [`Outcome::state`] was: empty for the first frame of a stream, and after the host
    /// dropped it. None outside a stream.
    ///
    /// The default decides by [`decide`](Self::decide) and shows all candidates.
    fn decide_frame(settings: &impl Settings, probes: &[Probe], _state: Option<&[u8]>) -> Outcome {
        Outcome::new(Self::decide(settings, probes), probes)
    }
}

/// Assigns people to faces with [`decide::assign`]. The confidence is the similarity, at least 0.
///
/// Unknown faces have one of the codes `no_candidates`, `below_threshold`, `ambiguous` and
/// `already_matched`: the cases of [`decide::Decision`].
#[must_use]
pub fn assigned(probes: &[Probe], rule: Rule) -> Vec<Decision> {
    let faces: Vec<Vec<decide::Candidate<'_>>> = probes.iter().map(candidates).collect();
    let answer =
        |(decision, candidates): (decide::Decision, &Vec<decide::Candidate<'_>>)| match decision {
            decide::Decision::Known(candidate) => {
                let confidence = candidates
                    .get(candidate)
                    .map_or(0.0, |candidate| candidate.similarity.clamp(0.0, 1.0));
                Decision::Known {
                    candidate,
                    confidence,
                }
            }
            decide::Decision::NoCandidates => Decision::unknown("no_candidates"),
            decide::Decision::BelowThreshold => Decision::unknown("below_threshold"),
            decide::Decision::Ambiguous => Decision::unknown("ambiguous"),
            decide::Decision::AlreadyMatched => Decision::unknown("already_matched"),
        };
    assign(&faces, rule)
        .into_iter()
        .zip(&faces)
        .map(answer)
        .collect()
}

fn candidates(probe: &Probe) -> Vec<decide::Candidate<'_>> {
    probe
        .candidates
        .iter()
        .map(|candidate| decide::Candidate {
            id: &candidate.id,
            similarity: candidate.similarity,
        })
        .collect()
}
