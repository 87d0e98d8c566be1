//! Who is who.

use crate::bindings::exports::rostro::pipeline::policy::{Decision, Guest, Match, Probe, Reason, ReviewOutcome};
use crate::bindings::rostro::pipeline::settings;
use crate::bindings::rostro::pipeline::types::{Face, Identity};
use rostro_sdk::decide::{self, Candidate, Rule, assign};
use rostro_sdk::embed::mean;
use rostro_sdk::review::{Review, best_face};

use crate::Insightface;
use crate::component::identity;

impl Guest for Insightface {
    fn describe() -> Identity {
        identity()
    }

    fn review(faces: Vec<Face>) -> ReviewOutcome {
        let scores: Vec<f32> = faces.iter().map(|face| face.score).collect();
        match best_face(&scores, settings::get_thresholds().detection) {
            Review::Accept(index) => ReviewOutcome::Accept(u32::try_from(index).unwrap_or(u32::MAX)),
            Review::NoFace => reject("no_face", "No face was found; take the photo from nearer, with the whole face in it.", None),
            Review::LowScore { score, threshold } => {
                let advice = "The face is not clear enough; take the photo from nearer, in better light, facing the camera.";
                reject("low_detection_score", advice, Some((score, threshold)))
            }
        }
    }

    fn template(samples: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        vec![mean(&samples)]
    }

    fn decide(probes: Vec<Probe>) -> Vec<Decision> {
        let faces: Vec<Vec<Candidate<'_>>> = probes.iter().map(candidates).collect();
        let threshold = settings::get_thresholds().similarity;
        // A setting that is not understood stopped the component when it was staged.
        let rule = rule(threshold).unwrap_or(Rule::against_rivals(threshold));
        let decisions = assign(&faces, rule);
        decisions.into_iter().zip(&faces).map(|(decision, candidates)| answer(decision, candidates)).collect()
    }
}

/// When a face is similar enough to a person, as the operator's settings say.
pub(crate) fn rule(threshold: f32) -> Result<Rule, String> {
    match settings::get("rivals").as_deref() {
        None | Some("on") => Ok(Rule::against_rivals(threshold)),
        Some("off") => Ok(Rule::plain(threshold)),
        Some(other) => Err(format!("the setting rivals is `{other}`; it must be `on` or `off`")),
    }
}

fn candidates(probe: &Probe) -> Vec<Candidate<'_>> {
    probe.candidates.iter().map(|candidate| Candidate { id: &candidate.id, similarity: candidate.similarity }).collect()
}

fn answer(decision: decide::Decision, candidates: &[Candidate<'_>]) -> Decision {
    let unknown = |reason: &str| Decision::Unknown(reason.to_owned());
    match decision {
        decide::Decision::Known(index) => {
            let confidence = candidates.get(index).map_or(0.0, |candidate| candidate.similarity.clamp(0.0, 1.0));
            Decision::Known(Match { candidate: u32::try_from(index).unwrap_or(u32::MAX), confidence })
        }
        decide::Decision::NoCandidates => unknown("no_candidates"),
        decide::Decision::BelowThreshold => unknown("below_threshold"),
        decide::Decision::Ambiguous => unknown("ambiguous"),
        decide::Decision::AlreadyMatched => unknown("already_matched"),
    }
}

fn reject(code: &str, message: &str, measured: Option<(f32, f32)>) -> ReviewOutcome {
    let (value, limit) = measured.unzip();
    ReviewOutcome::Reject(vec![Reason { code: code.to_owned(), message: message.to_owned(), value, limit }])
}
