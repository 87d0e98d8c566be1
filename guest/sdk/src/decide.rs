//! Who is who in a frame.

use std::collections::HashSet;

/// A person whom a face may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// The person's id.
    pub id: &'a str,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
}

/// Who a face is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The candidate at this index.
    Known(usize),
    /// Nobody is enrolled.
    NoCandidates,
    /// Nobody is similar enough.
    BelowThreshold,
    /// Everybody who is similar enough was given to a face that is more like them.
    AlreadyMatched,
}

/// Gives each face the person who is most like it, if the similarity is above `threshold`, and each person to one face at most.
///
/// Pairs are settled from the most similar down: a face that loses its best candidate to another falls back on its next one. This greedy
/// assignment, unlike an optimal one, never takes a person from the face that is most like them to please another. Equal
/// similarities are settled in the order of faces, then of candidates.
#[must_use]
pub fn assign(faces: &[Vec<Candidate<'_>>], threshold: f32) -> Vec<Decision> {
    let mut decisions: Vec<Decision> = faces.iter().map(|candidates| at_first(candidates, threshold)).collect();
    let mut pairs: Vec<(usize, usize, Candidate<'_>)> = Vec::new();
    for (face, candidates) in faces.iter().enumerate() {
        let similar = candidates.iter().enumerate().filter(|(_, candidate)| candidate.similarity > threshold);
        pairs.extend(similar.map(|(index, candidate)| (face, index, *candidate)));
    }
    pairs.sort_by(|a, b| b.2.similarity.total_cmp(&a.2.similarity));
    let mut given = HashSet::new();
    for (face, index, candidate) in pairs {
        if let Some(decision @ Decision::AlreadyMatched) = decisions.get_mut(face)
            && given.insert(candidate.id)
        {
            *decision = Decision::Known(index);
        }
    }
    decisions
}

/// What a face is before anybody is given to it.
fn at_first(candidates: &[Candidate<'_>], threshold: f32) -> Decision {
    if candidates.is_empty() {
        Decision::NoCandidates
    } else if candidates.iter().any(|candidate| candidate.similarity > threshold) {
        Decision::AlreadyMatched
    } else {
        Decision::BelowThreshold
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::{AlreadyMatched, BelowThreshold, Known, NoCandidates};
    use super::*;

    #[test]
    fn each_person_is_given_to_the_face_most_like_them() {
        type Case = (&'static str, &'static [&'static [(&'static str, f32)]], &'static [Decision]);
        let cases: &[Case] = &[
            ("nobody enrolled", &[&[]], &[NoCandidates]),
            ("nobody there", &[], &[]),
            ("above the threshold", &[&[("a", 0.51), ("b", 0.2)]], &[Known(0)]),
            ("the threshold itself is not enough", &[&[("a", 0.5)]], &[BelowThreshold]),
            ("the more similar face wins", &[&[("a", 0.6)], &[("a", 0.7)]], &[AlreadyMatched, Known(0)]),
            ("the loser falls back", &[&[("a", 0.6), ("b", 0.55)], &[("a", 0.7)]], &[Known(1), Known(0)]),
            ("of equal faces the first wins", &[&[("a", 0.6)], &[("a", 0.6)]], &[Known(0), AlreadyMatched]),
            ("a face has one person", &[&[("a", 0.9), ("b", 0.8)], &[("b", 0.7)]], &[Known(0), Known(0)]),
        ];
        for (case, faces, wanted) in cases {
            let candidate = |&(id, similarity): &(&'static str, f32)| Candidate { id, similarity };
            let faces: Vec<Vec<Candidate<'_>>> = faces.iter().map(|face| face.iter().map(candidate).collect()).collect();
            assert_eq!(assign(&faces, 0.5), *wanted, "{case}");
        }
    }
}
