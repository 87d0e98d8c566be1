//! A policy for attendance, for use with any pipeline's vision: one person once a frame, stricter
//! for small faces, and a margin over the runner-up.
//!
//! `../js` and `../python` have equal rules, number for number. Settings:
//!
//! - `margin`: the least lead of the best candidate over the next, a difference of cosines, by
//!   default 0.05; less is `ambiguous`.
//! - `small-face`: the shorter side of a box in pixels below which the threshold is higher, by
//!   default 40.
//! - `small-face-surcharge`: the addition to the threshold for small faces, by default 0.05.

use std::cmp::Ordering;
use std::collections::HashSet;

use rostro_sdk::host::{Setting, SettingKind, Settings};
use rostro_sdk::policy::{Decision, Identity, Policy, Probe};

/// The settings, their defaults, their largest values and their purposes.
const SETTINGS: [(&str, f64, f64, &str); 3] = [
    (
        "margin",
        0.05,
        10.0,
        "Least lead of the best candidate over the next.",
    ),
    (
        "small-face",
        40.0,
        100_000.0,
        "Shorter side of a box in pixels below which the threshold is higher.",
    ),
    (
        "small-face-surcharge",
        0.05,
        10.0,
        "Addition to the threshold for small faces.",
    ),
];

/// The component.
#[derive(Debug)]
pub struct AttendancePolicy;

rostro_sdk::export!(policy: AttendancePolicy);

impl Policy for AttendancePolicy {
    fn identity() -> Identity {
        Identity::new("attendance-policy", env!("CARGO_PKG_VERSION"))
    }

    fn settings() -> Vec<Setting> {
        let setting = |(name, default, max, description): (_, f64, f64, _)| {
            let kind = SettingKind::Number(-max, max);
            Setting::new(name, kind, default.to_string(), description)
        };
        SETTINGS.into_iter().map(setting).collect()
    }

    fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
        let [margin, small, surcharge] =
            SETTINGS.map(|(key, default, _, _)| number(settings, key).unwrap_or(default));
        let threshold = f64::from(settings.thresholds().similarity);

        let mut decisions = Vec::new();
        let mut claims: Vec<(usize, f64, &str)> = Vec::new();
        for (face, probe) in probes.iter().enumerate() {
            let bounds = probe.face.bounds;
            let size = (f64::from(bounds.x2) - f64::from(bounds.x1))
                .min(f64::from(bounds.y2) - f64::from(bounds.y1));
            let least = if size < small {
                threshold + surcharge
            } else {
                threshold
            };
            let next = probe
                .candidates
                .get(1)
                .map_or(-1.0, |next| f64::from(next.similarity));
            decisions.push(match probe.candidates.first() {
                None => Decision::unknown("no_candidates"),
                Some(best) if f64::from(best.similarity) <= least => {
                    Decision::unknown("below_threshold")
                }
                Some(best) if f64::from(best.similarity) - next < margin => {
                    Decision::unknown("ambiguous")
                }
                Some(best) => {
                    claims.push((face, f64::from(best.similarity), &best.id));
                    Decision::unknown("already_matched")
                }
            });
        }
        // Each person goes to the face most like them, the first of equal ones.
        claims.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
        let mut assigned = HashSet::new();
        for (face, similarity, id) in claims {
            if let Some(decision) = decisions.get_mut(face).filter(|_| assigned.insert(id)) {
                *decision = Decision::Known {
                    candidate: 0,
                    confidence: similarity.clamp(0.0, 1.0) as f32,
                };
            }
        }
        decisions
    }
}

/// Reads a setting in 64 bits, as in JavaScript and Python. The host refuses values that do not
/// follow the type.
fn number(settings: &impl Settings, key: &str) -> Option<f64> {
    settings.setting(key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use rostro_sdk::geometry::Rect;
    use rostro_sdk::policy::{Candidate, Face};
    use rostro_sdk::testing::Fixed;

    use super::*;

    fn probe(size: f32, candidates: &[(&str, f32)]) -> Probe {
        let candidate = |&(id, similarity): &(&str, f32)| Candidate {
            id: id.to_owned(),
            similarity,
        };
        let bounds = Rect {
            x1: 0.0,
            y1: 0.0,
            x2: size,
            y2: size + 1.0,
        };
        let face = Face {
            bounds,
            score: 0.9,
            landmarks: Vec::new(),
            measures: Vec::new(),
        };
        Probe::new(face, candidates.iter().map(candidate).collect())
    }

    /// The decision depends on the face's size, its lead, and other faces of the frame.
    #[test]
    fn decide_uses_size_lead_and_rivals() {
        let decided = AttendancePolicy::decide(
            &Fixed::default(),
            &[
                probe(100.0, &[("a", 0.52)]),
                probe(39.0, &[("b", 0.52)]),
                probe(39.0, &[("c", 0.56)]),
                probe(100.0, &[("d", 0.6), ("e", 0.58)]),
                probe(100.0, &[("a", 0.7), ("e", 0.5)]),
                probe(100.0, &[]),
            ],
        );
        let known = |confidence| Decision::Known {
            candidate: 0,
            confidence,
        };
        let unknown = |code| Decision::unknown(code);
        assert_eq!(
            decided,
            [
                unknown("already_matched"),
                unknown("below_threshold"),
                known(0.56),
                unknown("ambiguous"),
                known(0.7),
                unknown("no_candidates")
            ]
        );
    }
}
