//! Two people who cross, one hiding the other.

use fastrand::Rng;

use super::world::{Seen, Stream, normal, square};
use crate::track::Observation;

const SIDE: f32 = 80.0;

/// A run of two people that cross.
struct Crossing {
    /// Frames a second.
    rate: f32,
    /// Speed of each, in sides a second.
    speeds: [f32; 2],
    /// Time in seconds for which both stand still when they meet.
    pause: f32,
}

impl Crossing {
    fn of(seed: u64) -> (Self, Rng) {
        let mut random = Rng::with_seed(seed);
        let crossing = Self {
            rate: [5.0, 10.0, 15.0, 30.0][random.usize(..4)],
            speeds: [0.6 + 2.0 * random.f32(), 0.6 + 2.0 * random.f32()],
            pause: 2.0 * random.f32() * f32::from(random.bool()),
        };
        (crossing, random)
    }

    /// Returns the place of a person in sides from the meeting, at seconds from it.
    fn place(&self, person: usize, seconds: f32) -> f32 {
        let walked = if seconds < 0.0 {
            seconds
        } else {
            (seconds - self.pause).max(0.0)
        };
        let direction = if person == 0 { 1.0 } else { -1.0 };
        direction * self.speeds[person] * walked
    }

    /// Returns the faces that the detector sees. The second person is in front: the first is hidden
    /// by more than half, and has a low score and a poor embedding while partly hidden.
    fn seen(&self, seconds: f32, random: &mut Rng) -> Vec<Seen> {
        let places = [0, 1].map(|person| self.place(person, seconds));
        let hidden = (1.0 - (places[0] - places[1]).abs()).max(0.0);
        let mut seen = Vec::new();
        for (person, place) in places.into_iter().enumerate() {
            let hidden = if person == 0 { hidden } else { 0.0 };
            if hidden > 0.5 || random.f32() < 0.02 {
                continue;
            }
            let bounds = square(
                500.0 + SIDE * place,
                300.0 + 8.0 * person as f32,
                SIDE,
                0.03,
                random,
            );
            let quality = (0.5 - 0.4 * hidden) * (1.0 + 0.1 * normal(random));
            seen.push(Seen {
                person,
                observation: Observation {
                    bounds,
                    score: if hidden > 0.15 { 0.5 } else { 0.85 },
                    quality,
                    appearance: None,
                },
                noise: 0.75 + hidden,
            });
        }
        seen
    }
}

/// Follows a run, and returns how often a face had the other person's track, and the tracks of each
/// person at the end and at the beginning.
fn follow(seed: u64) -> (usize, [u32; 2], [u32; 2]) {
    let (crossing, mut random) = Crossing::of(seed);
    let mut stream = Stream::new(2, &mut random);
    let (mut first, mut last, mut switches) = ([0; 2], [0; 2], 0);
    let half = 3.0 + crossing.pause;
    for frame in 0..(2.0 * half * crossing.rate) as u32 {
        let seconds = frame as f32 / crossing.rate - half;
        let seen = crossing.seen(seconds, &mut random);
        let time = (1_000.0 * frame as f32 / crossing.rate) as u64;
        for (person, face) in stream.frame(time, seen, &mut random).faces {
            if first[person] == 0 {
                first[person] = face.track;
            }
            last[person] = face.track;
            switches += usize::from(face.track == first[1 - person]);
        }
    }
    (switches, first, last)
}

#[test]
fn crossing_switches_no_identity() {
    for seed in 0..50 {
        let (switches, first, last) = follow(seed);
        assert_eq!((switches, last), (0, first), "seed {seed}");
    }
}
