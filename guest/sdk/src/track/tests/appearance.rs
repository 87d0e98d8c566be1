//! Faces that change at their place.

use fastrand::Rng;

use super::world::{Seen, Stream, square};
use crate::image::align::{AlignedFace, SIDE};
use crate::track::{Appearance, Observation};

/// Frames a second.
const RATE: u64 = 10;

/// Returns the appearance of stripes of a width in pixels.
pub(super) fn striped(width: usize) -> Appearance {
    let at = |index: usize| 60 + 120 * ((index % SIDE) / width % 2) as u8;
    let pixels = (0..SIDE * SIDE).flat_map(|index| [at(index); 3]);
    Appearance::of(&AlignedFace::new(pixels.collect()).unwrap()).unwrap()
}

/// A person and the width of their stripes.
type Shown = (usize, usize);

/// Shows one face for thirty seconds, and then others at its place. Returns how many frames after the
/// first of them a face was embedded, and the number of tracks.
fn frames_until_embedded(later: impl Fn(u64) -> Shown) -> (Option<u64>, usize) {
    let mut random = Rng::with_seed(13);
    let mut stream = Stream::new(2, &mut random);
    let (begin, end) = (30 * RATE, 34 * RATE);
    let mut embedded = None;
    let mut tracks = 0;
    for frame in 0..end {
        let (person, stripes) = match frame.checked_sub(begin) {
            Some(later_frame) => later(later_frame),
            None => (0, 14),
        };
        let seen = Seen {
            person,
            observation: Observation {
                bounds: square(300.0, 300.0, 80.0, 0.02, &mut random),
                score: 0.9,
                quality: 0.5,
                appearance: Some(striped(stripes)),
            },
            noise: 0.8,
        };
        let answer = stream.frame(frame * 1_000 / RATE, vec![seen], &mut random);
        if frame >= begin && answer.embedded > 0 {
            embedded = embedded.or(Some(frame - begin));
        }
        tracks = answer.tracks.len();
    }
    (embedded, tracks)
}

/// A case: what is shown by the frame after thirty seconds, the frame that is embedded, and the number
/// of tracks.
type Case<'a> = (&'a str, &'a dyn Fn(u64) -> Shown, (Option<u64>, usize));

#[test]
fn changed_face_is_embedded() {
    let cases: &[Case<'_>] = &[
        ("the same face", &|_| (0, 14), (None, 1)),
        ("another person", &|_| (1, 28), (Some(6), 2)),
        ("the same person, turned away", &|_| (0, 28), (Some(6), 1)),
        (
            "a hand for half a second",
            &|frame| (0, if frame < 5 { 28 } else { 14 }),
            (None, 1),
        ),
    ];
    for (case, later, wanted) in cases {
        assert_eq!(frames_until_embedded(later), *wanted, "{case}");
    }
}
