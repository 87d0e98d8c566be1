//! Which face of an enrolment photo to enrol.
//!
//! The rule alone; [`Policy::review`](crate::policy::Policy::review) makes an answer for callers of it.

/// The best face of a photo.
#[derive(Clone, Debug, PartialEq)]
pub enum Best {
    /// The face at this index of the scores.
    Face(usize),
    /// No face was found at all.
    NoFace,
    /// The best face scores less than is asked for.
    LowScore {
        /// Its detection score, 0 to 1.
        score: f32,
        /// The least score, 0 to 1.
        threshold: f32,
    },
}

/// Takes the face with the highest detection score, of equal ones the first, and refuses it below the detection threshold: the rule of the
/// replaced service. `scores` and `threshold` are from 0 to 1; a score that equals the threshold is enough.
#[must_use]
pub fn best_face(scores: &[f32], threshold: f32) -> Best {
    let best = scores.iter().copied().enumerate().reduce(|best, face| if face.1 > best.1 { face } else { best });
    match best {
        None => Best::NoFace,
        Some((_, score)) if score < threshold => Best::LowScore { score, threshold },
        Some((index, _)) => Best::Face(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_face_is_taken_and_refused_below_the_threshold() {
        assert_eq!(best_face(&[], 0.7), Best::NoFace);
        assert_eq!(best_face(&[0.7], 0.7), Best::Face(0));
        assert_eq!(best_face(&[0.8, 0.9, 0.9], 0.7), Best::Face(1));
        assert_eq!(best_face(&[0.4, 0.6], 0.7), Best::LowScore { score: 0.6, threshold: 0.7 });
    }
}
