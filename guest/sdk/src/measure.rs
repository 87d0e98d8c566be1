//! Numbers about a face that a policy may judge it by:
//! [`Face::measure`](crate::policy::Face::measure) reads them by name.
//!
//! They are estimates from a box, five landmarks and 112×112 pixels, good for limits, not for
//! angles to be relied on.

use crate::align::{AlignedFace, SIDE};
use crate::analysis::Measure;
use crate::geometry::{Landmarks, Rect};

/// What is measured of one face. All are finite for a box and landmarks of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// `size`: the shorter side of the box, in the pixels that the box is in.
    pub size: f32,
    /// `yaw`: how far the face is turned to the side, without a unit: the nose's distance from the
    /// middle between the eyes, along the line between them, in units of half their distance. 0
    /// looks at the camera, negative to the viewer's left; -1 to 1 for most faces that a detector
    /// finds, cut to -10 to 10, and 0 where the eyes coincide.
    pub yaw: f32,
    /// `roll`: how far the head is tilted, in degrees clockwise as the viewer sees it, -180 to 180:
    /// the slope of the line between the eyes.
    pub roll: f32,
    /// `brightness`: the mean luma ([`AlignedFace::luma`]) of the aligned face, 0 to 255. What lies
    /// outside the picture does not count.
    pub brightness: f32,
    /// `sharpness`: the variance of the Laplacian of the aligned face's luma (Pech-Pacheco et al.,
    /// "Diatom autofocusing in brightfield microscopy", 2000; four neighbours, without the
    /// outermost pixels), 0 or more, in squared units of luma: under about 50 a face is blurred.
    /// Small faces are enlarged when they are aligned, so it falls with their size.
    pub sharpness: f32,
    /// `outside`: which share of the aligned face lies outside the picture
    /// ([`AlignedFace::outside`]), 0 to 1: 0 for a face that is all there.
    pub outside: f32,
}

impl Measures {
    /// Measures a face by its box, its landmarks (both in pixels of the same picture) and its
    /// aligned crop.
    #[must_use]
    pub fn of(bounds: &Rect, landmarks: &Landmarks, face: &AlignedFace) -> Self {
        let luma = face.luma();
        Self {
            size: bounds.shorter_side(),
            yaw: yaw(landmarks),
            roll: roll(landmarks),
            // What is outside adds nothing to the sum. Of a face that is hardly there brightness
            // says nothing.
            brightness: mean(&luma) / (1.0 - face.outside()).max(0.01),
            sharpness: sharpness(&luma),
            outside: face.outside(),
        }
    }

    /// Each with its name, that of its field, in a fixed order: for
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
    // Along the line between the eyes, so that a tilted head does not look turned.
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
        let beside = row.iter().zip(row.get(2..).unwrap_or_default());
        let beyond = above.iter().zip(*below).skip(1);
        for (((response, middle), (left, right)), (above, below)) in
            responses.iter_mut().zip(middle).zip(beside).zip(beyond)
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

/// Sums that are kept apart: added up one by one, floats must wait for each other, and no vector
/// can help.
#[derive(Default)]
struct Sums {
    values: [f32; LANES],
    squares: [f32; LANES],
}

/// As many as two vectors hold.
const LANES: usize = 8;

impl Sums {
    fn add(&mut self, values: &[f32; LANES]) {
        for ((sum, squares), value) in self.values.iter_mut().zip(&mut self.squares).zip(values) {
            *sum += value;
            *squares += value * value;
        }
    }

    /// The sum of values and that of their squares.
    fn totals(&self) -> (f64, f64) {
        let total = |sums: &[f32; LANES]| sums.iter().map(|sum| f64::from(*sum)).sum();
        (total(&self.values), total(&self.squares))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::{TEMPLATE, align};
    use crate::decode::Rgb;
    use crate::geometry::Point;

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
    fn brightness_and_sharpness_follow_the_pixels() {
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

    /// A face beyond the picture's edge is as bright as the part of it that is there.
    #[test]
    fn brightness_ignores_what_is_outside() {
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
    fn yaw_and_roll_are_told_apart() {
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
    fn eyes_that_coincide_measure_as_straight() {
        assert_eq!(yaw(&[Point { x: 1.0, y: 1.0 }; 5]), 0.0);
    }
}
