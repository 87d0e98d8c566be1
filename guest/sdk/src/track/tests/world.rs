//! Simulated people: boxes with noise, and embeddings as points around a direction.

use fastrand::Rng;

use crate::detect::embed::normalized;
use crate::image::geometry::Rect;
use crate::track::{Observation, TrackedFace, Tracker};

/// Length of simulated embeddings. Two directions have a similarity of 0 ± 0.06.
const DIMENSION: usize = 256;

/// The limit of state that the host has by default.
pub(super) const LIMIT: usize = 256 * 1024;

/// The detection threshold.
pub(super) const THRESHOLD: f32 = 0.7;

/// A face that the detector sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) person: usize,
    pub(super) observation: Observation,
    /// Length of the noise on its embedding; that of the direction is 1.
    pub(super) noise: f32,
}

/// A stream with a tracker. Its state is stored between frames.
#[derive(Debug)]
pub(super) struct Stream {
    people: Vec<Vec<f32>>,
    state: Vec<u8>,
}

/// The answer for a frame.
#[derive(Debug)]
pub(super) struct Frame {
    /// Each face with its person.
    pub(super) faces: Vec<(usize, TrackedFace)>,
    /// How many faces were embedded.
    pub(super) embedded: usize,
    /// The tracks that are kept.
    pub(super) tracks: Vec<u32>,
}

impl Stream {
    pub(super) fn new(people: usize, random: &mut Rng) -> Self {
        let directions = (0..people).map(|_| direction(random));
        Self {
            people: directions.collect(),
            state: Vec::new(),
        }
    }

    /// Tracks a frame's faces, in any order.
    pub(super) fn frame(&mut self, time_ms: u64, mut seen: Vec<Seen>, random: &mut Rng) -> Frame {
        random.shuffle(&mut seen);
        let mut tracker = Tracker::from_bytes(&self.state);
        let observations: Vec<Observation> = seen.iter().map(|seen| seen.observation).collect();
        let mut due = tracker.update(time_ms, THRESHOLD, &observations);
        let mut embedded = 0;
        while !due.is_empty() {
            embedded += due.len();
            let embeddings: Vec<(usize, Vec<f32>)> = due
                .iter()
                .map(|&index| (index, self.embedding(&seen[index], random)))
                .collect();
            due = tracker.embedded(&embeddings);
        }
        self.state = tracker.to_bytes(LIMIT);
        let faces = tracker.faces();
        Frame {
            faces: faces
                .iter()
                .map(|face| (seen[face.observation].person, *face))
                .collect(),
            embedded,
            tracks: tracker.tracks().collect(),
        }
    }

    fn embedding(&self, seen: &Seen, random: &mut Rng) -> Vec<f32> {
        let noise = direction(random);
        self.people[seen.person]
            .iter()
            .zip(noise)
            .map(|(value, noise)| 20.0 * (value + seen.noise * noise))
            .collect()
    }
}

/// Returns a square of this side, displaced by noise of a share of it.
pub(super) fn square(x: f32, y: f32, side: f32, noise: f32, random: &mut Rng) -> Rect {
    let mut edge = |at: f32| at + noise * side * normal(random);
    Rect {
        x1: edge(x - side / 2.0),
        y1: edge(y - side / 2.0),
        x2: edge(x + side / 2.0),
        y2: edge(y + side / 2.0),
    }
}

fn direction(random: &mut Rng) -> Vec<f32> {
    let numbers: Vec<f32> = (0..DIMENSION).map(|_| normal(random)).collect();
    normalized(&numbers).unwrap()
}

/// Returns a number of the normal distribution (Box and Muller).
pub(super) fn normal(random: &mut Rng) -> f32 {
    let (radius, angle) = (1.0 - random.f32(), std::f32::consts::TAU * random.f32());
    (-2.0 * radius.ln()).sqrt() * angle.cos()
}
