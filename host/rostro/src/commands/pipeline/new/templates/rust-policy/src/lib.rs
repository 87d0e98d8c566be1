//! A policy with the default rules, which requires more similarity of small faces.

use rostro_sdk::decide::Rule;
use rostro_sdk::host::{Setting, SettingKind, Settings};
use rostro_sdk::policy::{Decision, Identity, Policy, Probe, assigned};

/// Shorter side of a small face's box in pixels, unless the operator sets `small-face`.
const SMALL: f32 = 40.0;

/// Similarity that a small face needs in addition to the threshold.
const SURCHARGE: f32 = 0.05;

/// The component.
#[derive(Debug)]
pub struct MyPolicy;

rostro_sdk::export!(policy: MyPolicy);

/// `review` and `template` are those of the default pipeline, because they are not written here.
/// `export!(decide: MyPolicy)` leaves both to the vision component instead.
impl Policy for MyPolicy {
    fn identity() -> Identity {
        Identity::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
    }

    // The host refuses other settings, and values that do not follow the type.
    fn settings() -> Vec<Setting> {
        let kind = SettingKind::Number(0.0, 10_000.0);
        vec![Setting::new("small-face", kind, SMALL.to_string(), "Shorter side of a small face's box in pixels.")]
    }

    fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
        let small = small_face(settings);
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

/// Returns the operator's setting `small-face`.
fn small_face(settings: &impl Settings) -> f32 {
    settings.setting("small-face").and_then(|text| text.parse().ok()).unwrap_or(SMALL)
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
        Probe::new(face, vec![Candidate { id: "alice".to_owned(), similarity }])
    }

    #[test]
    fn small_face_needs_more_similarity() {
        let settings = Fixed::default();
        let near = settings.thresholds().similarity + 0.01;
        let known = Decision::Known { candidate: 0, confidence: near };
        assert_eq!(MyPolicy::decide(&settings, &[probe(100.0, near)]), [known]);
        assert_eq!(MyPolicy::decide(&settings, &[probe(20.0, near)]), [Decision::unknown("too_small_to_be_sure")]);
        let sure = Decision::Known { candidate: 0, confidence: near + 0.2 };
        assert_eq!(MyPolicy::decide(&settings, &[probe(20.0, near + 0.2)]), [sure]);
    }
}
