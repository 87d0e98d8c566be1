//! Conversion of JPEG planes to RGB, for colour at half the width and height, in loops that a
//! compiler vectorises.

use libjpeg_turbo_rs::RawImage;

use crate::detect::tensor::shuffle::{BLOCK, interleave};

/// Brightness and two planes of colour, of half the width and half the height.
pub(super) struct Planes<'a> {
    width: usize,
    height: usize,
    luma: Plane<'a>,
    blue: Plane<'a>,
    red: Plane<'a>,
}

/// Rows of samples. A row may have more samples than the picture's width.
struct Plane<'a> {
    samples: &'a [u8],
    stride: usize,
    width: usize,
    height: usize,
}

impl Plane<'_> {
    /// Returns a row; the last one for indices below it.
    fn row(&self, index: usize) -> &[u8] {
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
        let [mut blue, mut red] = [self.blue.width, self.red.width].map(Upsampler::new);
        for (index, pixels) in pixels.chunks_exact_mut(3 * self.width).enumerate() {
            // A row lies a quarter of a sample's height from the centre of its own sample, towards
            // the one above or below.
            let near = index / 2;
            let far = if index % 2 == 0 {
                near.saturating_sub(1)
            } else {
                near + 1
            };
            let blue = blue.between(self.blue.row(near), self.blue.row(far));
            let red = red.between(self.red.row(near), self.red.row(far));
            convert(self.luma.row(index), blue, red, pixels);
        }
        pixels
    }
}

/// Upsampling of a row of colour to the picture's width, with its buffers.
struct Upsampler {
    /// Samples between two rows in units of a quarter, with the first and the last repeated at the
    /// ends.
    sums: Vec<u16>,
    samples: Vec<u8>,
}

impl Upsampler {
    fn new(width: usize) -> Self {
        Self {
            sums: vec![0; width + 2],
            samples: vec![0; 2 * width],
        }
    }

    fn between(&mut self, near: &[u8], far: &[u8]) -> &[u8] {
        let count = near.len();
        if let [first, inner @ .., last] = self.sums.as_mut_slice() {
            for ((sum, near), far) in inner.iter_mut().zip(near).zip(far) {
                *sum = 3 * u16::from(*near) + u16::from(*far);
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
        let (left, middle, right) = (
            &*self.sums,
            self.sums.get(1..).unwrap_or_default(),
            self.sums.get(2..).unwrap_or_default(),
        );
        let pairs = self.samples.as_chunks_mut::<2>().0;
        for (((pair, left), middle), right) in pairs.iter_mut().zip(left).zip(middle).zip(right) {
            *pair = [
                ((3 * middle + left + 8) >> 4) as u8,
                ((3 * middle + right + 7) >> 4) as u8,
            ];
        }
        &self.samples
    }
}

/// Converts a row to RGB by JFIF's matrix, rounded as libjpeg does.
fn convert(luma: &[u8], blue: &[u8], red: &[u8], pixels: &mut [u8]) {
    let (blocks, rest) = pixels.as_chunks_mut::<{ 3 * BLOCK }>();
    let ((luma, luma_rest), (blue, blue_rest), (red, red_rest)) =
        (luma.as_chunks::<BLOCK>(), blue.as_chunks(), red.as_chunks());
    for (((block, luma), cb), cr) in blocks.iter_mut().zip(luma).zip(blue).zip(red) {
        let [mut r, mut g, mut b] = [[0; BLOCK]; 3];
        for (((((r, g), b), y), cb), cr) in r
            .iter_mut()
            .zip(&mut g)
            .zip(&mut b)
            .zip(luma)
            .zip(cb)
            .zip(cr)
        {
            [*r, *g, *b] = rgb(*y, *cb, *cr);
        }
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
