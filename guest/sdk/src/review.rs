//! Which face of an enrolment photo to enrol, and whether the photo is good enough for it.
//!
//! The rules alone; [`Policy::review`](crate::policy::Policy::review) makes an answer for callers
//! of them.

use crate::host::ReviewLevel;
use crate::policy::{Face, Reason};

/// The best face of a photo.
#[derive(Clone, Debug, PartialEq)]
pub enum Best {
    /// The face at this index of the scores.
    Face(usize),
    /// No face was found at all.
    NoFace,
    /// The best face scores less than is asked for.
    LowScore {
        /// Its index of the scores.
        index: usize,
        /// Its detection score, 0 to 1.
        score: f32,
        /// The least score, 0 to 1.
        threshold: f32,
    },
}

/// Takes the face with the highest detection score, of equal ones the first, and refuses it below
/// the detection threshold: the rule of the replaced service. `scores` and `threshold` are from 0
/// to 1; a score that equals the threshold is enough.
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

/// What an enrolment photo must measure up to. A template made of poor photos is like many people a
/// little, and like nobody much.
///
/// The measures are those of [`Measures`](crate::measure::Measures); one that vision did not take
/// is not judged. The limits were set on 90 good photos, of which none is refused, and on the same
/// ones blurred, darkened, made small and squeezed (`docs/performance.md` in Rostro's repository).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gates {
    /// The least shorter side of the face's box, in pixels.
    pub size: f32,
    /// How far it may be turned to the side, either way (`yaw`).
    pub yaw: f32,
    /// The least brightness of the aligned face, 0 to 255.
    pub darkest: f32,
    /// The greatest, 0 to 255.
    pub brightest: f32,
    /// How much of the aligned face may lie beyond the picture's edge, a share of it.
    pub outside: f32,
    /// The least sharpness of the aligned face.
    pub sharpness: f32,
    /// From which share of its shorter side another face counts as a second person, 0 to 1.
    pub companion: f32,
}

impl Gates {
    /// The gates of a level; none where photos are not judged.
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

    /// All that is wrong with a photo of which the face at `chosen` is to be enrolled; `threshold`
    /// is the score from which another face is one.
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
    use crate::analysis::Measure;
    use crate::geometry::Rect;

    #[test]
    fn the_best_face_is_taken_and_refused_below_the_threshold() {
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

    /// A good face, with these changes.
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

    #[test]
    fn each_gate_has_its_limit_and_all_faults_are_told() {
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
    fn a_second_person_counts_by_size_and_score() {
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
    fn what_was_not_measured_is_not_judged() {
        let bare = Face {
            measures: Vec::new(),
            ..face(200.0, &[])
        };
        assert!(codes(ReviewLevel::Strict, &[bare]).is_empty());
    }
}
