//! Measures of a face, input for policies: [`Face::measure`](crate::policy::Face::measure) reads
//! them by name.
//!
//! They are estimates from a box, five landmarks and 112×112 pixels: good enough for limits, but
//! not precise angles.

use crate::image::align::{AlignedFace, SIDE};
use crate::image::geometry::{Landmarks, Rect};
use crate::types::Measure;

/// The measures of one face. All are finite for a box and landmarks of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// `size`: the shorter side of the box, in the pixels that the box is in.
    pub size: f32,
    /// `yaw`: the turn of the face to the side, without a unit. It is the nose's distance from the
    /// midpoint of the eyes, along the line between them, in units of half their distance. 0 faces
    /// the camera, negative is to the viewer's left. Most detected faces have -1 to 1; values are
    /// limited to -10 to 10, and 0 where the eyes coincide.
    pub yaw: f32,
    /// `roll`: the tilt of the head in degrees, clockwise for the viewer, -180 to 180: the slope of
    /// the line between the eyes.
    pub roll: f32,
    /// `brightness`: the mean luma ([`AlignedFace::luma`]) of the aligned face, 0 to 255. Pixels
    /// outside the picture do not count.
    pub brightness: f32,
    /// `sharpness`: the variance of the Laplacian of the aligned face's luma, 0 or more, in squared
    /// units of luma (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000;
    /// four neighbours, without the outermost pixels). Under about 50 a face is blurred. It falls
    /// with the size of a small face, because alignment enlarges the face.
    pub sharpness: f32,
    /// `outside`: the share of the aligned face outside the picture ([`AlignedFace::outside`]), 0
    /// to 1: 0 for a complete face.
    pub outside: f32,
}

impl Measures {
    /// Measures a face by its box and landmarks (in pixels of the same picture) and its aligned
    /// crop.
    #[must_use]
    pub fn of(bounds: &Rect, landmarks: &Landmarks, face: &AlignedFace) -> Self {
        let luma = face.luma();
        Self {
            size: bounds.shorter_side(),
            yaw: yaw(landmarks),
            roll: roll(landmarks),
            // Pixels outside add nothing to the sum. The minimum bounds the result for a face
            // almost entirely outside.
            brightness: mean(&luma) / (1.0 - face.outside()).max(0.01),
            sharpness: sharpness(&luma),
            outside: face.outside(),
        }
    }

    /// Returns the measures with the names of their fields, in a fixed order, for
    /// [`AnalyzedFace::measures`](crate::analysis::AnalyzedFace::measures).
    #[must_use]
    pub fn named(&self) -> Vec<Measure> {
        let Self {
            size,
            yaw,
            roll,
            brightness,
            sharpness,
            outside,
        } = *self;
        [
            ("size", size),
            ("yaw", yaw),
            ("roll", roll),
            ("brightness", brightness),
            ("sharpness", sharpness),
            ("outside", outside),
        ]
        .map(|(name, value)| Measure::new(name, value))
        .into()
    }
}

fn yaw([left, right, nose, ..]: &Landmarks) -> f32 {
    let (dx, dy) = (right.x - left.x, right.y - left.y);
    let square = dx * dx + dy * dy;
    if square <= f32::EPSILON {
        return 0.0;
    }
    // Along the line between the eyes, because a tilted head must not look turned.
    let along = ((nose.x - left.x) * dx + (nose.y - left.y) * dy) / square;
    (2.0 * along - 1.0).clamp(-10.0, 10.0)
}

fn roll([left, right, ..]: &Landmarks) -> f32 {
    (right.y - left.y).atan2(right.x - left.x).to_degrees()
}

fn mean(values: &[f32]) -> f32 {
    let mut sums = Sums::default();
    let (blocks, rest) = values.as_chunks::<LANES>();
    blocks.iter().for_each(|block| sums.add(block));
    (sums.totals().0 + f64::from(rest.iter().sum::<f32>())) as f32 / values.len().max(1) as f32
}

fn sharpness(luma: &[f32]) -> f32 {
    let rows: Vec<&[f32]> = luma.chunks_exact(SIDE).collect();
    let mut totals = (0.0, 0.0);
    let mut responses = [0.0; SIDE - 2];
    for rows in rows.windows(3) {
        let ([above, row, below], [_, middle @ .., _]) =
            (rows, rows.get(1).copied().unwrap_or_default())
        else {
            continue;
        };
        let neighbours = row.iter().zip(row.get(2..).unwrap_or_default());
        let vertical = above.iter().zip(*below).skip(1);
        for (((response, middle), (left, right)), (above, below)) in responses
            .iter_mut()
            .zip(middle)
            .zip(neighbours)
            .zip(vertical)
        {
            *response = left + right + above + below - 4.0 * middle;
        }
        let mut sums = Sums::default();
        let (blocks, rest) = responses.as_chunks::<LANES>();
        blocks.iter().for_each(|block| sums.add(block));
        let mut last = [0.0; LANES];
        last.iter_mut()
            .zip(rest)
            .for_each(|(last, rest)| *last = *rest);
        sums.add(&last);
        let (sum, squares) = sums.totals();
        totals = (totals.0 + sum, totals.1 + squares);
    }
    let count = (SIDE - 2).pow(2) as f64;
    (totals.1 / count - (totals.0 / count).powi(2)).max(0.0) as f32
}

/// Sums in separate lanes. One running sum would prevent vectorisation, because each addition of
/// floats waits for the previous one.
#[derive(Default)]
struct Sums {
    values: [f32; LANES],
    squares: [f32; LANES],
}

/// The number of floats in two vectors.
const LANES: usize = 8;

impl Sums {
    fn add(&mut self, values: &[f32; LANES]) {
        for ((sum, squares), value) in self.values.iter_mut().zip(&mut self.squares).zip(values) {
            *sum += value;
            *squares += value * value;
        }
    }

    /// Returns the sum of the values and the sum of their squares.
    fn totals(&self) -> (f64, f64) {
        let total = |sums: &[f32; LANES]| sums.iter().map(|sum| f64::from(*sum)).sum();
        (total(&self.values), total(&self.squares))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::align::{TEMPLATE, align};
    use crate::image::decode::Rgb;
    use crate::image::geometry::Point;

    const BOX: Rect = Rect {
        x1: 10.0,
        y1: 0.0,
        x2: 60.0,
        y2: 80.0,
    };

    fn measured(shade: impl Fn(u32, u32) -> u8) -> Measures {
        let (width, height) = (120, 120);
        let pixels = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| [shade(x, y); 3])
            .collect();
        let face = align(
            &Rgb {
                width,
                height,
                pixels,
            },
            &TEMPLATE,
        )
        .unwrap();
        Measures::of(&BOX, &TEMPLATE, &face)
    }

    #[test]
    fn brightness_and_sharpness_follow_pixels() {
        let flat = measured(|_, _| 100);
        assert_eq!((flat.size, flat.sharpness), (50.0, 0.0));
        assert!((flat.brightness - 100.0).abs() < 0.1, "{flat:?}");
        let stripes = measured(|x, _| if x % 2 == 0 { 0 } else { 200 });
        let gradient = measured(|x, _| x as u8);
        assert!(
            stripes.sharpness > 10_000.0 && gradient.sharpness < 5.0,
            "{stripes:?} {gradient:?}"
        );
    }

    /// Only the part of a face inside the picture counts.
    #[test]
    fn brightness_ignores_outside_pixels() {
        let pixels = vec![100; 3 * 120 * 60];
        let face = align(
            &Rgb {
                width: 120,
                height: 60,
                pixels,
            },
            &TEMPLATE,
        )
        .unwrap();
        let measures = Measures::of(&BOX, &TEMPLATE, &face);
        assert!(
            (measures.brightness - 100.0).abs() < 2.0
                && (measures.outside - 52.0 / 112.0).abs() < 0.01,
            "{measures:?}"
        );
    }

    #[test]
    fn yaw_and_roll_are_independent() {
        let level = yaw(&TEMPLATE);
        assert!(level.abs() < 0.05, "{level}");
        let mut turned = TEMPLATE;
        turned[2].x = turned[0].x;
        assert!((yaw(&turned) + 1.0).abs() < 0.2, "{}", yaw(&turned));
        // A quarter turn clockwise: x becomes -y.
        let tilted = TEMPLATE.map(|point| Point {
            x: -point.y,
            y: point.x,
        });
        assert!((roll(&tilted) - 90.0).abs() < 1.0 && (yaw(&tilted) - level).abs() < 1e-3);
    }

    #[test]
    fn coinciding_eyes_have_zero_yaw() {
        assert_eq!(yaw(&[Point { x: 1.0, y: 1.0 }; 5]), 0.0);
    }
}
