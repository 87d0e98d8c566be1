//! A policy of its own, to go with any pipeline's vision: a face is named only if its best candidate leads the next one by a margin.
//!
//! The setting `margin` is a difference of cosines from 0 to 2, by default 0.1. Faces that two people resemble alike are unknown, with the
//! code `ambiguous`.

use rostro_sdk::decide::Rule;
use rostro_sdk::host::Settings;
use rostro_sdk::policy::{Decision, Identity, Policy, Probe, assigned};

/// The least lead, unless the operator says otherwise.
const MARGIN: f32 = 0.1;

/// The component.
#[derive(Debug)]
pub struct MarginPolicy;

rostro_sdk::export!(policy: MarginPolicy);

impl Policy for MarginPolicy {
    fn identity() -> Identity {
        Identity::new("margin-policy", env!("CARGO_PKG_VERSION"))
    }

    fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
        let margin = settings.setting("margin").and_then(|text| text.parse().ok()).unwrap_or(MARGIN);
        let decisions = assigned(probes, Rule::plain(settings.thresholds().similarity));
        decisions.into_iter().zip(probes).map(|(decision, probe)| clear(decision, probe, margin)).collect()
    }
}

/// The decision, unless another candidate of the face is nearly as similar.
fn clear(decision: Decision, probe: &Probe, margin: f32) -> Decision {
    let Decision::Known { candidate, confidence } = decision else { return decision };
    let similarity = |index: usize| probe.candidates.get(index).map_or(-1.0, |candidate| candidate.similarity);
    match similarity(candidate) - similarity(candidate + 1) < margin {
        true => Decision::unknown("ambiguous"),
        false => Decision::Known { candidate, confidence },
    }
}
