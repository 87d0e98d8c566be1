//! The half of a pipeline that decides: which face of an enrolment photo to enrol, what stands for
//! a person, and who is who in a frame.
//!
//! A policy sees no pixels and no gallery: small data about faces, and the nearest people of each.
//! The crate's root has one of a few lines with its test. The host checks what a policy returns;
//! what breaks a rule stated here fails the request.

use std::borrow::Cow;

use crate::analysis::Measure;
use crate::decide::{self, Rule, assign};
use crate::embed::mean;
use crate::geometry::{Point, Rect};
use crate::host::Settings;
use crate::review::{Best, Gates, best_face};

/// Who a component says it is, for answers and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// 1 to 64 lower-case letters, digits and `-`.
    pub name: Cow<'static, str>,
    /// A semantic version, at most 64 letters: `0.1.0`.
    pub version: Cow<'static, str>,
}

impl Identity {
    /// A component of this name and version: `Identity::new(env!("CARGO_PKG_NAME"),
    /// env!("CARGO_PKG_VERSION"))`.
    #[must_use]
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            version: Cow::Borrowed(version),
        }
    }
}

/// What a policy sees of a face.
#[derive(Clone, Debug, PartialEq)]
pub struct Face {
    /// Its box in pixels of the upright image, not empty and within the image.
    pub bounds: Rect,
    /// The detector's confidence, 0 to 1.
    pub score: f32,
    /// Five landmarks in pixels of the upright image, in the order of
    /// [`Landmarks`](crate::geometry::Landmarks), or none if the detector knows none.
    pub landmarks: Vec<Point>,
    /// What vision measured of it, at most 32; [`Self::measure`] finds one by its name.
    pub measures: Vec<Measure>,
}

impl Face {
    /// What vision measured under this name, if it did.
    #[must_use]
    pub fn measure(&self, name: &str) -> Option<f32> {
        self.measures
            .iter()
            .find(|measure| measure.name == name)
            .map(|measure| measure.value)
    }
}

/// A person of the gallery whose template is near to a face.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The person's id.
    pub id: String,
    /// Cosine similarity of the face's embedding and the person's nearest template, -1 to 1.
    pub similarity: f32,
}

/// A face and the people whom it may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What vision says of the face.
    pub face: Face,
    /// The nearest people, most similar first, each once: at most 8, and none if nobody is
    /// enrolled. They are the nearest whether or not they are near.
    pub candidates: Vec<Candidate>,
}

/// Who a face is.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// One of its candidates.
    Known {
        /// Its index in [`Probe::candidates`].
        candidate: usize,
        /// How sure the policy is, 0 to 1: the answer's `confidence`.
        confidence: f32,
    },
    /// Nobody known, with a stable code that says why: 1 to 64 lower-case letters, digits and `_`.
    /// [`assigned`] has four; others are your own.
    Unknown(Cow<'static, str>),
}

impl Decision {
    /// Nobody known, for this reason.
    #[must_use]
    pub const fn unknown(code: &'static str) -> Self {
        Self::Unknown(Cow::Borrowed(code))
    }
}

/// Why a photo is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// Stable, 1 to 64 lower-case letters, digits and `_`: `face_too_small`.
    pub code: Cow<'static, str>,
    /// One sentence for people that says what to do about it, on one line of 1 to 500 bytes.
    pub message: Cow<'static, str>,
    /// What was measured, and the limit that it misses, if it is a number: both finite, in the
    /// measure's unit.
    pub measured: Option<(f32, f32)>,
}

impl Reason {
    /// A reason without numbers.
    #[must_use]
    pub const fn new(code: &'static str, message: &'static str) -> Self {
        Self {
            code: Cow::Borrowed(code),
            message: Cow::Borrowed(message),
            measured: None,
        }
    }

    /// The same, with what was measured and the limit that it misses.
    #[must_use]
    pub const fn measured(mut self, value: f32, limit: f32) -> Self {
        self.measured = Some((value, limit));
        self
    }
}

/// What becomes of an enrolment photo.
#[derive(Clone, Debug, PartialEq)]
pub enum Review {
    /// Enrol the face at this index, which must have an embedding.
    Accept(usize),
    /// Enrol nobody, for all of these reasons: 1 to 32.
    Reject(Vec<Reason>),
}

/// The rule of who is who. Pure functions of small data: the same arguments and settings give the
/// same answer. All but the name may be left as they are: they are the default pipeline's rules.
///
/// None of them can fail. [`check_settings`](Policy::check_settings) is the place to refuse a
/// setting that is not understood: it is called before the component serves.
pub trait Policy: 'static {
    /// Who this is.
    fn identity() -> Identity;

    /// Reads every setting that it knows, and [refuses](crate::host::refused) values that it cannot
    /// use: the place to do so, because the other functions cannot fail. Called while the component
    /// describes itself: the host learns from it which settings there are, and takes any other of
    /// the operator's for misspelt.
    ///
    /// By default none.
    fn check_settings(_settings: &impl Settings) {}

    /// Chooses the face of an enrolment photo, or says why there is none to enrol. `faces` are in
    /// order of box area, largest first; possibly none.
    ///
    /// By default it is [`best_face`]'s, refused as `no_face` or `low_detection_score`, and by the
    /// [`Gates`] of the level that is asked for.
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

    /// Makes of a person's samples (raw embeddings, at least one, all of one length D) their
    /// templates, the vectors that are matched: 1 to 16, of the same length D, finite and not all
    /// zero. They need not be normalised. The nearest of them counts.
    ///
    /// By default it is one, [`mean`] of the samples.
    fn template(_settings: &impl Settings, samples: &[Vec<f32>]) -> Vec<Vec<f32>> {
        vec![mean(samples)]
    }

    /// Decides who each face of a frame is: one decision a face, in the same order, and no person
    /// for two faces. The faces are in order of box area, largest first.
    ///
    /// By default it is [`assigned`] by [`Rule::against_rivals`] and the operating point's
    /// threshold.
    fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
        assigned(
            probes,
            Rule::against_rivals(settings.thresholds().similarity),
        )
    }
}

/// Gives each face the person who is most like it, as [`decide::assign`] does; the confidence is
/// the similarity, no less than 0.
///
/// Whoever is nobody is so with one of the codes `no_candidates`, `below_threshold`, `ambiguous`
/// and `already_matched`: the cases of [`decide::Decision`].
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
