//! Verification of tracks by embeddings: whether the face of a track is still the track's person.
//!
//! Boxes alone confuse two people who cross. Their embeddings tell, because each track keeps the
//! direction of its own.

use std::collections::BTreeSet;

use super::embedding::QuantizedEmbedding;

/// The cosine similarity under which a face is another person than its track. It is low, because
/// the place speaks for the same person, and a face that turns away loses similarity.
const DIFFERENT: f32 = 0.3;

/// The least cosine similarity at which a face takes over a track from elsewhere. The most similar
/// two people of the test photos have 0.505.
const ALIKE: f32 = 0.55;

/// The lead in cosine similarity by which another track must be more like a face than its own.
const LEAD: f32 = 0.15;

/// A face that was embedded, with the track that association gave it.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The track's number.
    pub track: u32,
    /// The face's embedding.
    pub embedding: &'a QuantizedEmbedding,
}

/// A track with an earlier embedding.
#[derive(Clone, Copy, Debug)]
pub struct KnownTrack<'a> {
    /// The track's number.
    pub track: u32,
    /// Its earlier embedding.
    pub reference: &'a QuantizedEmbedding,
    /// Who has the track in this frame.
    pub holder: Holder,
}

/// Who has a track in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// No face: the person is hidden or away.
    Hidden,
    /// The face of a claim.
    Claim,
    /// A face that has no embedding yet, but can be embedded.
    Unverified,
    /// A face that keeps it.
    Settled,
}

/// The track of a claim's face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The one that it has.
    Same,
    /// The one of this number, which is free.
    Other(u32),
    /// One that begins, because it is another person than its track and all free ones.
    New,
}

/// Result of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// A claim's face looks like the person of these tracks. Their faces must be embedded first.
    Contested(BTreeSet<u32>),
    /// One verdict a claim, in their order. No two give the same track.
    Verdicts(Vec<Verdict>),
}

/// Verifies claims against the earlier embeddings of all tracks. A claim belongs to a new track if
/// `known` lacks it.
///
/// A face leaves its track if it is unlike its person, or clearly more like that of another track.
/// Faces that left take the free tracks of their people, the most similar first.
#[must_use]
pub fn verify(claims: &[Claim<'_>], known: &[KnownTrack<'_>]) -> Verification {
    let faces: Vec<ClaimSimilarities> = claims
        .iter()
        .map(|claim| ClaimSimilarities::of(claim, known))
        .collect();
    let moving = faces.iter().filter(|face| face.is_moving);
    let wanted = moving.filter_map(|face| face.others.first());
    let is_unverified = |track: u32| {
        let mut holders = known.iter().filter(|known| known.track == track);
        holders.any(|known| known.holder == Holder::Unverified)
    };
    let contested: BTreeSet<u32> = wanted
        .map(|&(track, _)| track)
        .filter(|&track| is_unverified(track))
        .collect();
    if !contested.is_empty() {
        return Verification::Contested(contested);
    }

    let hidden = known.iter().filter(|known| known.holder == Holder::Hidden);
    let mut free: BTreeSet<u32> = hidden.map(|known| known.track).collect();
    let claims_and_faces = || claims.iter().zip(&faces);
    let left = claims_and_faces().filter(|(_, face)| face.is_moving && face.own.is_some());
    free.extend(left.map(|(claim, _)| claim.track));
    let mut moves: Vec<(usize, u32, f32)> = Vec::new();
    for (index, face) in faces.iter().enumerate().filter(|(_, face)| face.is_moving) {
        let others = face.others.iter();
        moves.extend(others.map(|&(track, similarity)| (index, track, similarity)));
    }
    moves.sort_by(|a, b| b.2.total_cmp(&a.2));
    let mut verdicts = vec![None; claims.len()];
    for (index, track, _) in moves {
        if let Some(verdict @ None) = verdicts.get_mut(index)
            && free.remove(&track)
        {
            *verdict = Some(Verdict::Other(track));
        }
    }
    let settled = verdicts.iter().zip(claims_and_faces());
    let verdicts = settled.map(|(verdict, (claim, face))| {
        verdict.unwrap_or_else(|| {
            let can_stay = !face.is_moving
                || face
                    .own
                    .is_none_or(|own| own >= DIFFERENT && free.contains(&claim.track));
            if can_stay {
                Verdict::Same
            } else {
                Verdict::New
            }
        })
    });
    Verification::Verdicts(verdicts.collect())
}

/// Similarities of a claim's face.
struct ClaimSimilarities {
    /// To its own track; None if the track is new.
    own: Option<f32>,
    /// To other tracks from [`ALIKE`] on, most similar first.
    others: Vec<(u32, f32)>,
    /// True if it may change its track.
    is_moving: bool,
}

impl ClaimSimilarities {
    fn of(claim: &Claim<'_>, known: &[KnownTrack<'_>]) -> Self {
        let (mut own, mut others) = (None, Vec::new());
        for known in known {
            let similarity = claim.embedding.cosine(known.reference);
            if known.track == claim.track {
                own = Some(similarity);
            } else if similarity >= ALIKE {
                others.push((known.track, similarity));
            }
        }
        others.sort_by(|a, b| b.1.total_cmp(&a.1));
        let best = others.first().map_or(-1.0, |&(_, similarity)| similarity);
        let is_moving = own.is_none_or(|own| own < DIFFERENT || best >= own + LEAD);
        Self {
            own,
            others,
            is_moving,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Holder::{Claim as Claimed, Hidden, Settled, Unverified};
    use super::Verdict::{New, Other, Same};
    use super::*;

    /// A unit vector between the people 0 and 1 of a plane, by its angle in degrees.
    fn angle(degrees: f32) -> QuantizedEmbedding {
        let (sin, cos) = degrees.to_radians().sin_cos();
        QuantizedEmbedding::of(&[cos, sin]).unwrap()
    }

    /// A case: claims as track and angle, known tracks as number, angle and holder, and the result.
    type Case<'a> = (
        &'a str,
        &'a [(u32, f32)],
        &'a [(u32, f32, Holder)],
        Result<&'a [Verdict], &'a [u32]>,
    );

    #[test]
    fn verify_moves_faces_to_people() {
        let cases: &[Case<'_>] = &[
            ("no claims", &[], &[(1, 0.0, Hidden)], Ok(&[])),
            ("a new track", &[(1, 0.0)], &[], Ok(&[Same])),
            (
                "the same person",
                &[(1, 30.0)],
                &[(1, 0.0, Claimed)],
                Ok(&[Same]),
            ),
            (
                "the same person, turned away",
                &[(1, 70.0)],
                &[(1, 0.0, Claimed)],
                Ok(&[Same]),
            ),
            (
                "another person",
                &[(1, 80.0)],
                &[(1, 0.0, Claimed)],
                Ok(&[New]),
            ),
            (
                "a new track of a hidden person",
                &[(2, 20.0)],
                &[(1, 0.0, Hidden)],
                Ok(&[Other(1)]),
            ),
            (
                "a new track of another person, like a hidden one",
                &[(2, 60.0)],
                &[(1, 0.0, Hidden)],
                Ok(&[Same]),
            ),
            (
                "two that were confused",
                &[(1, 90.0), (2, 0.0)],
                &[(1, 0.0, Claimed), (2, 90.0, Claimed)],
                Ok(&[Other(2), Other(1)]),
            ),
            (
                "one that was confused with a face not embedded",
                &[(1, 90.0)],
                &[(1, 0.0, Claimed), (2, 90.0, Unverified)],
                Err(&[2]),
            ),
            (
                "one that is like another, which keeps its track",
                &[(1, 90.0)],
                &[(1, 0.0, Claimed), (2, 90.0, Settled)],
                Ok(&[New]),
            ),
            (
                "one that is more like a hidden person",
                &[(1, 60.0)],
                &[(1, 0.0, Claimed), (2, 90.0, Hidden)],
                Ok(&[Other(2)]),
            ),
            (
                "one that is slightly more like a hidden person",
                &[(1, 47.0)],
                &[(1, 0.0, Claimed), (2, 90.0, Hidden)],
                Ok(&[Same]),
            ),
            (
                "two of one hidden person: the more similar",
                &[(3, 20.0), (4, 10.0)],
                &[(1, 0.0, Hidden)],
                Ok(&[Same, Other(1)]),
            ),
            (
                "a loser stays if it can",
                &[(1, 60.0), (2, 88.0)],
                &[(1, 0.0, Claimed), (3, 90.0, Hidden)],
                Ok(&[Same, Other(3)]),
            ),
            (
                "a face that hid a person who comes back",
                &[(1, 0.0), (3, 90.0)],
                &[(1, 90.0, Claimed), (2, 0.0, Hidden)],
                Ok(&[Other(2), Other(1)]),
            ),
        ];
        for (case, claims, known, wanted) in cases {
            let embeddings: Vec<QuantizedEmbedding> =
                claims.iter().map(|claim| angle(claim.1)).collect();
            let claims: Vec<Claim<'_>> = claims
                .iter()
                .zip(&embeddings)
                .map(|(&(track, _), embedding)| Claim { track, embedding })
                .collect();
            let references: Vec<QuantizedEmbedding> =
                known.iter().map(|known| angle(known.1)).collect();
            let known: Vec<KnownTrack<'_>> = known
                .iter()
                .zip(&references)
                .map(|(&(track, _, holder), reference)| KnownTrack {
                    track,
                    reference,
                    holder,
                })
                .collect();
            let wanted = match *wanted {
                Ok(verdicts) => Verification::Verdicts(verdicts.to_vec()),
                Err(tracks) => Verification::Contested(tracks.iter().copied().collect()),
            };
            assert_eq!(verify(&claims, &known), wanted, "{case}");
        }
    }
}
