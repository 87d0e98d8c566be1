//! Simulation of a face at a distance from the camera.
//!
//! People are enrolled from near and recognised at a distance, and the embeddings of a face differ
//! between both. A template that combines them is nearer to either. So enrolment also embeds each
//! face as from a distance, which costs nothing at recognition. The recipe is Rostro's own, not
//! insightface's, and was measured (`docs/performance.md` in Rostro's repository).

use super::resize::resize;
use crate::image::align::{AlignedFace, SIDE};

/// Standard deviation of the blur in pixels of the aligned face.
const SIGMA: f32 = 2.0;

/// Taps of the blur to each side: three standard deviations.
const REACH: usize = 6;

/// Side in pixels of a face in the back row.
const SMALL: usize = 32;

/// Returns the face as a distant camera would see it, 112×112 again: blurred as by a lens, and
/// reduced as by a sensor. The blur is a Gaussian of σ = 2 pixels. The reduction takes means of
/// areas down to 32×32 and enlarges them bilinearly.
///
/// [`near_and_far`](crate::embed::near_and_far) combines their embeddings with the face's own.
#[must_use]
pub fn simulate_distance(face: &AlignedFace) -> [AlignedFace; 2] {
    [blur(face), reduce_resolution(face)]
}

/// Applies a Gaussian blur; pixels beyond the edge are mirrored at it.
fn blur(face: &AlignedFace) -> AlignedFace {
    let across = convolve(face.pixels(), |row, column, offset| {
        (row, mirror(column, offset))
    });
    AlignedFace::from_pixels(convolve(&across, |row, column, offset| {
        (mirror(row, offset), column)
    }))
}

/// Returns the position `offset` − [`REACH`] from `at`, mirrored at the edges without a repetition
/// of the edge itself.
fn mirror(at: usize, offset: usize) -> usize {
    let last = SIDE - 1;
    let position = (at + offset).abs_diff(REACH);
    if position > last {
        2 * last - position
    } else {
        position
    }
}

fn convolve(pixels: &[u8], source: impl Fn(usize, usize, usize) -> (usize, usize)) -> Vec<u8> {
    let weights: [f32; 2 * REACH + 1] = std::array::from_fn(|offset| {
        let distance = offset as f32 - REACH as f32;
        (-distance * distance / (2.0 * SIGMA * SIGMA)).exp()
    });
    let total: f32 = weights.iter().sum();
    let rgb = pixels.as_chunks::<3>().0;
    let mut out = Vec::with_capacity(pixels.len());
    for row in 0..SIDE {
        for column in 0..SIDE {
            let mut sum = [0.0_f32; 3];
            for (offset, weight) in weights.iter().enumerate() {
                let (row, column) = source(row, column, offset);
                let pixel = rgb.get(row * SIDE + column).copied().unwrap_or_default();
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += weight * f32::from(value);
                }
            }
            out.extend(sum.map(|sum| (sum / total).round() as u8));
        }
    }
    out
}

/// Shrinks by the mean of the pixels under each target pixel, and enlarges again bilinearly.
fn reduce_resolution(face: &AlignedFace) -> AlignedFace {
    let rgb = face.pixels().as_chunks::<3>().0;
    let factor = SIDE as f32 / SMALL as f32;
    // The pixels that one target pixel covers along an axis, and the share of each.
    let covered = |index: usize| {
        let (from, to) = (index as f32 * factor, (index + 1) as f32 * factor);
        (from as usize..(to.ceil() as usize).min(SIDE))
            .map(move |pixel| (pixel, to.min(pixel as f32 + 1.0) - from.max(pixel as f32)))
    };
    let mut small = Vec::with_capacity(3 * SMALL * SMALL);
    for row in 0..SMALL {
        for column in 0..SMALL {
            let mut sum = [0.0_f32; 3];
            for (row, high) in covered(row) {
                for (column, wide) in covered(column) {
                    let pixel = rgb.get(row * SIDE + column).copied().unwrap_or_default();
                    for (sum, value) in sum.iter_mut().zip(pixel) {
                        *sum += high * wide * f32::from(value);
                    }
                }
            }
            small.extend(sum.map(|sum| (sum / (factor * factor)).round() as u8));
        }
    }
    let mut pixels = Vec::with_capacity(3 * SIDE * SIDE);
    resize(&small, (SMALL, SMALL), (SIDE, SIDE), |_, row| {
        pixels.extend_from_slice(row)
    });
    AlignedFace::from_pixels(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::align::{TEMPLATE, align};
    use crate::image::decode::Rgb;
    use crate::image::geometry::Rect;
    use crate::policy::measure::Measures;

    fn face(shade: impl Fn(u32, u32) -> u8) -> AlignedFace {
        let (width, height) = (120, 120);
        let pixels = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| [shade(x, y); 3])
            .collect();
        align(
            &Rgb {
                width,
                height,
                pixels,
            },
            &TEMPLATE,
        )
        .unwrap()
    }

    fn sharpness(face: &AlignedFace) -> f32 {
        Measures::of(
            &Rect {
                x1: 0.0,
                y1: 0.0,
                x2: 1.0,
                y2: 1.0,
            },
            &TEMPLATE,
            face,
        )
        .sharpness
    }

    #[test]
    fn distance_removes_detail_only() {
        for soft in simulate_distance(&face(|_, _| 90)) {
            assert!(soft.pixels().iter().all(|&value| value == 90));
        }
        let stripes = face(|x, _| if x % 4 < 2 { 0 } else { 200 });
        for soft in simulate_distance(&stripes) {
            assert_eq!(soft.pixels().len(), stripes.pixels().len());
            assert!(
                sharpness(&soft) * 10.0 < sharpness(&stripes),
                "{} of {}",
                sharpness(&soft),
                sharpness(&stripes)
            );
        }
    }

    #[test]
    fn distance_keeps_positions() {
        let slope = face(|x, _| (2 * x) as u8);
        for soft in simulate_distance(&slope) {
            let inner = |face: &AlignedFace| {
                face.pixels()[3 * (50 * SIDE + 20)..3 * (50 * SIDE + 90)].to_vec()
            };
            let shift = inner(&slope)
                .iter()
                .zip(inner(&soft))
                .map(|(a, b)| a.abs_diff(b))
                .max();
            assert!(shift <= Some(1), "{shift:?}");
        }
    }

    #[test]
    fn mirror_does_not_repeat_edge() {
        assert_eq!(
            [mirror(0, 0), mirror(0, REACH - 1), mirror(0, REACH)],
            [6, 1, 0]
        );
        assert_eq!(
            [mirror(SIDE - 1, REACH + 1), mirror(SIDE - 1, 2 * REACH)],
            [SIDE - 2, SIDE - 1 - REACH]
        );
    }
}
