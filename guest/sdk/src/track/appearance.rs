//! Appearance of a face: a thumbnail that tells, without a model, whether the face of a track still
//! looks as it did when it was embedded.
//!
//! The aligned face is reduced to 8 × 8 means of luma. Alignment takes out where the face is, how
//! large and how tilted; the correlation of two thumbnails takes out brightness and contrast. It is
//! the zero-mean normalised cross-correlation of template matching (J. P. Lewis, "Fast Normalized
//! Cross-Correlation", 1995).
//!
//! A thumbnail does not identify: many people look alike in 64 numbers. It only asks for an embedding
//! when another face, or a covered one, took the place.

use serde::{Deserialize, Serialize};

use crate::image::align::{AlignedFace, SIDE};

/// Cells in each direction.
const CELLS: usize = 8;

/// The least correlation of faces that are alike. In the streams of `docs/performance.md`, after a
/// second, a person who walks is under it in 0.6 % of cases, with blur in 2.5 %, and one who sways in
/// 1 to 3 %. Another person is under it in 83 to 96 %.
const ALIKE: f32 = 0.85;

/// The least standard deviation of luma from which a thumbnail shows anything, of 255. Under it noise
/// and rounding decide.
const LEAST_CONTRAST: f32 = 2.0;

/// A thumbnail of an aligned face: 64 bytes in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appearance([[i8; CELLS]; CELLS]);

impl Appearance {
    /// Reduces a face. None if it has hardly any contrast.
    #[must_use]
    pub fn of(face: &AlignedFace) -> Option<Self> {
        let mut means = [[0.0_f32; CELLS]; CELLS];
        let cell = SIDE / CELLS;
        for (rows, means) in face.luma().chunks_exact(SIDE * cell).zip(&mut means) {
            for row in rows.chunks_exact(SIDE) {
                for (pixels, mean) in row.chunks_exact(cell).zip(&mut *means) {
                    *mean += pixels.iter().sum::<f32>() / (cell * cell) as f32;
                }
            }
        }
        Self::of_means(means)
    }

    /// Quantises the means of cells.
    fn of_means(mut cells: [[f32; CELLS]; CELLS]) -> Option<Self> {
        let count = (CELLS * CELLS) as f32;
        let mean = cells.as_flattened().iter().sum::<f32>() / count;
        let values = cells.as_flattened_mut();
        values.iter_mut().for_each(|value| *value -= mean);
        let variance = values.iter().map(|value| value * value).sum::<f32>() / count;
        // The largest number takes the whole range, because correlation has no scale.
        let largest = values
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        let scale = f32::from(i8::MAX) / largest;
        (variance.sqrt() >= LEAST_CONTRAST && scale.is_finite())
            .then(|| Self(cells.map(|row| row.map(|value| (value * scale).round() as i8))))
    }

    /// Returns the correlation with another face, -1 to 1. 0 if either has no contrast.
    #[must_use]
    pub fn correlation(&self, other: &Self) -> f32 {
        let dot = |one: &Self, other: &Self| -> i32 {
            let values = one.0.as_flattened().iter();
            let pairs = values.zip(other.0.as_flattened());
            pairs.map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
        };
        let squares = f64::from(dot(self, self)) * f64::from(dot(other, other));
        let correlation = f64::from(dot(self, other)) / squares.sqrt();
        if correlation.is_finite() {
            correlation.clamp(-1.0, 1.0) as f32
        } else {
            0.0
        }
    }

    /// Returns true if this may be the other face, in a similar pose and light.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        self.correlation(other) >= ALIKE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws an aligned face by the luma of each pixel.
    fn face(luma: impl Fn(f32, f32) -> f32) -> AlignedFace {
        let at = |index: usize| luma((index % SIDE) as f32, (index / SIDE) as f32);
        let pixels = (0..SIDE * SIDE).flat_map(|index| [at(index).round() as u8; 3]);
        AlignedFace::new(pixels.collect()).unwrap()
    }

    /// A bright ellipse with two dark eyes at a height, from 60 to 180 of 255.
    fn drawn(x: f32, y: f32, eyes: f32) -> f32 {
        let distance = |left: f32, top: f32| (x - left).hypot(y - top);
        if distance(38.0, eyes) < 10.0 || distance(74.0, eyes) < 10.0 {
            60.0
        } else if ((x - 56.0) / 45.0).hypot((y - 60.0) / 55.0) < 1.0 {
            180.0
        } else {
            100.0
        }
    }

    /// A case: the luma of each pixel, and whether the face is alike.
    type Case<'a> = (&'a str, &'a dyn Fn(f32, f32) -> f32, bool);

    #[test]
    fn correlation_tells_faces_apart() {
        let known = Appearance::of(&face(|x, y| drawn(x, y, 50.0))).unwrap();
        let cases: &[Case<'_>] = &[
            ("the same", &|x, y| drawn(x, y, 50.0), true),
            ("darker", &|x, y| 0.5 * drawn(x, y, 50.0), true),
            (
                "less contrast",
                &|x, y| 100.0 + 0.1 * drawn(x, y, 50.0),
                true,
            ),
            (
                "noisy",
                &|x, y| drawn(x, y, 50.0) + (7.0 * x * y).sin() * 20.0,
                true,
            ),
            (
                "aligned two pixels aside",
                &|x, y| drawn(x + 2.0, y, 50.0),
                true,
            ),
            ("eyes elsewhere", &|x, y| drawn(x, y, 75.0), false),
            (
                "half in the shade",
                &|x, y| if x < 56.0 { 40.0 } else { drawn(x, y, 50.0) },
                false,
            ),
            (
                "covered below the eyes",
                &|x, y| if y > 65.0 { 70.0 } else { drawn(x, y, 50.0) },
                false,
            ),
            ("inverted", &|x, y| 240.0 - drawn(x, y, 50.0), false),
        ];
        for (case, luma, wanted) in cases {
            let found = Appearance::of(&face(luma)).unwrap();
            let correlation = known.correlation(&found);
            assert_eq!(known.is_alike(&found), *wanted, "{case}: {correlation}");
            assert_eq!(correlation, found.correlation(&known), "{case}");
        }
    }

    #[test]
    fn flat_face_has_none() {
        for luma in [0.0, 128.0, 255.0] {
            assert_eq!(Appearance::of(&face(|_, _| luma)), None, "{luma}");
        }
        let noise = face(|x, y| 128.0 + (7.0 * x * y).sin());
        assert_eq!(Appearance::of(&noise), None);
    }

    /// A state may hold any numbers.
    #[test]
    fn correlation_is_finite() {
        let faces = [0, 1, i8::MIN, i8::MAX].map(|value| Appearance([[value; CELLS]; CELLS]));
        for one in &faces {
            for other in &faces {
                let found = one.correlation(other);
                assert!((-1.0..=1.0).contains(&found), "{found}");
            }
        }
        assert_eq!(faces[0].correlation(&faces[1]), 0.0);
    }

    #[test]
    fn appearance_takes_64_bytes() {
        let known = Appearance::of(&face(|x, y| drawn(x, y, 50.0))).unwrap();
        let bytes = postcard::to_allocvec(&known).unwrap();
        assert_eq!(bytes.len(), 64);
        assert_eq!(postcard::from_bytes(&bytes), Ok(known));
    }
}
