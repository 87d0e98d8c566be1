//! Conversion of 8-bit RGB pixels to three planes of 32-bit floats, as a model needs them.

use self::shuffle::{BLOCK, deinterleave};

pub(crate) mod shuffle;

/// The order of colour channels in a model's input. Pictures are always RGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// `(v - mean) / std` for each channel value v from 0 to 255, the same for all channels. SCRFD has
/// 127.5 and 128, ArcFace 127.5 and 127.5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// The subtrahend, in units of 0 to 255.
    pub mean: f32,
    /// The divisor, in units of 0 to 255; not 0.
    pub std: f32,
    /// The order of channels.
    pub channels: Channels,
}

impl Normalization {
    /// Writes RGB pixels as a row of each of the three `planes`. Each plane has n values and
    /// `pixels` 3n.
    pub(crate) fn write_row(&self, pixels: &[u8], planes: [&mut [f32]; 3]) {
        let scale = self.std.recip();
        let offset = -self.mean * scale;
        let [first, second, third] = planes;
        let (red, green, blue) = match self.channels {
            Channels::Rgb => (first, second, third),
            Channels::Bgr => (third, second, first),
        };
        let normalized = |value: u8| f32::from(value) * scale + offset;
        // Arrays of a fixed length let the compiler use vectors.
        let (blocks, rest) = pixels.as_chunks::<{ 3 * BLOCK }>();
        let (red, red_rest) = red.as_chunks_mut::<BLOCK>();
        let (green, green_rest) = green.as_chunks_mut::<BLOCK>();
        let (blue, blue_rest) = blue.as_chunks_mut::<BLOCK>();
        for (((block, red), green), blue) in blocks.iter().zip(red).zip(green).zip(blue) {
            [*red, *green, *blue] = deinterleave(block).map(|values| values.map(normalized));
        }
        let rest = rest.as_chunks::<3>().0;
        for ((([r, g, b], red), green), blue) in
            rest.iter().zip(red_rest).zip(green_rest).zip(blue_rest)
        {
            (*red, *green, *blue) = (normalized(*r), normalized(*g), normalized(*b));
        }
    }
}

/// Splits a 3×H×W tensor into its planes.
pub(crate) fn planes(tensor: &mut [f32]) -> [&mut [f32]; 3] {
    let plane = tensor.len() / 3;
    let (first, rest) = tensor.split_at_mut(plane);
    let (second, third) = rest.split_at_mut(plane);
    [first, second, third]
}
