//! Pictures: sampling, light, noise and encoding.

use std::f32::consts::TAU;

use anyhow::Result;
use bytes::Bytes;
use fastrand::Rng;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{Rgb, RgbImage, imageops};

/// Quality of the frames' JPEG.
const QUALITY: u8 = 80;

/// Sensor noise of a camera: random numbers of a normal distribution.
pub(crate) struct Noise(Vec<f32>);

impl Noise {
    pub(crate) fn new(random: &mut Rng) -> Self {
        Self((0..1 << 16).map(|_| normal(random)).collect())
    }

    /// Multiplies a frame's light and adds noise of this standard deviation.
    pub(crate) fn apply(&self, frame: &mut RgbImage, light: f32, deviation: f32, random: &mut Rng) {
        let width = frame.width() as usize;
        for row in frame.chunks_exact_mut(3 * width) {
            let offset = random.usize(..self.0.len() - width);
            for (pixel, noise) in row.chunks_exact_mut(3).zip(&self.0[offset..]) {
                for channel in pixel {
                    *channel = (f32::from(*channel) * light + deviation * noise).round() as u8;
                }
            }
        }
    }
}

/// Returns a random number of a normal distribution, by the method of Box and Muller.
pub(crate) fn normal(random: &mut Rng) -> f32 {
    let radius = (-2.0 * (1.0 - random.f32()).ln()).sqrt();
    radius * (TAU * random.f32()).cos()
}

/// Returns a picture between pixels, or none outside it.
pub(crate) fn sample(picture: &RgbImage, x: f32, y: f32) -> Option<[f32; 3]> {
    if x < 0.0 || y < 0.0 {
        return None;
    }
    let (left, top) = (x as u32, y as u32);
    if left + 1 >= picture.width() || top + 1 >= picture.height() {
        return None;
    }
    let (right, bottom) = (x - left as f32, y - top as f32);
    let pixel = |dx, dy| picture.get_pixel(left + dx, top + dy).0.map(f32::from);
    let [a, b, c, d] = [pixel(0, 0), pixel(1, 0), pixel(0, 1), pixel(1, 1)];
    Some(std::array::from_fn(|channel| {
        let above = a[channel] + right * (b[channel] - a[channel]);
        let below = c[channel] + right * (d[channel] - c[channel]);
        above + bottom * (below - above)
    }))
}

/// Blends a color over a pixel.
pub(crate) fn blend(pixel: &mut Rgb<u8>, color: [f32; 3], alpha: f32) {
    for (under, over) in pixel.0.iter_mut().zip(color) {
        let under_value = f32::from(*under);
        *under = (under_value + alpha * (over - under_value)).round() as u8;
    }
}

/// Returns a file as an upright picture.
pub(crate) fn open(file: &std::path::Path) -> Result<RgbImage> {
    Ok(image::open(file)?.into_rgb8())
}

/// Returns a picture as a camera sends it.
pub(crate) fn jpeg(picture: &RgbImage) -> Result<Bytes> {
    let mut bytes = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?;
    Ok(bytes.into())
}

/// Returns the picture of a room out of focus, without faces, in this size.
pub(crate) fn backdrop(room: &RgbImage, width: u32, height: u32) -> RgbImage {
    let small = imageops::resize(room, 48, 27, FilterType::Triangle);
    imageops::resize(&small, width, height, FilterType::CatmullRom)
}
