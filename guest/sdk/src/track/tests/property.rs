//! State and observations of any content.

use proptest::collection::vec;
use proptest::num::f32::ANY;
use proptest::prelude::*;

use super::appearance::striped;
use crate::image::geometry::Rect;
use crate::policy::Candidate;
use crate::policy::decide::Rule;
use crate::track::{Ballot, MAX_TRACKS, Observation, Tracker, Votes};

fn observation() -> impl Strategy<Value = Observation> {
    let edge = || prop_oneof![9 => -100.0..2_000.0_f32, 1 => ANY];
    let number = || prop_oneof![9 => 0.0..1.0_f32, 1 => ANY];
    let stripes = prop::option::of(14..57_usize);
    (edge(), edge(), edge(), edge(), number(), number(), stripes).prop_map(
        |(x1, y1, x2, y2, score, quality, stripes)| Observation {
            bounds: Rect { x1, y1, x2, y2 },
            score,
            quality,
            appearance: stripes.map(striped),
        },
    )
}

/// Returns a tracker of this many people, each with an embedding of 512 numbers.
fn tracker(people: usize) -> Tracker {
    let mut tracker = Tracker::default();
    let observations: Vec<Observation> = (0..people)
        .map(|person| {
            let (x, y) = ((person % 40) as f32 * 50.0, (person / 40) as f32 * 50.0);
            Observation {
                bounds: Rect {
                    x1: x,
                    y1: y,
                    x2: x + 20.0,
                    y2: y + 25.0,
                },
                score: 0.9,
                quality: 0.5,
                appearance: Some(striped(14)),
            }
        })
        .collect();
    let due = tracker.update(0, 0.7, &observations);
    let embedding = |person: usize| {
        let mut random = fastrand::Rng::with_seed(person as u64);
        (0..512).map(|_| random.f32() - 0.5).collect()
    };
    let embeddings: Vec<(usize, Vec<f32>)> = due
        .iter()
        .map(|&person| (person, embedding(person)))
        .collect();
    assert!(tracker.embedded(&embeddings).is_empty());
    tracker
}

#[test]
fn tracker_fits_limit() {
    let full = tracker(MAX_TRACKS);
    for (limit, wanted) in [
        (256 * 1024, MAX_TRACKS),
        (20_000, 100),
        (100, 1),
        (9, 0),
        (0, 0),
    ] {
        let bytes = full.to_bytes(limit);
        assert!(bytes.len() <= limit, "{limit}: {}", bytes.len());
        let kept = Tracker::from_bytes(&bytes).tracks().count();
        assert!(kept >= wanted, "{limit}: {kept}");
    }
    let bytes = tracker(30).to_bytes(256 * 1024);
    assert!(bytes.len() < 30 * 650, "{}", bytes.len());
    assert_eq!(Tracker::from_bytes(&bytes).to_bytes(256 * 1024), bytes);
}

#[test]
fn votes_fit_limit() {
    let candidates: Vec<Candidate> = (0..8)
        .map(|person| Candidate {
            id: format!("person {person}"),
            similarity: 0.5,
        })
        .collect();
    let ballots: Vec<Ballot<'_>> = (1..=MAX_TRACKS as u32)
        .map(|track| Ballot {
            track,
            is_fresh: true,
            weight: 0.5,
            candidates: &candidates,
        })
        .collect();
    let mut votes = Votes::default();
    assert_eq!(
        votes.decide(0, Rule::plain(0.4), &ballots).len(),
        MAX_TRACKS
    );
    let bytes = votes.to_bytes(256 * 1024);
    assert!(bytes.len() < 160 * MAX_TRACKS, "{}", bytes.len());
    assert_eq!(Votes::from_bytes(&bytes), votes);
    for limit in [20_000, 100, 9, 0] {
        let bytes = votes.to_bytes(limit);
        assert!(bytes.len() <= limit, "{limit}: {}", bytes.len());
    }
}

proptest! {
    #[test]
    fn damaged_state_is_empty(byte: prop::sample::Index, bit in 0..8_u32, cut: prop::sample::Index) {
        let bytes = tracker(3).to_bytes(256 * 1024);
        let mut flipped = bytes.clone();
        flipped[byte.index(bytes.len())] ^= 1 << bit;
        prop_assert_eq!(Tracker::from_bytes(&flipped), Tracker::default());
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert_eq!(Tracker::from_bytes(cut), Tracker::default());
        prop_assert_eq!(Votes::from_bytes(cut), Votes::default());
    }

    #[test]
    fn any_bytes_are_empty_state(bytes: Vec<u8>) {
        prop_assert_eq!(Tracker::from_bytes(&bytes), Tracker::default());
        prop_assert_eq!(Votes::from_bytes(&bytes), Votes::default());
    }

    /// Each frame has each track once, and its state can be read.
    #[test]
    fn any_frames_are_tracked(
        frames in vec((any::<u64>(), vec(observation(), 0..12), vec(ANY, 3)), 1..6)
    ) {
        let mut tracker = Tracker::default();
        for (time, observations, embedding) in frames {
            let mut due = tracker.update(time, 0.5, &observations);
            while !due.is_empty() {
                let embeddings: Vec<(usize, Vec<f32>)> =
                    due.iter().map(|&index| (index, embedding.clone())).collect();
                due = tracker.embedded(&embeddings);
            }
            let faces = tracker.faces();
            let tracks: std::collections::BTreeSet<u32> =
                faces.iter().map(|face| face.track).collect();
            prop_assert_eq!(tracks.len(), faces.len());
            let kept: Vec<u32> = tracker.tracks().collect();
            prop_assert!(tracks.iter().all(|track| kept.contains(track)));
            let read = Tracker::from_bytes(&tracker.to_bytes(256 * 1024));
            prop_assert_eq!(read.tracks().count(), kept.len());
            tracker = read;
        }
    }

    /// No person is given to two tracks, and the state can be read.
    #[test]
    fn any_votes_are_decided(
        frames in vec(
            (any::<u64>(), vec((0..4_u32, any::<bool>(), ANY, vec(ANY, 0..4)), 0..6)),
            1..6,
        )
    ) {
        let mut votes = Votes::default();
        for (time, faces) in frames {
            let candidates: Vec<Vec<Candidate>> = faces
                .iter()
                .map(|(.., similarities)| {
                    let candidate = |(person, &similarity): (usize, &f32)| Candidate {
                        id: person.to_string(),
                        similarity,
                    };
                    similarities.iter().enumerate().map(candidate).collect()
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
            let decisions = votes.decide(time, Rule::against_rivals(0.5), &ballots);
            prop_assert_eq!(decisions.len(), ballots.len());
            let read = Votes::from_bytes(&votes.to_bytes(256 * 1024));
            prop_assert_eq!(&read.to_bytes(256 * 1024), &votes.to_bytes(256 * 1024));
            votes = read;
        }
    }
}
