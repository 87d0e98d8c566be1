//! Conversion of JPEG planes to RGB, for colour at half the width and height, with vectors in
//! WebAssembly and otherwise in loops that a compiler vectorises.

use libjpeg_turbo_rs::RawImage;

use crate::detect::tensor::shuffle::{BLOCK, interleave};
use crate::image::vector::{HAS_VECTORS, I16x8, I32x4, U8x16};

/// Brightness and two planes of colour, of half the width and half the height.
pub(super) struct Planes<'a> {
    width: usize,
    height: usize,
    luma: Plane<'a>,
    blue: Plane<'a>,
    red: Plane<'a>,
}

/// Rows of samples. A row may have more samples than the picture's width.
pub(super) struct Plane<'a> {
    pub(super) samples: &'a [u8],
    pub(super) stride: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Plane<'_> {
    /// Returns a row; the last one for indices below it.
    pub(super) fn row(&self, index: usize) -> &[u8] {
        let begin = index.min(self.height.saturating_sub(1)) * self.stride;
        self.samples
            .get(begin..begin + self.width)
            .unwrap_or_default()
    }
}

impl<'a> Planes<'a> {
    /// Returns None if the planes are smaller than the picture.
    pub(super) fn of(raw: &'a RawImage) -> Option<Self> {
        let (width, height) = (raw.width, raw.height);
        let [luma, blue, red] = raw.planes.as_slice() else {
            return None;
        };
        let [luma_stride, blue_stride, red_stride] = *raw.plane_widths.as_slice() else {
            return None;
        };
        let plane = |samples: &'a Vec<u8>, stride: usize, width: usize, height: usize| {
            (stride >= width && samples.len() >= stride.checked_mul(height)?).then_some(Plane {
                samples,
                stride,
                width,
                height,
            })
        };
        let half = (width.div_ceil(2), height.div_ceil(2));
        Some(Self {
            width,
            height,
            luma: plane(luma, luma_stride, width, height)?,
            blue: plane(blue, blue_stride, half.0, half.1)?,
            red: plane(red, red_stride, half.0, half.1)?,
        })
    }

    /// Converts to RGB, 3 × width × height bytes, with libjpeg's "fancy upsampling" and colour
    /// conversion.
    pub(super) fn to_rgb(&self) -> Vec<u8> {
        let mut pixels = vec![0; 3 * self.width * self.height];
        let [mut blue, mut red] =
            [self.blue.width, self.red.width].map(|width| Upsampler::new(width, BOTH_WAYS));
        for (index, pixels) in pixels.chunks_exact_mut(3 * self.width).enumerate() {
            let (near, far) = colour_rows(index);
            let blue = blue.between(self.blue.row(near), self.blue.row(far));
            let red = red.between(self.red.row(near), self.red.row(far));
            convert(self.luma.row(index), blue, red, pixels);
        }
        pixels
    }
}

/// Returns the two rows of colour, of half the height, between which a row of the picture lies. It
/// lies a quarter of a sample's height from the centre of the first, towards the second: the one
/// above or below.
pub(super) fn colour_rows(index: usize) -> (usize, usize) {
    let near = index / 2;
    let far = if index.is_multiple_of(2) {
        near.saturating_sub(1)
    } else {
        near + 1
    };
    (near, far)
}

/// libjpeg's rounding of colour at half the width and height, in units of a 16th.
pub(super) const BOTH_WAYS: [i16; 2] = [8, 7];

/// libjpeg's rounding of colour at half the width: a unit of 1 and of 2 in quarters.
pub(super) const ACROSS: [i16; 2] = [4, 8];

/// Upsampling of a row of colour to twice the width, with its buffers.
#[derive(Debug)]
pub(super) struct Upsampler {
    /// Samples between two rows in units of a quarter, with the first and the last repeated at the
    /// ends.
    sums: Vec<i16>,
    samples: Vec<u8>,
    /// Added before the division, for the left and the right sample of a pair.
    rounding: [i16; 2],
}

impl Upsampler {
    /// Creates buffers for rows of `width` samples.
    pub(super) fn new(width: usize, rounding: [i16; 2]) -> Self {
        Self {
            rounding,
            sums: vec![0; width + 2],
            samples: vec![0; 2 * width],
        }
    }

    /// Returns the row between two others, upsampled: three quarters of the near one and a quarter
    /// of the far one.
    pub(super) fn between(&mut self, near: &[u8], far: &[u8]) -> &[u8] {
        let count = near.len();
        if let [first, inner @ .., last] = self.sums.as_mut_slice() {
            for ((sum, near), far) in inner.iter_mut().zip(near).zip(far) {
                *sum = 3 * i16::from(*near) + i16::from(*far);
            }
            if let ([begin, ..], [.., end]) = (&*inner, &*inner) {
                (*first, *last) = (*begin, *end);
            }
        }
        // libjpeg does not interpolate along rows this short.
        if count < 3 {
            for (pair, near) in self.samples.as_chunks_mut::<2>().0.iter_mut().zip(near) {
                *pair = [*near; 2];
            }
            return &self.samples;
        }
        upsample(&self.sums, self.rounding, &mut self.samples);
        &self.samples
    }
}

/// Writes two samples for each of `sums` but the first and the last: three quarters of it, and a
/// quarter of the one to the left or right.
fn upsample(sums: &[i16], rounding: [i16; 2], samples: &mut [u8]) {
    let done = if HAS_VECTORS {
        upsample_vectors(sums, rounding, samples)
    } else {
        0
    };
    let [left, middle, right] = [0, 1, 2].map(|at| sums.get(done + at..).unwrap_or_default());
    let pairs = samples.as_chunks_mut().0.iter_mut().skip(done);
    for (((pair, left), middle), right) in pairs.zip(left).zip(middle).zip(right) {
        let [first, second] = rounding;
        *pair = [
            ((3 * middle + left + first) >> 4) as u8,
            ((3 * middle + right + second) >> 4) as u8,
        ];
    }
}

/// Writes as many samples of [`upsample`] as fill vectors, and returns for how many of `sums`.
fn upsample_vectors(sums: &[i16], rounding: [i16; 2], samples: &mut [u8]) -> usize {
    let [left, middle, right] =
        [0, 1, 2].map(|at| sums.get(at..).unwrap_or_default().as_chunks::<8>().0);
    let [first, second] = rounding.map(|rounding| I16x8::new([rounding; 8]));
    let blocks = samples.as_chunks_mut().0;
    let count = blocks.len().min(right.len());
    for (block, ((left, middle), right)) in
        blocks.iter_mut().zip(left.iter().zip(middle).zip(right))
    {
        let [left, middle, right] = [left, middle, right].map(|sums| I16x8::new(*sums));
        let middle = middle.add(middle).add(middle);
        let [left, right] = [left.add(first), right.add(second)]
            .map(|sum| middle.add(sum).shift(4))
            .map(|samples| U8x16::pack(samples, samples));
        *block = left.low(right).bytes();
    }
    8 * count
}

/// Converts a row to RGB by JFIF's matrix, rounded as libjpeg does.
pub(super) fn convert(luma: &[u8], blue: &[u8], red: &[u8], pixels: &mut [u8]) {
    let (blocks, rest) = pixels.as_chunks_mut::<{ 3 * BLOCK }>();
    let ((luma, luma_rest), (blue, blue_rest), (red, red_rest)) =
        (luma.as_chunks::<BLOCK>(), blue.as_chunks(), red.as_chunks());
    for (((block, luma), cb), cr) in blocks.iter_mut().zip(luma).zip(blue).zip(red) {
        let [r, g, b] = if HAS_VECTORS {
            rgb_of_vectors(luma, cb, cr)
        } else {
            rgb_of_block(luma, cb, cr)
        };
        interleave([&r, &g, &b], block);
    }
    let (rest, _) = rest.as_chunks_mut::<3>();
    // At an odd width, a row of colour has one sample more, and so perhaps one block more.
    let colour = |blocks: &[[u8; BLOCK]], rest: &[u8]| match blocks.get(luma.len()) {
        Some(block) => *block,
        None => std::array::from_fn(|index| rest.get(index).copied().unwrap_or_default()),
    };
    let (blue, red) = (colour(blue, blue_rest), colour(red, red_rest));
    for (((pixel, y), cb), cr) in rest.iter_mut().zip(luma_rest).zip(blue).zip(red) {
        *pixel = rgb(*y, cb, cr);
    }
}

/// Converts planes of any sizes to RGB without interpolation, for colours sampled more finely than
/// brightness, which hardly any camera writes. None if the planes are smaller than the picture.
pub(super) fn upsample_nearest(raw: &RawImage, sampling: &[(u8, u8)]) -> Option<Vec<u8>> {
    let most = |of: fn(&(u8, u8)) -> u8| {
        sampling
            .iter()
            .map(of)
            .max()
            .map(usize::from)
            .filter(|most| *most > 0)
    };
    let (across, down) = (most(|(across, _)| *across)?, most(|(_, down)| *down)?);
    let mut pixels = Vec::with_capacity(3 * raw.width * raw.height);
    for y in 0..raw.height {
        let row = |index: usize| {
            let (plane, stride) = (raw.planes.get(index)?, *raw.plane_widths.get(index)?);
            plane
                .get(y * usize::from(sampling.get(index)?.1) / down * stride..)?
                .get(..stride)
        };
        let rows = [row(0)?, row(1)?, row(2)?];
        let factors =
            [sampling.first()?.0, sampling.get(1)?.0, sampling.get(2)?.0].map(usize::from);
        for x in 0..raw.width {
            let sample = |index: usize| {
                rows.get(index)?
                    .get(x * factors.get(index)? / across)
                    .copied()
            };
            pixels.extend(rgb(sample(0)?, sample(1)?, sample(2)?));
        }
    }
    Some(pixels)
}

#[inline(always)]
fn rgb_of_block(y: &[u8; BLOCK], cb: &[u8; BLOCK], cr: &[u8; BLOCK]) -> [[u8; BLOCK]; 3] {
    let [mut r, mut g, mut b] = [[0; BLOCK]; 3];
    for (((((r, g), b), y), cb), cr) in r.iter_mut().zip(&mut g).zip(&mut b).zip(y).zip(cb).zip(cr)
    {
        [*r, *g, *b] = rgb(*y, *cb, *cr);
    }
    [r, g, b]
}

/// Returns the red, green and blue of [`rgb_of_block`], by vectors.
#[inline(always)]
fn rgb_of_vectors(y: &[u8; BLOCK], cb: &[u8; BLOCK], cr: &[u8; BLOCK]) -> [[u8; BLOCK]; 3] {
    let [y, cb, cr] = [y, cb, cr].map(|samples| U8x16::new(*samples).halves());
    let ([y, y2], [cb, cb2], [cr, cr2]) = (y, cb, cr);
    let ([r, g, b], [r2, g2, b2]) = (rgb_of_half(y, cb, cr), rgb_of_half(y2, cb2, cr2));
    [(r, r2), (g, g2), (b, b2)].map(|(first, second)| U8x16::pack(first, second).bytes())
}

#[inline(always)]
fn rgb_of_half(y: I16x8, cb: I16x8, cr: I16x8) -> [I16x8; 3] {
    let centre = I16x8::new([128; 8]);
    let (cb, cr) = (cb.sub(centre), cr.sub(centre));
    // For green, two factors are summed before the rounding.
    let scaled = |pairs: I16x8| {
        let sum = pairs.dot(I16x8::pairs(-22_554, 18_734));
        sum.add(I32x4::splat(1 << 15)).shift(16)
    };
    // The others are rounded alone, where half of a factor of `rgb` gives the same for each sample.
    let red = y.add(cr).add(cr.scaled(13_173));
    let green = y
        .sub(cr)
        .add(I16x8::pack(scaled(cb.low(cr)), scaled(cb.high(cr))));
    let blue = y.add(cb).add(cb).add(cb.scaled(-7471));
    [red, green, blue]
}

#[inline(always)]
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i16::from(y), i16::from(cb) - 128, i16::from(cr) - 128);
    // The factors 1.402, 1.772, 0.344 and 0.714 in units of 2^-16, without the part that exceeds 16
    // bits, because 32-bit factors would double the vectors.
    let scaled = |cb_factor: i16, cr_factor: i16| {
        ((i32::from(cb) * i32::from(cb_factor) + i32::from(cr) * i32::from(cr_factor) + (1 << 15))
            >> 16) as i16
    };
    let red = y + cr + scaled(0, 26_345);
    let green = y - cr + scaled(-22_554, 18_734);
    let blue = y + 2 * cb + scaled(-14_942, 0);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of every length.
    #[test]
    fn vectors_equal_single_samples() {
        for count in 3..60_i16 {
            let sums: Vec<i16> = (0..count + 2).map(|index| index * 479 % 1021).collect();
            let [mut single, mut vectors] = [(); 2].map(|()| vec![0; 2 * count as usize]);
            for rounding in [BOTH_WAYS, ACROSS] {
                upsample(&sums, rounding, &mut single);
                let done = upsample_vectors(&sums, rounding, &mut vectors);
                assert_eq!(done, count as usize / 8 * 8);
                assert_eq!(vectors[..2 * done], single[..2 * done]);
            }
        }
    }

    /// All samples of colour, with black, grey and white brightness.
    #[test]
    fn vectors_equal_single_pixels() {
        for cb in 0..=255 {
            for row in 0..16 {
                let cr = std::array::from_fn(|index| (16 * row + index) as u8);
                for y in [0, 1, 77, 128, 200, 254, 255] {
                    let [r, g, b] = rgb_of_vectors(&[y; BLOCK], &[cb; BLOCK], &cr);
                    for ((r, g), (b, cr)) in r.into_iter().zip(g).zip(b.into_iter().zip(cr)) {
                        assert_eq!([r, g, b], rgb(y, cb, cr), "{y} {cb} {cr}");
                    }
                }
            }
        }
    }
}
