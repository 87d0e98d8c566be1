//! Assignment of people to the faces of a frame, by similarities alone.
//!
//! [`assigned`](crate::policy::assigned) applies it to the probes of a policy.

use std::collections::{HashMap, HashSet};

/// A possible identity of a face.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// The person's id.
    pub id: &'a str,
    /// Cosine similarity of the face and the person, -1 to 1.
    pub similarity: f32,
}

/// Identity of a face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The face's candidate at this index.
    Known(usize),
    /// The face has no candidates, because the gallery is empty.
    NoCandidates,
    /// No candidate's similarity is above the threshold.
    BelowThreshold,
    /// A candidate is above the threshold, but a rival is nearly as similar.
    Ambiguous,
    /// All similar candidates were assigned to faces that are more like them.
    AlreadyMatched,
}

/// The similarity that a match needs. All numbers are cosine similarities or differences of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The similarity must be above this, -1 to 1.
    pub threshold: f32,
    /// The largest addition to the threshold where a rival is near, 0 or more. It applies in full
    /// if the rival is as similar, not at all from a lead of [`CLEAR`] on, and linearly between.
    pub surcharge: f32,
}

/// The lead in cosine similarity from which a rival no longer counts.
pub const CLEAR: f32 = 0.1;

/// The surcharge that separates the students in the test photos from all their look-alikes
/// (`docs/performance.md`).
const SURCHARGE: f32 = 0.05;

impl Rule {
    /// Returns the rule with the threshold alone, as in the replaced service.
    #[must_use]
    pub fn plain(threshold: f32) -> Self {
        Self {
            threshold,
            surcharge: 0.0,
        }
    }

    /// Returns the rule that adds up to 0.05 to the threshold where a rival is near. A rival is
    /// another person for this face, or another face of the frame for this person. It stops
    /// look-alikes, because they are often similar to several people, or appear next to the person
    /// that they resemble.
    #[must_use]
    pub fn against_rivals(threshold: f32) -> Self {
        Self {
            threshold,
            surcharge: SURCHARGE,
        }
    }

    /// Returns true if a similarity is sufficient, given that of the nearest rival.
    fn is_met(&self, similarity: f32, rival: Option<f32>) -> bool {
        let lead = rival.map_or(CLEAR, |rival| (similarity - rival).clamp(0.0, CLEAR));
        similarity > self.threshold + self.surcharge * (1.0 - lead / CLEAR)
    }
}

/// Assigns to each face its most similar person by the rule, and each person to at most one face.
/// `faces` has each face's candidates, in any order. The result has one decision a face, in the
/// order of faces.
///
/// Pairs are assigned from the most similar down; a face that loses its best candidate to another
/// falls back on its next one. This greedy assignment, unlike an optimal one, never moves a person
/// away from the face that is most like them. Ties go to the first face, then to the first
/// candidate.
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
            // Replaced below if a candidate is assigned.
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
    let mut assigned = HashSet::new();
    for (face, index, candidate) in pairs {
        if let Some(decision @ Decision::AlreadyMatched) = decisions.get_mut(face)
            && assigned.insert(candidate.id)
        {
            *decision = Decision::Known(index);
        }
    }
    decisions
}

/// The two most similar faces of a frame for each person.
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

    /// Returns the similarity of the person's most similar face other than this one.
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
    fn assign_gives_each_person_one_face() {
        let cases: &[Case] = &[
            ("an empty gallery", &[&[]], &[NoCandidates]),
            ("no faces", &[], &[]),
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

    /// More similarity is needed where a rival is near.
    #[test]
    fn rivals_raise_the_threshold() {
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
