//! Thirty people who sit, and people who come and go.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::world::{Frame, Seen, Stream, normal, square};
use crate::track::Observation;

/// Returns the faces of seated people at a time in seconds: rows of six, two and a half sides apart.
/// They sway by a fifth of a side, turn, and 2 % are not detected.
fn seated(people: usize, seconds: f32, random: &mut Rng) -> Vec<Seen> {
    let mut seen = Vec::new();
    for person in 0..people {
        let (column, row) = ((person % 6) as f32, (person / 6) as f32);
        let side = 60.0 - 6.0 * row;
        let sway = (seconds * (0.5 + 0.05 * person as f32) + person as f32).sin();
        if random.f32() < 0.02 {
            continue;
        }
        let x = 200.0 + 150.0 * column + 0.2 * side * sway;
        let bounds = square(x, 600.0 - 100.0 * row, side, 0.03, random);
        let turn = 1.0 - 0.3 * (0.3 * seconds + person as f32).sin().max(0.0);
        seen.push(Seen {
            person,
            observation: Observation {
                bounds,
                score: 0.85,
                quality: 0.5 * turn * (1.0 + 0.1 * normal(random)),
                appearance: None,
            },
            noise: 0.8,
        });
    }
    seen
}

/// Length of the streams of a class.
const SECONDS: u32 = 20;

/// Returns the share of faces that are embedded after this many seconds, in a stream of
/// thirty people. Each must keep one track.
fn share_embedded(frames_per_second: u32, settled: u32) -> f32 {
    let mut random = Rng::with_seed(7);
    let mut stream = Stream::new(30, &mut random);
    let (mut embedded, mut faces) = (0, 0);
    let mut tracks = BTreeSet::new();
    for frame in 0..SECONDS * frames_per_second {
        let seen = seated(30, frame as f32 / frames_per_second as f32, &mut random);
        let count = seen.len();
        let time = u64::from(frame) * 1_000 / u64::from(frames_per_second);
        let answer = stream.frame(time, seen, &mut random);
        assert_eq!(answer.faces.len(), count);
        tracks.extend(
            answer
                .faces
                .iter()
                .map(|(person, face)| (*person, face.track)),
        );
        if frame >= settled * frames_per_second {
            embedded += answer.embedded;
            faces += count;
        }
    }
    let people: BTreeSet<u32> = tracks.iter().map(|(_, track)| *track).collect();
    assert_eq!((tracks.len(), people.len()), (30, 30), "{tracks:?}");
    embedded as f32 / faces as f32
}

#[test]
fn seated_class_needs_few_embeddings() {
    let cases = [(30, 1, 0.05), (10, 1, 0.1), (1, 6, 0.5)];
    for (rate, settled, most) in cases {
        let share = share_embedded(rate, settled);
        println!("{rate} frames a second: {share:.3} of faces embedded");
        assert!(share < most, "{rate} frames a second: {share}");
    }
}

/// The embeddings of a class that was first seen in one frame do not come in one frame again.
#[test]
fn checks_are_spread() {
    let mut random = Rng::with_seed(3);
    let mut stream = Stream::new(30, &mut random);
    let embedded: Vec<usize> = (0..200)
        .map(|frame| {
            let seen = seated(30, 0.1 * frame as f32, &mut random);
            stream.frame(100 * frame, seen, &mut random).embedded
        })
        .collect();
    let most = embedded[40..].iter().max().unwrap();
    assert!(*most <= 8, "{embedded:?}");
}

fn numbers(frame: &Frame) -> Vec<(usize, u32, bool)> {
    let mut faces: Vec<(usize, u32, bool)> = frame
        .faces
        .iter()
        .map(|(person, face)| (*person, face.track, face.is_new))
        .collect();
    faces.sort_unstable();
    faces
}

/// One person stays; another comes, leaves, comes back elsewhere within a minute, and then stays
/// away.
#[test]
fn people_come_and_go() {
    let mut random = Rng::with_seed(5);
    let mut stream = Stream::new(2, &mut random);
    let mut at = |seconds: u64, places: &[f32]| {
        let seen = places.iter().enumerate().map(|(person, &x)| Seen {
            person,
            observation: Observation {
                bounds: square(x, 100.0, 60.0, 0.02, &mut random),
                score: 0.9,
                quality: 0.5,
                appearance: None,
            },
            noise: 0.5,
        });
        let seen = seen.collect();
        stream.frame(1_000 * seconds, seen, &mut random)
    };
    assert_eq!(numbers(&at(0, &[100.0])), [(0, 1, true)]);
    assert_eq!(
        numbers(&at(1, &[100.0, 900.0])),
        [(0, 1, false), (1, 2, true)]
    );
    assert_eq!(
        numbers(&at(2, &[100.0, 900.0])),
        [(0, 1, false), (1, 2, false)]
    );
    for seconds in 3..30 {
        assert_eq!(numbers(&at(seconds, &[100.0])), [(0, 1, false)]);
    }
    let back = at(30, &[100.0, 500.0]);
    assert_eq!(numbers(&back), [(0, 1, false), (1, 2, false)]);
    assert!(
        back.faces
            .iter()
            .any(|(person, face)| *person == 1 && face.is_fresh)
    );
    let mut last = Vec::new();
    for seconds in 31..100 {
        last = at(seconds, &[100.0]).tracks;
    }
    assert_eq!(last, [1]);
    let late = numbers(&at(100, &[100.0, 900.0]));
    assert_eq!((late[0], late[1].2), ((0, 1, false), true));
}

/// Seated people keep their tracks through frames that are far apart, and are verified.
#[test]
fn far_frames_are_verified() {
    let mut random = Rng::with_seed(9);
    let mut stream = Stream::new(12, &mut random);
    for frame in 0..10 {
        let seen = seated(12, 20.0 * frame as f32, &mut random);
        let count = seen.len();
        let answer = stream.frame(20_000 * frame, seen, &mut random);
        assert_eq!(answer.embedded, count);
    }
    assert_eq!(
        stream.frame(200_000, Vec::new(), &mut random).tracks.len(),
        12
    );
}

/// A person who walks by keeps one track, at any rate at which the next frame can tell.
#[test]
fn walker_keeps_track() {
    let cases = [(30, 5.0), (10, 4.0), (5, 3.0), (2, 3.0), (1, 2.0)];
    for (rate, speed) in cases {
        let mut random = Rng::with_seed(11);
        let mut stream = Stream::new(1, &mut random);
        for frame in 0..10 * rate {
            let x = 60.0 * speed * frame as f32 / rate as f32;
            let seen = Seen {
                person: 0,
                observation: Observation {
                    bounds: square(x, 100.0, 60.0, 0.03, &mut random),
                    score: 0.85,
                    quality: 0.5,
                    appearance: None,
                },
                noise: 0.8,
            };
            let answer = stream.frame(1_000 * frame / rate, vec![seen], &mut random);
            assert_eq!(answer.tracks, [1], "{rate} frames a second, frame {frame}");
        }
    }
}
