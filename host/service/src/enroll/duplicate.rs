//! Checks of a new face that the policy cannot make: against the person's other photos, and against
//! other people.

use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_common::vector::cosine;
use rostro_index::Candidate;
use rostro_sandbox::bindings::{BoundingBox, Reason};

use super::MOST_PHOTOS;
use super::photo::{EnrolledFace, PhotoIssue, reason};

/// Similarity above which two faces in the same place of their photos are from one photo: sent
/// twice, or saved once more.
const SAME_PHOTO: f32 = 0.98;

/// Similarity above which two embeddings are equal.
const SAME_EMBEDDING: f32 = 0.99999;

/// Distance of edges up to which two faces are in the same place, as a share of the photo.
const SAME_PLACE: f32 = 0.01;

/// Similarity to another person, in addition to the threshold of recognition, above which a face
/// counts as that person's. It leaves room for relatives, and for people who are similar by chance.
const OTHER_PERSON_MARGIN: f32 = 0.15;

/// Returns a reason to reject a photo if the person would have too many.
pub(super) fn check_count(count: usize) -> Option<Reason> {
    (count > MOST_PHOTOS).then(|| Reason {
        value: Some(count as f32),
        limit: Some(MOST_PHOTOS as f32),
        ..reason(
            "too_many_photos",
            format!(
                "A person has at most {MOST_PHOTOS} photos; enrol them anew with the best of them."
            ),
        )
    })
}

/// Returns a reason to reject a photo that the person has already: among the `earlier` photos of
/// this enrolment, or among the `stored` samples.
pub(super) fn check_repetition(
    face: &EnrolledFace<'_>,
    earlier: &[EnrolledFace<'_>],
    stored: &[Sample],
) -> Option<Reason> {
    let similarity = |other: &Sample| cosine(&other.embedding, &face.sample.embedding);
    let repeated = |similarity: f32, limit: f32| {
        (similarity > limit).then(|| Reason {
            value: Some(similarity),
            limit: Some(limit),
            ..reason(
                "duplicate_photo",
                "This photo is there already; take another, from a little to the side.".to_owned(),
            )
        })
    };
    let earlier = earlier
        .iter()
        .filter(|other| is_same_place(&other.place, &face.place))
        .map(|other| similarity(&other.sample))
        .fold(-1.0, f32::max);
    // The place of the face in a stored photo is unknown, so only equality counts.
    let stored = stored.iter().map(similarity).fold(-1.0, f32::max);
    repeated(earlier, SAME_PHOTO).or_else(|| repeated(stored, SAME_EMBEDDING))
}

/// Returns the issue that a face belongs to another person than `id`. `nearest` are the people
/// nearest to it, and `threshold` is the similarity of recognition. A caller who may only enrol
/// does not learn the other person's id.
pub(super) fn check_other_person(
    nearest: impl IntoIterator<Item = Candidate>,
    id: &PersonId,
    threshold: f32,
    may_name_others: bool,
) -> Option<PhotoIssue> {
    let limit = threshold + OTHER_PERSON_MARGIN;
    let other = nearest
        .into_iter()
        .find(|near| near.id.as_str() != id.as_str() && near.similarity > limit)?;
    let message = if may_name_others {
        format!(
            "This face is enrolled under the id '{}' already; check whose photo this is.",
            other.id
        )
    } else {
        "This face is enrolled under another id already; check whose photo this is.".to_owned()
    };
    Some(PhotoIssue {
        reason: Reason {
            value: Some(other.similarity),
            limit: Some(limit),
            ..reason("another_person", message)
        },
        identity: may_name_others.then_some(other.id),
    })
}

fn is_same_place(a: &BoundingBox, b: &BoundingBox) -> bool {
    let edges = |place: &BoundingBox| [place.x1, place.y1, place.x2, place.y2];
    edges(a)
        .iter()
        .zip(edges(b))
        .all(|(a, b)| (a - b).abs() < SAME_PLACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a sample of this cosine similarity to the sample of similarity 1.
    fn sample(similarity: f32) -> Sample {
        Sample {
            embedding: vec![similarity, (1.0 - similarity * similarity).sqrt()],
            raw: None,
            contract: None,
            det_score: None,
            enrolment: None,
        }
    }

    fn face(similarity: f32, left: f32) -> EnrolledFace<'static> {
        EnrolledFace {
            photo: &[],
            place: BoundingBox {
                x1: left,
                y1: 0.2,
                x2: left + 0.3,
                y2: 0.6,
            },
            sample: sample(similarity),
        }
    }

    #[test]
    fn repetition_depends_on_place_and_similarity() {
        let new = face(1.0, 0.1);
        for (case, earlier, stored, limit) in [
            ("first photo", None, None, None),
            ("earlier photo", Some((0.99, 0.1)), None, Some(SAME_PHOTO)),
            (
                "shifted slightly",
                Some((0.99, 0.105)),
                None,
                Some(SAME_PHOTO),
            ),
            ("another place", Some((0.99, 0.12)), None, None),
            ("less similar", Some((0.97, 0.1)), None, None),
            ("stored and equal", None, Some(1.0), Some(SAME_EMBEDDING)),
            ("stored and similar", None, Some(0.99), None),
            ("both", Some((1.0, 0.1)), Some(1.0), Some(SAME_PHOTO)),
        ] {
            let earlier: Vec<_> = earlier
                .map(|(near, left)| face(near, left))
                .into_iter()
                .collect();
            let stored: Vec<_> = stored.map(sample).into_iter().collect();
            let reason = check_repetition(&new, &earlier, &stored);
            assert_eq!(reason.and_then(|reason| reason.limit), limit, "{case}");
        }
    }

    #[test]
    fn other_person_needs_margin() {
        let alice: PersonId = "alice".parse().unwrap();
        for (case, nearest, is_other) in [
            ("no person near", vec![], false),
            ("the person", vec![("alice", 0.9)], false),
            ("a relative", vec![("alice", 0.9), ("bob", 0.6)], false),
            ("another person", vec![("bob", 0.7)], true),
            ("the second", vec![("alice", 0.9), ("bob", 0.7)], true),
        ] {
            let nearest = || {
                nearest.iter().map(|(id, similarity)| Candidate {
                    id: id.parse().unwrap(),
                    similarity: *similarity,
                })
            };
            let named = check_other_person(nearest(), &alice, 0.5, true);
            let anonymous = check_other_person(nearest(), &alice, 0.5, false);
            assert_eq!(
                (named.is_some(), anonymous.is_some()),
                (is_other, is_other),
                "{case}"
            );
            assert!(
                named.is_none_or(|issue| issue.reason.message.contains("'bob'")),
                "{case}"
            );
            assert!(
                anonymous.is_none_or(|issue| issue.identity.is_none()),
                "{case}"
            );
        }
    }

    #[test]
    fn count_is_bounded() {
        assert!(check_count(MOST_PHOTOS).is_none());
        assert_eq!(
            check_count(MOST_PHOTOS + 1).unwrap().code,
            "too_many_photos"
        );
    }
}
