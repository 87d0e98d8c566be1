//! Cases of votes.

use crate::policy::decide::Rule;
use crate::policy::{Candidate, Decision};
use crate::track::{Ballot, Votes};

/// A face of a frame: its track, whether it is fresh, its weight, and its candidates.
type Face<'a> = (u32, bool, f32, &'a [(&'a str, f32)]);

/// Decides a frame, and returns the names or codes.
fn decide(votes: &mut Votes, time_ms: u64, faces: &[Face<'_>]) -> Vec<String> {
    let candidates: Vec<Vec<Candidate>> = faces
        .iter()
        .map(|(.., candidates)| {
            let candidate = |&(id, similarity): &(&str, f32)| Candidate {
                id: id.to_owned(),
                similarity,
            };
            candidates.iter().map(candidate).collect()
        })
        .collect();
    let ballots: Vec<Ballot<'_>> = faces
        .iter()
        .zip(&candidates)
        .map(|(&(track, is_fresh, weight, _), candidates)| Ballot {
            track,
            is_fresh,
            weight,
            candidates,
        })
        .collect();
    let decisions = votes.decide(time_ms, Rule::against_rivals(0.5), &ballots);
    decisions
        .into_iter()
        .zip(&candidates)
        .map(|(decision, candidates)| match decision {
            Decision::Known { candidate, .. } => candidates[candidate].id.clone(),
            Decision::Unknown(code) => code.into_owned(),
        })
        .collect()
}

/// Each frame has the similarities to `a` and `b` of a fresh embedding, or none.
type Case<'a> = (&'a str, &'a [Option<(f32, f32)>], &'a [&'a str]);

#[test]
fn votes_name_track() {
    let cases: &[Case<'_>] = &[
        ("clear at once", &[Some((0.7, 0.1))], &["a"]),
        (
            "narrow, until votes agree",
            &[Some((0.55, 0.1)); 5],
            &["unconfirmed", "unconfirmed", "unconfirmed", "a", "a"],
        ),
        (
            "narrow, with another person near",
            &[Some((0.55, 0.42)); 8],
            &[
                "unconfirmed",
                "unconfirmed",
                "unconfirmed",
                "ambiguous",
                "ambiguous",
                "ambiguous",
                "ambiguous",
                "ambiguous",
            ],
        ),
        (
            "clear, with another person near",
            &[Some((0.65, 0.52)); 4],
            &["ambiguous", "ambiguous", "a", "a"],
        ),
        (
            "a name is held though another person gets near",
            &[Some((0.62, 0.2)), Some((0.62, 0.6)), Some((0.62, 0.6))],
            &["a", "a", "a"],
        ),
        (
            "a stranger, seen twice",
            &[Some((0.3, 0.1)); 2],
            &["unconfirmed", "below_threshold"],
        ),
        (
            "a stranger in frames without embeddings is seen once",
            &[Some((0.3, 0.1)), None, None],
            &["unconfirmed", "unconfirmed", "unconfirmed"],
        ),
        (
            "a stranger, like a person in one frame",
            &[Some((0.3, 0.1)), Some((0.58, 0.1)), Some((0.3, 0.1))],
            &["unconfirmed", "below_threshold", "below_threshold"],
        ),
        (
            "a name is held without embeddings",
            &[Some((0.7, 0.1)), None, None],
            &["a", "a", "a"],
        ),
        (
            "a name is held through a weak frame",
            &[Some((0.7, 0.1)), Some((0.7, 0.1)), Some((0.3, 0.1))],
            &["a", "a", "a"],
        ),
        (
            "a name is lost to another person",
            &[
                Some((0.7, 0.1)),
                Some((0.1, 0.7)),
                Some((0.1, 0.7)),
                Some((0.1, 0.7)),
            ],
            &["a", "below_threshold", "unconfirmed", "b"],
        ),
        ("a tie", &[Some((0.7, 0.7)); 2], &["ambiguous", "ambiguous"]),
        (
            "a rival nearly as similar",
            &[Some((0.52, 0.51)); 6],
            &[
                "unconfirmed",
                "unconfirmed",
                "unconfirmed",
                "unconfirmed",
                "unconfirmed",
                "ambiguous",
            ],
        ),
    ];
    for (case, frames, wanted) in cases {
        let mut votes = Votes::default();
        let mut last = (0.0, 0.0);
        let mut found = Vec::new();
        for (frame, similarities) in (0..).zip(*frames) {
            last = similarities.unwrap_or(last);
            let candidates = [("a", last.0), ("b", last.1)];
            let face = (1, similarities.is_some(), 0.5, &candidates[..]);
            found.extend(decide(&mut votes, 100 * frame, &[face]));
        }
        assert_eq!(found, *wanted, "{case}");
    }
}

#[test]
fn poor_faces_weigh_less() {
    for (weight, wanted) in [(0.5, "below_threshold"), (0.02, "a"), (f32::NAN, "a")] {
        let mut votes = Votes::default();
        assert_eq!(
            decide(&mut votes, 0, &[(1, true, 0.5, &[("a", 0.7)])]),
            ["a"]
        );
        let poor = [(1, true, weight, &[("a", 0.1)][..])];
        assert_eq!(decide(&mut votes, 100, &poor), [wanted], "{weight}");
    }
}

#[test]
fn person_has_one_track() {
    let mut votes = Votes::default();
    let faces: [Face<'_>; 2] = [
        (1, true, 0.5, &[("a", 0.7)]),
        (2, true, 0.5, &[("a", 0.85)]),
    ];
    assert_eq!(decide(&mut votes, 0, &faces), ["already_matched", "a"]);
    // The same track twice is a mistake of the caller, and still one person.
    let twice: [Face<'_>; 2] = [(3, true, 0.5, &[("b", 0.7)]), (3, true, 0.5, &[("b", 0.8)])];
    assert_eq!(decide(&mut votes, 0, &twice), ["already_matched", "b"]);
}

/// A deleted person is no candidate.
#[test]
fn only_candidates_are_named() {
    let mut votes = Votes::default();
    assert_eq!(
        decide(&mut votes, 0, &[(1, true, 0.5, &[("a", 0.7), ("b", 0.2)])]),
        ["a"]
    );
    assert_eq!(
        decide(&mut votes, 1, &[(1, false, 0.5, &[("b", 0.2)])]),
        ["unconfirmed"]
    );
    assert_eq!(
        decide(&mut votes, 2, &[(1, false, 0.5, &[])]),
        ["no_candidates"]
    );
}

/// The last embedding of a track votes if the state was dropped.
#[test]
fn dropped_state_takes_last_embedding() {
    let face: Face<'_> = (1, false, 0.5, &[("a", 0.7)]);
    assert_eq!(decide(&mut Votes::default(), 0, &[face]), ["a"]);
}

#[test]
fn votes_end_after_a_minute() {
    for (seconds, wanted) in [(59, "below_threshold"), (61, "unconfirmed")] {
        let mut votes = Votes::default();
        let stranger: Face<'_> = (1, true, 0.5, &[("a", 0.3)]);
        decide(&mut votes, 0, &[stranger]);
        // Frames without the track.
        decide(&mut votes, 1_000 * seconds, &[]);
        let found = decide(&mut votes, 1_000 * seconds, &[stranger]);
        assert_eq!(found, [wanted], "{seconds}");
    }
}

/// A person without an earlier vote was at most as similar as its last candidate.
#[test]
fn late_candidates_begin_low() {
    let mut votes = Votes::default();
    let first: Face<'_> = (1, true, 0.5, &[("a", 0.35), ("b", 0.3)]);
    let later: Face<'_> = (1, true, 0.5, &[("c", 0.7), ("a", 0.35)]);
    let found: Vec<String> = (0..4)
        .flat_map(|frame| decide(&mut votes, frame, &[if frame == 0 { first } else { later }]))
        .collect();
    assert_eq!(found, ["unconfirmed", "unconfirmed", "c", "c"]);
}

/// A gallery of one person has no other person to lead.
#[test]
fn only_person_needs_no_lead() {
    let mut votes = Votes::default();
    for frame in 0..6 {
        let found = decide(&mut votes, 100 * frame, &[(1, true, 0.5, &[("a", 0.55)])]);
        let wanted = if frame < 3 { "unconfirmed" } else { "a" };
        assert_eq!(found, [wanted], "{frame}");
    }
}
