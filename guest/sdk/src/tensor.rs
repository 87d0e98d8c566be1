//! How a model wants its pixels, and the writing of them.

/// The order of colour channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// `(v - mean) / std` of each channel value v from 0 to 255, channel by channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// What is taken from each value.
    pub mean: f32,
    /// What the difference is divided by.
    pub std: f32,
    /// The order of channels.
    pub channels: Channels,
}

impl Normalization {
    /// Writes RGB pixels as a row of each of the three `planes`. Slices of one length n, pixels of 3n.
    pub(crate) fn write_row<T: Copy + Into<f32>>(&self, pixels: &[T], planes: [&mut [f32]; 3]) {
        let scale = self.std.recip();
        let offset = -self.mean * scale;
        let [first, second, third] = planes;
        let (red, green, blue) = match self.channels {
            Channels::Rgb => (first, second, third),
            Channels::Bgr => (third, second, first),
        };
        for (((pixel, red), green), blue) in pixels.as_chunks::<3>().0.iter().zip(red).zip(green).zip(blue) {
            let [r, g, b] = *pixel;
            *red = r.into() * scale + offset;
            *green = g.into() * scale + offset;
            *blue = b.into() * scale + offset;
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
