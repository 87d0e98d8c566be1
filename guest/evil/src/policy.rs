//! The policy, honest or not.

use rostro_sdk::embed::mean;

use crate::{Evil, mode, spin};
use rostro_sdk::bindings::exports::rostro::pipeline::decide::{
    self, Decision, Event, Match, Outcome, Probe, Ruling,
};
use rostro_sdk::bindings::exports::rostro::pipeline::review::{self, Reason, ReviewOutcome};
use rostro_sdk::bindings::exports::rostro::pipeline::template;
use rostro_sdk::bindings::rostro::pipeline::settings;
use rostro_sdk::bindings::rostro::pipeline::types::{Face, RequestContext};

/// Size of a state beyond every limit, in bytes.
const HUGE_STATE: usize = 300 << 20;

impl review::Guest for Evil {
    fn review(faces: Vec<Face>, _context: RequestContext) -> ReviewOutcome {
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
}

impl template::Guest for Evil {
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
}

impl decide::Guest for Evil {
    fn decide(probes: Vec<Probe>, _context: RequestContext, _state: Option<Vec<u8>>) -> Outcome {
        let known = |candidate, confidence| {
            Decision::Known(Match {
                candidate,
                confidence,
            })
        };
        let decisions: Vec<Decision> = match mode().as_str() {
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
        };
        let mut outcome = Outcome {
            rulings: decisions.into_iter().map(ruling).collect(),
            events: Vec::new(),
            state: None,
        };
        match mode().as_str() {
            "decide-state" => outcome.state = Some(vec![1; HUGE_STATE]),
            "decide-events" => outcome.events = vec![event(0.5); 100_000],
            "decide-event-nan" => outcome.events = vec![event(f32::NAN)],
            "decide-shown" => {
                for ruling in &mut outcome.rulings {
                    ruling.candidates = vec![u32::MAX];
                }
            }
            _ => {}
        }
        outcome
    }
}

fn ruling(decision: Decision) -> Ruling {
    Ruling {
        decision,
        candidates: Vec::new(),
    }
}

fn event(value: f32) -> Event {
    Event {
        code: "evil".to_owned(),
        face: None,
        value: Some(value),
        message: "Something evil happened.".to_owned(),
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
