//! A policy for attendance, to go with any pipeline's vision: one person once a frame, stricter for
//! small faces, and a margin over the runner-up.
//!
//! The same as `../js` and `../python`, number for number. Settings: `margin`, how far the best
//! candidate must lead the next (a difference of cosines, by default 0.05; less is `ambiguous`);
//! `small-face`, the shorter side of a box in pixels under which more is asked for (by default 40);
//! `small-face-surcharge`, how much more (by default 0.05).

use std::cmp::Ordering;
use std::collections::HashSet;

use rostro_sdk::host::{Settings, refused};
use rostro_sdk::policy::{Decision, Identity, Policy, Probe};

/// The settings, and their values where the operator says nothing.
const DEFAULTS: [(&str, f64); 3] = [
    ("margin", 0.05),
    ("small-face", 40.0),
    ("small-face-surcharge", 0.05),
];

/// The component.
#[derive(Debug)]
pub struct AttendancePolicy;

rostro_sdk::export!(policy: AttendancePolicy);

impl Policy for AttendancePolicy {
    fn identity() -> Identity {
        Identity::new("attendance-policy", env!("CARGO_PKG_VERSION"))
    }

    fn check_settings(settings: &impl Settings) {
        for (key, _) in DEFAULTS {
            // What is wrong is told by refusing it.
            let _ = number(settings, key);
        }
    }

    fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
        let [margin, small, surcharge] =
            DEFAULTS.map(|(key, usual)| number(settings, key).ok().flatten().unwrap_or(usual));
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
        // A person is given to the face most like them, of equal ones to the first.
        claims.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
        let mut given = HashSet::new();
        for (face, similarity, id) in claims {
            if let Some(decision) = decisions.get_mut(face).filter(|_| given.insert(id)) {
                *decision = Decision::Known {
                    candidate: 0,
                    confidence: similarity.clamp(0.0, 1.0) as f32,
                };
            }
        }
        decisions
    }
}

/// A setting, if the operator says it. In 64 bits, as JavaScript and Python reckon.
fn number(settings: &impl Settings, key: &str) -> Result<Option<f64>, String> {
    let Some(text) = settings.setting(key) else {
        return Ok(None);
    };
    let number = text
        .trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite());
    number
        .map(Some)
        .ok_or_else(|| refused(settings, key, &text, "must be a number"))
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
        Probe {
            face,
            candidates: candidates.iter().map(candidate).collect(),
        }
    }

    #[test]
    fn a_face_is_named_by_its_size_its_lead_and_once_a_frame() {
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
