//! Rules for enrolment photos: the choice of the face, and the quality limits.
//!
//! [`Policy::review`](crate::policy::Policy::review) makes the result for callers of them.

use crate::host::ReviewLevel;
pub use crate::types::{Best, Gates};
use crate::types::{Face, Reason};

/// Returns the face with the highest detection score, the first of equal ones, unless it is below
/// the threshold: the rule of the replaced service. `scores` and `threshold` are from 0 to 1; a
/// score equal to the threshold is sufficient.
#[must_use]
pub fn best_face(scores: &[f32], threshold: f32) -> Best {
    let best = scores
        .iter()
        .copied()
        .enumerate()
        .reduce(|best, face| if face.1 > best.1 { face } else { best });
    match best {
        None => Best::NoFace,
        Some((index, score)) if score < threshold => Best::LowScore {
            index,
            score,
            threshold,
        },
        Some((index, _)) => Best::Face(index),
    }
}

impl Gates {
    /// Returns the gates of a level; None for the level that judges no photos.
    #[must_use]
    pub const fn of(level: ReviewLevel) -> Option<Self> {
        match level {
            ReviewLevel::Off => None,
            ReviewLevel::Standard => Some(Self {
                size: 50.0,
                yaw: 0.85,
                darkest: 40.0,
                brightest: 220.0,
                outside: 0.5,
                sharpness: 50.0,
                companion: 0.5,
            }),
            ReviewLevel::Strict => Some(Self {
                size: 112.0,
                yaw: 0.78,
                darkest: 50.0,
                brightest: 200.0,
                outside: 0.25,
                sharpness: 100.0,
                companion: 0.0,
            }),
        }
    }

    /// Returns all faults of a photo for the enrolment of the face at `chosen`. Other faces count
    /// from the score `threshold` on.
    #[must_use]
    pub fn faults(&self, faces: &[Face], chosen: usize, threshold: f32) -> Vec<Reason> {
        let Some(face) = faces.get(chosen) else {
            return Vec::new();
        };
        let side = face.bounds.shorter_side();
        let is_companion = |other: &Face| {
            other.score >= threshold && other.bounds.shorter_side() >= self.companion * side
        };
        let others = faces
            .iter()
            .enumerate()
            .filter(|(index, other)| *index != chosen && is_companion(other))
            .count();
        let mut faults = Vec::new();
        let mut fault = |is_wrong: bool, code, advice, value: f32, limit: f32| {
            if is_wrong {
                faults.push(Reason::new(code, advice).measured(value, limit));
            }
        };
        let advice = "There are several people in the photo; take one of this person alone.";
        fault(
            others > 0,
            "several_people",
            advice,
            (others + 1) as f32,
            1.0,
        );
        fault(
            side < self.size,
            "face_too_small",
            "The face is too small; take the photo from nearer.",
            side,
            self.size,
        );
        if let Some(yaw) = face.measure("yaw").map(f32::abs) {
            fault(
                yaw > self.yaw,
                "face_turned",
                "The face is turned too far to the side; look towards the camera.",
                yaw,
                self.yaw,
            );
        }
        if let Some(brightness) = face.measure("brightness") {
            let advice = "The face is too dark; take the photo in better light, not against it.";
            fault(
                brightness < self.darkest,
                "too_dark",
                advice,
                brightness,
                self.darkest,
            );
            let advice = "The face is too bright; take the photo out of glaring light.";
            fault(
                brightness > self.brightest,
                "too_bright",
                advice,
                brightness,
                self.brightest,
            );
        }
        if let Some(outside) = face.measure("outside") {
            let advice = "The face is cut off by the photo's edge; take the photo with all of it in the picture.";
            fault(
                outside > self.outside,
                "face_cut_off",
                advice,
                outside,
                self.outside,
            );
        }
        if let Some(sharpness) = face.measure("sharpness") {
            let advice =
                "The photo is blurred; hold the camera still, and let it focus on the face.";
            fault(
                sharpness < self.sharpness,
                "blurred",
                advice,
                sharpness,
                self.sharpness,
            );
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::geometry::Rect;
    use crate::types::Measure;

    #[test]
    fn best_face_must_reach_threshold() {
        assert_eq!(best_face(&[], 0.7), Best::NoFace);
        assert_eq!(best_face(&[0.7], 0.7), Best::Face(0));
        assert_eq!(best_face(&[0.8, 0.9, 0.9], 0.7), Best::Face(1));
        assert_eq!(
            best_face(&[0.4, 0.6], 0.7),
            Best::LowScore {
                index: 1,
                score: 0.6,
                threshold: 0.7
            }
        );
    }

    /// A good face with these changes.
    fn face(side: f32, measures: &[(&'static str, f32)]) -> Face {
        let bounds = Rect {
            x1: 0.0,
            y1: 0.0,
            x2: side,
            y2: 1.3 * side,
        };
        let good = [
            ("yaw", 0.1),
            ("brightness", 100.0),
            ("sharpness", 300.0),
            ("outside", 0.0),
        ];
        let value = |(name, good): (&'static str, f32)| {
            Measure::new(
                name,
                measures
                    .iter()
                    .find(|(changed, _)| *changed == name)
                    .map_or(good, |(_, value)| *value),
            )
        };
        Face {
            bounds,
            score: 0.9,
            landmarks: Vec::new(),
            measures: good.map(value).into(),
        }
    }

    fn codes(level: ReviewLevel, faces: &[Face]) -> Vec<String> {
        Gates::of(level)
            .unwrap()
            .faults(faces, 0, 0.5)
            .into_iter()
            .map(|reason| reason.code.into_owned())
            .collect()
    }

    /// Each gate has its own limit, and all faults are reported.
    #[test]
    fn gates_report_all_faults() {
        let (standard, strict) = (ReviewLevel::Standard, ReviewLevel::Strict);
        assert!(codes(strict, &[face(200.0, &[])]).is_empty());
        for (photo, wanted, strictly) in [
            (
                face(40.0, &[]),
                vec!["face_too_small"],
                vec!["face_too_small"],
            ),
            (face(80.0, &[]), vec![], vec!["face_too_small"]),
            (face(200.0, &[("yaw", -0.8)]), vec![], vec!["face_turned"]),
            (
                face(200.0, &[("yaw", 1.0)]),
                vec!["face_turned"],
                vec!["face_turned"],
            ),
            (
                face(200.0, &[("brightness", 30.0)]),
                vec!["too_dark"],
                vec!["too_dark"],
            ),
            (
                face(200.0, &[("brightness", 230.0)]),
                vec!["too_bright"],
                vec!["too_bright"],
            ),
            (face(200.0, &[("sharpness", 70.0)]), vec![], vec!["blurred"]),
            (
                face(200.0, &[("outside", 0.3)]),
                vec![],
                vec!["face_cut_off"],
            ),
            (
                face(200.0, &[("outside", 0.6)]),
                vec!["face_cut_off"],
                vec!["face_cut_off"],
            ),
            (
                face(30.0, &[("sharpness", 7.0), ("yaw", 2.0)]),
                vec!["face_too_small", "face_turned", "blurred"],
                vec!["face_too_small", "face_turned", "blurred"],
            ),
        ] {
            assert_eq!(
                (
                    codes(standard, std::slice::from_ref(&photo)),
                    codes(strict, &[photo])
                ),
                (
                    wanted.iter().map(|code| (*code).to_owned()).collect(),
                    strictly.iter().map(|code| (*code).to_owned()).collect()
                )
            );
        }
        assert!(Gates::of(ReviewLevel::Off).is_none());
    }

    #[test]
    fn second_person_needs_size_and_score() {
        let (large, small) = (face(120.0, &[]), face(60.0, &[]));
        let unsure = Face {
            score: 0.3,
            ..large.clone()
        };
        assert_eq!(
            codes(ReviewLevel::Standard, &[face(200.0, &[]), large.clone()]),
            ["several_people"]
        );
        assert!(
            codes(
                ReviewLevel::Standard,
                &[face(200.0, &[]), small.clone(), unsure.clone()]
            )
            .is_empty()
        );
        assert_eq!(
            codes(ReviewLevel::Strict, &[face(200.0, &[]), small, unsure]),
            ["several_people"]
        );
    }

    #[test]
    fn missing_measures_are_not_judged() {
        let bare = Face {
            measures: Vec::new(),
            ..face(200.0, &[])
        };
        assert!(codes(ReviewLevel::Strict, &[bare]).is_empty());
    }
}
