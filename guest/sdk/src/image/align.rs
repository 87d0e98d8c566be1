//! Alignment of a face for a recogniser by five landmarks, as `norm_crop` of insightface's
//! `face_align`.

use crate::detect::tensor::shuffle::{BLOCK, deinterleave};
use crate::detect::tensor::{Normalization, planes};
use crate::image::decode::Rgb;
use crate::image::geometry::{Landmarks, Point};
use crate::image::vector::{I16x8, I32x4};

/// Width and height of an aligned face in pixels.
pub const SIDE: usize = 112;

/// Landmarks of ArcFace's training faces, in pixels of the 112×112 crop (Deng et al., "ArcFace",
/// 2019; `arcface_dst` in insightface's `face_align`). A template of landmarks, not of a person.
pub const TEMPLATE: Landmarks = [
    Point {
        x: 38.2946,
        y: 51.6963,
    },
    Point {
        x: 73.5318,
        y: 51.5014,
    },
    Point {
        x: 56.0252,
        y: 71.7366,
    },
    Point {
        x: 41.5493,
        y: 92.3655,
    },
    Point {
        x: 70.7299,
        y: 92.2041,
    },
];

/// A similarity transform of the plane, in 64 bits: rotation, uniform scale and shift. It maps (x,
/// y) to (a·x − b·y + tx, b·x + a·y + ty).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    a: f64,
    b: f64,
    tx: f64,
    ty: f64,
}

impl Similarity {
    /// Fits the transform of `from` to `to` by least squares (Umeyama, "Least-Squares Estimation of
    /// Transformation Parameters Between Two Point Patterns", 1991). In the plane, without
    /// mirroring, it has this closed form, which equals scikit-image's in insightface's
    /// `estimate_norm`. None if the points of `from` coincide or a number is not finite.
    #[must_use]
    pub fn fit(from: &Landmarks, to: &Landmarks) -> Option<Self> {
        let (from_centre, to_centre) = (centroid(from), centroid(to));
        let (mut dot, mut cross, mut spread) = (0.0, 0.0, 0.0);
        for (from, to) in from.iter().zip(to) {
            let (x, y) = (
                f64::from(from.x) - from_centre.0,
                f64::from(from.y) - from_centre.1,
            );
            let (u, v) = (f64::from(to.x) - to_centre.0, f64::from(to.y) - to_centre.1);
            dot += x * u + y * v;
            cross += x * v - y * u;
            spread += x * x + y * y;
        }
        let (a, b) = (dot / spread, cross / spread);
        let tx = to_centre.0 - a * from_centre.0 + b * from_centre.1;
        let ty = to_centre.1 - b * from_centre.0 - a * from_centre.1;
        let usable = [a, b, tx, ty].iter().all(|value| value.is_finite()) && a * a + b * b > 0.0;
        usable.then_some(Self { a, b, tx, ty })
    }

    /// Returns the inverse transform.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let Self { a, b, tx, ty } = *self;
        let square = a * a + b * b;
        let (a, b) = (a / square, -b / square);
        Self {
            a,
            b,
            tx: -(a * tx - b * ty),
            ty: -(b * tx + a * ty),
        }
    }

    /// Maps a point.
    #[must_use]
    pub fn apply(&self, x: f64, y: f64) -> (f64, f64) {
        (
            self.a * x - self.b * y + self.tx,
            self.b * x + self.a * y + self.ty,
        )
    }
}

fn centroid(points: &Landmarks) -> (f64, f64) {
    let sum = points.iter().fold((0.0, 0.0), |sum, point| {
        (sum.0 + f64::from(point.x), sum.1 + f64::from(point.y))
    });
    (sum.0 / points.len() as f64, sum.1 / points.len() as f64)
}

/// A crop for the recogniser: 112 × 112 pixels of 8-bit RGB, row by row.
#[derive(Clone, Debug)]
pub struct AlignedFace {
    pixels: Vec<u8>,
    /// The share of it outside the picture, 0 to 1.
    outside: f32,
}

/// Crops the face with these landmarks, in pixels of the picture. It is warped so that the
/// landmarks lie as near as possible to [`TEMPLATE`], with bilinear interpolation, black outside
/// the picture.
///
/// Coordinates count from the middle of the upper left pixel: a whole number is the middle of a
/// pixel. This is the convention of OpenCV's `warpAffine`, with which the recognisers were trained.
///
/// Returns None if the landmarks coincide or are not finite, or if the face is too far outside or
/// too large for the picture.
#[must_use]
pub fn align(picture: &Rgb, landmarks: &Landmarks) -> Option<AlignedFace> {
    let back = Similarity::fit(landmarks, &TEMPLATE)?.inverse();
    let step = (FixedPoint::new(back.a)?, FixedPoint::new(back.b)?);
    let mut pixels = vec![0; 3 * SIDE * SIDE];
    for (row, values) in pixels.chunks_exact_mut(3 * SIDE).enumerate() {
        let (x, y) = back.apply(0.0, row as f64);
        let (mut x, mut y) = (FixedPoint::new(x)?, FixedPoint::new(y)?);
        let last = (SIDE - 1) as i64;
        let end = (
            FixedPoint(x.0 + last * step.0.0),
            FixedPoint(y.0 + last * step.1.0),
        );
        // Between two points inside, all are inside.
        let is_inside = is_inside(picture, x, y) && is_inside(picture, end.0, end.1);
        for value in values.as_chunks_mut::<3>().0 {
            let inner = if is_inside {
                sample_inside(picture, x, y)
            } else {
                None
            };
            *value = inner.unwrap_or_else(|| sample(picture, x, y));
            x.0 += step.0.0;
            y.0 += step.1.0;
        }
    }
    Some(AlignedFace {
        pixels,
        outside: outside(picture, &back),
    })
}

/// Returns the share of the crop's pixels outside the picture; `back` maps the crop to the picture.
fn outside(picture: &Rgb, back: &Similarity) -> f32 {
    let (width, height) = (f64::from(picture.width), f64::from(picture.height));
    let is_outside = |column: usize, row: usize| {
        let (x, y) = back.apply(column as f64, row as f64);
        !((-0.5..width - 0.5).contains(&x) && (-0.5..height - 0.5).contains(&y))
    };
    // A crop with all corners inside is inside.
    let last = SIDE - 1;
    if ![(0, 0), (last, 0), (0, last), (last, last)]
        .into_iter()
        .any(|(column, row)| is_outside(column, row))
    {
        return 0.0;
    }
    let count = (0..SIDE * SIDE)
        .filter(|index| is_outside(index % SIDE, index / SIDE))
        .count();
    count as f32 / (SIDE * SIDE) as f32
}

/// A coordinate with 32 fractional bits. The error of a row of steps is less than a millionth of a
/// pixel.
#[derive(Clone, Copy)]
struct FixedPoint(i64);

impl FixedPoint {
    /// Returns None beyond any picture, where sums of steps could overflow.
    fn new(value: f64) -> Option<Self> {
        const FARTHEST: f64 = 1e6;
        (value.abs() < FARTHEST).then_some(Self((value * 2_f64.powi(32)) as i64))
    }

    fn floor(self) -> i64 {
        self.0 >> 32
    }

    /// Returns the distance from its floor to the next pixel, in units of 2^-11.
    fn weight(self) -> i32 {
        ((self.0 >> (32 - WEIGHT_BITS)) & ((1 << WEIGHT_BITS) - 1)) as i32
    }
}

/// Bits of an interpolation weight: two weights and a colour fit 32 bits.
const WEIGHT_BITS: u32 = 11;

/// Returns true if the four pixels around a point are in the picture.
fn is_inside(picture: &Rgb, x: FixedPoint, y: FixedPoint) -> bool {
    let (left, top) = (x.floor(), y.floor());
    let (width, height) = (i64::from(picture.width), i64::from(picture.height));
    left >= 0 && top >= 0 && left + 1 < width && top + 1 < height
}

/// Returns the interpolated colour at a point [inside](is_inside) the picture, equal to
/// [`sample`]'s. None for the last two pixels, because eight bytes are read for a pair of six.
#[inline(always)]
fn sample_inside(picture: &Rgb, x: FixedPoint, y: FixedPoint) -> Option<[u8; 3]> {
    let stride = 3 * picture.width as usize;
    let begin = y.floor() as usize * stride + 3 * x.floor() as usize;
    let pair = |begin: usize| {
        let bytes = picture.pixels.get(begin..begin + 8)?.first_chunk::<8>()?;
        Some(I16x8::of_pixels(*bytes))
    };
    let (right, lower_weight) = (x.weight() as i16, y.weight());
    let weights = I16x8::pairs((1 << WEIGHT_BITS) - right, right);
    let (upper, lower) = (
        pair(begin)?.dot(weights),
        pair(begin + stride)?.dot(weights),
    );
    let sum = upper
        .shift_left(WEIGHT_BITS)
        .add(lower.sub(upper).mul(I32x4::splat(lower_weight)))
        .add(I32x4::splat(1 << (2 * WEIGHT_BITS - 1)));
    let [red, green, blue, _] = sum.shift(2 * WEIGHT_BITS).bytes();
    Some([red, green, blue])
}

/// Returns the interpolated colour at a point, black outside the picture.
fn sample(picture: &Rgb, x: FixedPoint, y: FixedPoint) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let [upper, lower] = [top, top + 1].map(|y| {
        let ([a, b, c], [d, e, f]) = (pixel(picture, left, y), pixel(picture, left + 1, y));
        [a, b, c, d, e, f]
    });
    let (right_weight, lower_weight) = (x.weight(), y.weight());
    let along = |near: u8, far: u8| {
        (i32::from(near) << WEIGHT_BITS) + (i32::from(far) - i32::from(near)) * right_weight
    };
    let blend = |[near, far]: [u8; 2], [near_below, far_below]: [u8; 2]| {
        let (upper, lower) = (along(near, far), along(near_below, far_below));
        let sum = upper * ((1 << WEIGHT_BITS) - lower_weight) + lower * lower_weight;
        ((sum + (1 << (2 * WEIGHT_BITS - 1))) >> (2 * WEIGHT_BITS)) as u8
    };
    let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (upper, lower);
    [
        blend([a, d], [g, j]),
        blend([b, e], [h, k]),
        blend([c, f], [i, l]),
    ]
}

/// Returns a pixel's colour; black outside.
fn pixel(picture: &Rgb, x: i64, y: i64) -> [u8; 3] {
    if x < 0 || y < 0 || x >= i64::from(picture.width) || y >= i64::from(picture.height) {
        return [0; 3];
    }
    let index = y as usize * picture.width as usize + x as usize;
    picture
        .pixels
        .as_chunks::<3>()
        .0
        .get(index)
        .copied()
        .unwrap_or_default()
}

impl AlignedFace {
    /// Creates a face from a crop other than [`align`]'s: 112 × 112 pixels of 8-bit RGB, row by
    /// row. None if there are more or fewer.
    ///
    /// Another alignment needs its own [embedding contract](crate::analysis::EmbeddingContract).
    #[must_use]
    pub fn new(pixels: Vec<u8>) -> Option<Self> {
        (pixels.len() == 3 * SIDE * SIDE).then_some(Self {
            pixels,
            outside: 0.0,
        })
    }

    /// Creates a face of 3 × 112 × 112 values.
    pub(crate) fn from_pixels(pixels: Vec<u8>) -> Self {
        Self {
            pixels,
            outside: 0.0,
        }
    }

    /// Returns the share of it outside the picture, where it is black: 0 to 1.
    #[must_use]
    pub fn outside(&self) -> f32 {
        self.outside
    }

    /// Returns its 112 × 112 pixels of 8-bit RGB, row by row.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Appends the face to a batch as a normalised 3×112×112 tensor: after N faces `batch` is an
    /// N×3×112×112 tensor.
    pub fn append_to(&self, batch: &mut Vec<f32>, normalization: Normalization) {
        let begin = batch.len();
        batch.resize(begin + self.pixels.len(), 0.0);
        if let Some(tensor) = batch.get_mut(begin..) {
            normalization.write_row(&self.pixels, planes(tensor));
        }
    }

    /// Returns the luma of each pixel by ITU-R BT.601, 0 to 255: 112 × 112 values, row by row.
    #[must_use]
    pub fn luma(&self) -> Vec<f32> {
        let mut lumas = vec![0.0; SIDE * SIDE];
        // A crop has whole blocks.
        let blocks = self
            .pixels
            .as_chunks::<{ 3 * BLOCK }>()
            .0
            .iter()
            .map(deinterleave);
        for (lumas, [red, green, blue]) in lumas.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks) {
            for (((luma, red), green), blue) in lumas.iter_mut().zip(red).zip(green).zip(blue) {
                *luma = 0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue);
            }
        }
        lumas
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::tensor::Channels;

    proptest! {
        #[test]
        fn fit_recovers_similarity(angle in -3.0_f64..3.0, scale in 0.1_f64..10.0, tx in -500.0_f64..500.0, ty in -500.0_f64..500.0) {
            let truth = Similarity { a: scale * angle.cos(), b: scale * angle.sin(), tx, ty };
            let moved = TEMPLATE.map(|point| {
                let (x, y) = truth.apply(point.x.into(), point.y.into());
                Point { x: x as f32, y: y as f32 }
            });
            let found = Similarity::fit(&TEMPLATE, &moved).unwrap();
            for (found, truth) in [(found.a, truth.a), (found.b, truth.b), (found.tx, truth.tx), (found.ty, truth.ty)] {
                prop_assert!((found - truth).abs() < 1e-2 * (1.0 + truth.abs()), "{} is not {}", found, truth);
            }
            let (x, y) = found.apply(3.0, 4.0);
            let (x, y) = found.inverse().apply(x, y);
            prop_assert!((x - 3.0).abs() < 1e-6 && (y - 4.0).abs() < 1e-6);
        }
    }

    #[test]
    fn align_rejects_degenerate_landmarks() {
        let picture = Rgb {
            width: 4,
            height: 4,
            pixels: vec![0; 48],
        };
        assert!(align(&picture, &[Point { x: 5.0, y: 5.0 }; 5]).is_none());
        assert!(
            align(
                &picture,
                &[Point {
                    x: f32::NAN,
                    y: 5.0
                }; 5]
            )
            .is_none()
        );
        assert!(
            align(
                &picture,
                &TEMPLATE.map(|point| Point {
                    x: f32::INFINITY,
                    ..point
                })
            )
            .is_none()
        );
    }

    /// Samples inside the picture equal those of the general code.
    #[test]
    fn inner_samples_equal_general_ones() {
        let (width, height) = (23_u32, 17_u32);
        let picture = Rgb {
            width,
            height,
            pixels: (0..3 * width * height)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect(),
        };
        let mut inside = 0;
        for step in 0..4000_i64 {
            let (x, y) = (
                FixedPoint(step * 23_456_789),
                FixedPoint((step * 17_654_321) & 0xf_ffff_ffff),
            );
            if is_inside(&picture, x, y) {
                inside += 1;
                let inner = sample_inside(&picture, x, y);
                assert!(inner.is_none_or(|inner| inner == sample(&picture, x, y)));
            }
        }
        assert!(inside > 1000, "{inside}");
    }

    /// A face at the template's position is copied, black outside the picture.
    #[test]
    fn align_copies_template_position() {
        let (width, height) = (200_u32, 100_u32);
        let pixels: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7]))
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
        let at = |x: usize, y: usize| &face.pixels[3 * (y * SIDE + x)..][..3];
        assert_eq!(at(30, 40), [30, 40, 7]);
        assert_eq!(at(111, 98), [111, 98, 7]);
        assert_eq!(at(50, 105), [0; 3]);
        // Its last twelve rows are outside.
        assert!(
            (face.outside() - 12.0 / 112.0).abs() < 0.01,
            "{}",
            face.outside()
        );
        let mut batch = vec![1.0];
        face.append_to(
            &mut batch,
            Normalization {
                mean: 0.0,
                std: 1.0,
                channels: Channels::Bgr,
            },
        );
        assert_eq!((batch.len(), batch[1]), (1 + 3 * SIDE * SIDE, 7.0));
    }
}
