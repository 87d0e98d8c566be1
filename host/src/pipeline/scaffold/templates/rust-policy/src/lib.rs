//! A policy: the default rules, but more similarity is asked of small faces.

use rostro_sdk::decide::Rule;
use rostro_sdk::host::Settings;
use rostro_sdk::policy::{Decision, Identity, Policy, Probe, assigned};

/// The shorter side of a small face's box in pixels, unless the operator sets `small-face`.
const SMALL: f32 = 40.0;

/// How much more similar a small face must be.
const SURCHARGE: f32 = 0.05;

/// The component.
#[derive(Debug)]
pub struct MyPolicy;

rostro_sdk::export!(policy: MyPolicy);

/// What is not written here, `review` and `template`, is as in the default pipeline.
impl Policy for MyPolicy {
    fn identity() -> Identity {
        Identity::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
    }

    fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
        let small = settings.setting("small-face").and_then(|text| text.parse().ok()).unwrap_or(SMALL);
        let threshold = settings.thresholds().similarity;
        let decisions = assigned(probes, Rule::plain(threshold));
        let checked = decisions.into_iter().zip(probes).map(|(decision, probe)| match decision {
            Decision::Known { confidence, .. } if probe.face.bounds.shorter_side() < small && confidence <= threshold + SURCHARGE => {
                Decision::unknown("too_small_to_be_sure")
            }
            other => other,
        });
        checked.collect()
    }
}

#[cfg(test)]
mod tests {
    use rostro_sdk::geometry::Rect;
    use rostro_sdk::policy::{Candidate, Face};
    use rostro_sdk::testing::Fixed;

    use super::*;

    fn probe(size: f32, similarity: f32) -> Probe {
        let bounds = Rect { x1: 0.0, y1: 0.0, x2: size, y2: size };
        let face = Face { bounds, score: 0.9, landmarks: Vec::new(), measures: Vec::new() };
        Probe { face, candidates: vec![Candidate { id: "alice".to_owned(), similarity }] }
    }

    #[test]
    fn more_is_asked_of_small_faces() {
        let settings = Fixed::default();
        let near = settings.thresholds().similarity + 0.01;
        let known = Decision::Known { candidate: 0, confidence: near };
        assert_eq!(MyPolicy::decide(&settings, &[probe(100.0, near)]), [known]);
        assert_eq!(MyPolicy::decide(&settings, &[probe(20.0, near)]), [Decision::unknown("too_small_to_be_sure")]);
        let sure = Decision::Known { candidate: 0, confidence: near + 0.2 };
        assert_eq!(MyPolicy::decide(&settings, &[probe(20.0, near + 0.2)]), [sure]);
    }
}
