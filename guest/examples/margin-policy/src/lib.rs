//! A policy of its own, to go with any pipeline's vision: a face is named only if its best candidate leads the next one by a margin.
//!
//! The setting `margin` is a difference of cosines from 0 to 2, by default 0.1. Faces that two people resemble alike are unknown, with the
//! code `ambiguous`.

mod bindings;

use crate::bindings::exports::rostro::pipeline::policy::{Decision, Guest, Match, Probe, Reason, ReviewOutcome};
use crate::bindings::rostro::pipeline::settings;
use crate::bindings::rostro::pipeline::types::{Face, Identity};
use rostro_sdk::decide::{self, Candidate, Rule, assign};
use rostro_sdk::embed::mean;
use rostro_sdk::review::{Review, best_face};

/// The least lead, unless the operator says otherwise.
const MARGIN: f32 = 0.1;

/// The component.
#[derive(Debug)]
pub struct MarginPolicy;

impl Guest for MarginPolicy {
    fn describe() -> Identity {
        Identity { name: "margin-policy".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    fn review(faces: Vec<Face>) -> ReviewOutcome {
        let scores: Vec<f32> = faces.iter().map(|face| face.score).collect();
        match best_face(&scores, settings::get_thresholds().detection) {
            Review::Accept(index) => ReviewOutcome::Accept(u32::try_from(index).unwrap_or(u32::MAX)),
            Review::NoFace => refuse("no_face", "No face was found.", None),
            Review::LowScore { score, threshold } => {
                refuse("low_detection_score", "The face is not clear enough.", Some((score, threshold)))
            }
        }
    }

    fn template(samples: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        vec![mean(&samples)]
    }

    fn decide(probes: Vec<Probe>) -> Vec<Decision> {
        let margin = settings::get("margin").and_then(|text| text.parse().ok()).unwrap_or(MARGIN);
        let faces: Vec<Vec<Candidate<'_>>> = probes.iter().map(candidates).collect();
        let decisions = assign(&faces, Rule::plain(settings::get_thresholds().similarity));
        decisions.into_iter().zip(&faces).map(|(decision, candidates)| answer(decision, candidates, margin)).collect()
    }
}

fn candidates(probe: &Probe) -> Vec<Candidate<'_>> {
    probe.candidates.iter().map(|candidate| Candidate { id: &candidate.id, similarity: candidate.similarity }).collect()
}

fn answer(decision: decide::Decision, candidates: &[Candidate<'_>], margin: f32) -> Decision {
    let unknown = |reason: &str| Decision::Unknown(reason.to_owned());
    match decision {
        decide::Decision::Known(index) => {
            let similarity = |index: usize| candidates.get(index).map(|candidate| candidate.similarity);
            let (own, next) = (similarity(index).unwrap_or(-1.0), similarity(index + 1).unwrap_or(-1.0));
            if own - next < margin {
                return unknown("ambiguous");
            }
            Decision::Known(Match { candidate: u32::try_from(index).unwrap_or(u32::MAX), confidence: own.clamp(0.0, 1.0) })
        }
        decide::Decision::NoCandidates => unknown("no_candidates"),
        decide::Decision::BelowThreshold => unknown("below_threshold"),
        decide::Decision::Ambiguous => unknown("ambiguous"),
        decide::Decision::AlreadyMatched => unknown("already_matched"),
    }
}

fn refuse(code: &str, message: &str, measured: Option<(f32, f32)>) -> ReviewOutcome {
    let (value, limit) = measured.unzip();
    ReviewOutcome::Reject(vec![Reason { code: code.to_owned(), message: message.to_owned(), value, limit }])
}
