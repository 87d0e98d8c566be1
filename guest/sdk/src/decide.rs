//! Who is who in a frame: the assignment of people to faces, on similarities alone.
//!
//! [`assigned`](crate::policy::assigned) does it on the probes that a policy gets.

use std::collections::{HashMap, HashSet};

/// A person whom a face may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// The person's id.
    pub id: &'a str,
    /// Cosine similarity of the face and the person, -1 to 1.
    pub similarity: f32,
}

/// Who a face is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The candidate at this index of the face's.
    Known(usize),
    /// The face has no candidates: nobody is enrolled.
    NoCandidates,
    /// No candidate's similarity is above the threshold.
    BelowThreshold,
    /// Somebody is above the threshold, but others are nearly as similar.
    Ambiguous,
    /// Everybody who is similar enough was given to a face that is more like them.
    AlreadyMatched,
}

/// When a face is similar enough to a person. All numbers are cosine similarities or differences of
/// them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The similarity must be above this, -1 to 1.
    pub threshold: f32,
    /// The most that is asked for beside that where a rival is near, 0 or more: all of it of a pair
    /// whose rival is as similar, none of one that leads by [`CLEAR`], and linearly between.
    pub surcharge: f32,
}

/// A rival who trails by so much cosine similarity is none.
pub const CLEAR: f32 = 0.1;

/// The surcharge that parts the students in the test photos from all their look-alikes
/// (`docs/performance.md`).
const SURCHARGE: f32 = 0.05;

impl Rule {
    /// The threshold alone, as in the replaced service.
    #[must_use]
    pub fn plain(threshold: f32) -> Self {
        Self {
            threshold,
            surcharge: 0.0,
        }
    }

    /// The threshold, and up to 0.05 more where somebody else is nearly as similar: another person
    /// to this face, or another face of the frame to this person. A look-alike who is in the frame
    /// together with others of the kind, or who is like several people, betrays itself so.
    #[must_use]
    pub fn against_rivals(threshold: f32) -> Self {
        Self {
            threshold,
            surcharge: SURCHARGE,
        }
    }

    /// Whether a similarity is enough beside that of the nearest rival, if there is one.
    fn is_met(&self, similarity: f32, rival: Option<f32>) -> bool {
        let lead = rival.map_or(CLEAR, |rival| (similarity - rival).clamp(0.0, CLEAR));
        similarity > self.threshold + self.surcharge * (1.0 - lead / CLEAR)
    }
}

/// Gives each face the person who is most like it, if they are similar enough by the rule, and each
/// person to one face at most. `faces` has each face's candidates, in any order; the answer has one
/// decision a face, in the order of faces.
///
/// Pairs are settled from the most similar down: a face that loses its best candidate to another
/// falls back on its next one. This greedy assignment, unlike an optimal one, never takes a person
/// from the face that is most like them to please another. Equal similarities are settled in the
/// order of faces, then of candidates.
#[must_use]
pub fn assign(faces: &[Vec<Candidate<'_>>], rule: Rule) -> Vec<Decision> {
    let nearest = NearestFaces::of(faces);
    let mut decisions = Vec::with_capacity(faces.len());
    let mut pairs: Vec<(usize, usize, Candidate<'_>)> = Vec::new();
    for (face, candidates) in faces.iter().enumerate() {
        let before = pairs.len();
        for (index, candidate) in candidates.iter().enumerate() {
            let others = candidates
                .iter()
                .filter(|other| other.id != candidate.id)
                .map(|other| other.similarity);
            let rival = others
                .chain(nearest.other_than(face, candidate.id))
                .reduce(f32::max);
            if rule.is_met(candidate.similarity, rival) {
                pairs.push((face, index, *candidate));
            }
        }
        decisions.push(if candidates.is_empty() {
            Decision::NoCandidates
        } else if pairs.len() > before {
            // Unless somebody is given to it below.
            Decision::AlreadyMatched
        } else if candidates
            .iter()
            .any(|candidate| candidate.similarity > rule.threshold)
        {
            Decision::Ambiguous
        } else {
            Decision::BelowThreshold
        });
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

/// The two faces of a frame that are most like each person.
struct NearestFaces<'a>(HashMap<&'a str, [Option<(usize, f32)>; 2]>);

impl<'a> NearestFaces<'a> {
    fn of(faces: &[Vec<Candidate<'a>>]) -> Self {
        let mut nearest: HashMap<&str, [Option<(usize, f32)>; 2]> = HashMap::new();
        for (face, candidates) in faces.iter().enumerate() {
            for candidate in candidates {
                let [first, second] = nearest.entry(candidate.id).or_default();
                let pair = Some((face, candidate.similarity));
                let is_below = |best: &Option<(usize, f32)>| {
                    best.is_none_or(|(_, similarity)| similarity < candidate.similarity)
                };
                if is_below(first) {
                    (*first, *second) = (pair, *first);
                } else if is_below(second) {
                    *second = pair;
                }
            }
        }
        Self(nearest)
    }

    /// How similar the face is that, of all but this one, is most like the person.
    fn other_than(&self, face: usize, id: &str) -> Option<f32> {
        let both = self.0.get(id)?.iter().flatten();
        both.filter(|(other, _)| *other != face)
            .map(|&(_, similarity)| similarity)
            .next()
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::{AlreadyMatched, Ambiguous, BelowThreshold, Known, NoCandidates};
    use super::*;

    type Case = (
        &'static str,
        &'static [&'static [(&'static str, f32)]],
        &'static [Decision],
    );

    fn check(cases: &[Case], rule: Rule) {
        for (case, faces, wanted) in cases {
            let candidate = |&(id, similarity): &(&'static str, f32)| Candidate { id, similarity };
            let faces: Vec<Vec<Candidate<'_>>> = faces
                .iter()
                .map(|face| face.iter().map(candidate).collect())
                .collect();
            assert_eq!(assign(&faces, rule), *wanted, "{case}");
        }
    }

    #[test]
    fn each_person_is_given_to_the_face_most_like_them() {
        let cases: &[Case] = &[
            ("nobody enrolled", &[&[]], &[NoCandidates]),
            ("nobody there", &[], &[]),
            (
                "above the threshold",
                &[&[("a", 0.51), ("b", 0.2)]],
                &[Known(0)],
            ),
            (
                "the threshold itself is not enough",
                &[&[("a", 0.5)]],
                &[BelowThreshold],
            ),
            (
                "the more similar face wins",
                &[&[("a", 0.6)], &[("a", 0.7)]],
                &[AlreadyMatched, Known(0)],
            ),
            (
                "the loser falls back",
                &[&[("a", 0.6), ("b", 0.55)], &[("a", 0.7)]],
                &[Known(1), Known(0)],
            ),
            (
                "of equal faces the first wins",
                &[&[("a", 0.6)], &[("a", 0.6)]],
                &[Known(0), AlreadyMatched],
            ),
            (
                "a face has one person",
                &[&[("a", 0.9), ("b", 0.8)], &[("b", 0.7)]],
                &[Known(0), Known(0)],
            ),
        ];
        check(cases, Rule::plain(0.5));
    }

    #[test]
    fn more_is_asked_for_where_a_rival_is_near() {
        let cases: &[Case] = &[
            ("no rival", &[&[("a", 0.501)]], &[Known(0)]),
            (
                "a rival far behind",
                &[&[("a", 0.501), ("b", 0.4)]],
                &[Known(0)],
            ),
            (
                "a person nearly as similar",
                &[&[("a", 0.52), ("b", 0.5)]],
                &[Ambiguous],
            ),
            ("halfway", &[&[("a", 0.526), ("b", 0.476)]], &[Known(0)]),
            (
                "a face nearly as similar",
                &[&[("a", 0.52)], &[("a", 0.5)]],
                &[Ambiguous, BelowThreshold],
            ),
            (
                "similar enough in spite of it",
                &[&[("a", 0.56), ("b", 0.555)]],
                &[Known(0)],
            ),
            (
                "the same person twice",
                &[&[("a", 0.7)], &[("a", 0.7)]],
                &[Known(0), AlreadyMatched],
            ),
            (
                "two faces that are both far behind",
                &[&[("a", 0.1)], &[("a", 0.52)], &[("a", 0.2)]],
                &[BelowThreshold, Known(0), BelowThreshold],
            ),
            (
                "below the threshold in any case",
                &[&[("a", 0.5), ("b", 0.1)]],
                &[BelowThreshold],
            ),
        ];
        check(cases, Rule::against_rivals(0.5));
    }
}
