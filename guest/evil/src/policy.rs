//! The policy, honest or not.

use rostro_sdk::embed::mean;

use crate::modes::SETTING;
use crate::{Evil, identity, mode, spin};
use rostro_sdk::bindings::exports::rostro::pipeline::policy::{
    Decision, Guest, Match, Probe, Reason, ReviewOutcome,
};
use rostro_sdk::bindings::rostro::pipeline::settings;
use rostro_sdk::bindings::rostro::pipeline::types::{Face, Identity};

impl Guest for Evil {
    fn describe() -> Identity {
        if settings::get(SETTING).as_deref() == Some("policy-spin") {
            spin();
        }
        identity()
    }

    fn review(faces: Vec<Face>) -> ReviewOutcome {
        match mode().as_str() {
            "review-spin" => spin(),
            "review-index" => ReviewOutcome::Accept(u32::MAX),
            "review-reasons" => {
                ReviewOutcome::Reject((0..100_000).map(|_| reason("Too many of these.")).collect())
            }
            "review-text" => ReviewOutcome::Reject(vec![reason(&"m".repeat(10_000_000))]),
            _ if faces.is_empty() => ReviewOutcome::Reject(vec![reason("No face was found.")]),
            _ => ReviewOutcome::Accept(0),
        }
    }

    fn template(samples: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        let mut template = mean(&samples);
        match mode().as_str() {
            "template-spin" => spin(),
            "template-empty" => return Vec::new(),
            "template-many" => return vec![template; 1000],
            "template-dimension" => template.push(0.5),
            "template-nan" => template.fill(f32::NAN),
            _ => {}
        }
        vec![template]
    }

    fn decide(probes: Vec<Probe>) -> Vec<Decision> {
        let known = |candidate, confidence| {
            Decision::Known(Match {
                candidate,
                confidence,
            })
        };
        match mode().as_str() {
            "decide-spin" => spin(),
            "decide-panic" => trigger_panic(),
            "decide-few" => Vec::new(),
            "decide-many" => probes
                .iter()
                .map(honest)
                .chain([unknown("no_candidates")])
                .collect(),
            "decide-index" => probes.iter().map(|_| known(u32::MAX, 0.5)).collect(),
            "decide-nan" => probes.iter().map(|_| known(0, f32::NAN)).collect(),
            "decide-text" => probes
                .iter()
                .map(|_| unknown(&"m".repeat(10_000_000)))
                .collect(),
            "decide-name" => probes
                .iter()
                .map(|_| unknown("no\n\u{1b}[31mcandidates"))
                .collect(),
            _ => probes.iter().map(honest).collect(),
        }
    }
}

#[expect(clippy::panic, reason = "the mode panics")]
fn trigger_panic() -> ! {
    panic!("evil policy\npanics")
}

fn honest(probe: &Probe) -> Decision {
    match probe.candidates.first() {
        None => unknown("no_candidates"),
        Some(nearest) if nearest.similarity > settings::get_thresholds().similarity => {
            Decision::Known(Match {
                candidate: 0,
                confidence: nearest.similarity.clamp(0.0, 1.0),
            })
        }
        Some(_) => unknown("below_threshold"),
    }
}

fn unknown(code: &str) -> Decision {
    Decision::Unknown(code.to_owned())
}

fn reason(message: &str) -> Reason {
    Reason {
        code: "evil".to_owned(),
        message: message.to_owned(),
        value: None,
        limit: None,
    }
}
