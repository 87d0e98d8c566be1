//! Letterbox of a picture in a detector's input: scaled to fit, with its proportions, in the upper
//! left, the rest black. insightface's `SCRFD.detect` does the same; other detectors centre the
//! picture.

use super::resize::resize;
use crate::detect::tensor::{Normalization, planes};
use crate::image::decode::Rgb;

/// The sides of an input are multiples of this: the largest stride of the detectors.
pub(crate) const MULTIPLE: usize = 32;

/// Position of a picture in a detector's input. Sizes are width, height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letterbox {
    /// Width and height of the scaled picture in pixels of the input; at most those of the input.
    pub scaled: (usize, usize),
    /// Width and height of the input in pixels.
    pub input: (usize, usize),
    /// Pixels of the input per pixel of the picture. Coordinates in the input divided by it are
    /// those in the picture.
    pub scale: f32,
}

impl Letterbox {
    /// Fits a picture of `width` × `height` pixels (neither 0) into an input of a fixed size,
    /// exactly as insightface's `SCRFD.detect`. Small pictures are enlarged, and the scale is that
    /// of the height.
    #[must_use]
    pub fn fixed(width: u32, height: u32, input: (usize, usize)) -> Self {
        let scaled = fit(width, height, input);
        Self {
            scaled,
            input,
            scale: scaled.1 as f32 / height as f32,
        }
    }

    /// Applies [`Self::fixed`] to a square of `side` × `side` pixels. `side` must be a multiple of
    /// 32 for SCRFD.
    #[must_use]
    pub fn square(width: u32, height: u32, side: usize) -> Self {
        Self::fixed(width, height, (side, side))
    }

    /// Scales the longer side to `side` pixels and pads both sides only to the next multiple of 32,
    /// SCRFD's largest stride. A wide frame then costs a detector less than a square. For models
    /// with an input of any size.
    #[must_use]
    pub fn frame(width: u32, height: u32, side: usize) -> Self {
        let scaled = fit(width, height, (side, side));
        let input = (
            scaled.0.next_multiple_of(MULTIPLE),
            scaled.1.next_multiple_of(MULTIPLE),
        );
        Self {
            scaled,
            input,
            scale: scaled.1 as f32 / height as f32,
        }
    }

    /// Returns the picture as a normalised 1×3×H×W tensor of the size of [`Self::input`]. It is
    /// scaled bilinearly by OpenCV's convention (`cv2.resize` with `INTER_LINEAR`); the padding is
    /// the normalised colour zero.
    #[must_use]
    pub fn tensor(&self, picture: &Rgb, normalization: Normalization) -> Vec<f32> {
        let (width, height) = self.input;
        let mut tensor = vec![0.0; 3 * width * height];
        let [first, second, third] = planes(&mut tensor);
        let zero = -normalization.mean / normalization.std;
        for plane in [&mut *first, &mut *second, &mut *third] {
            pad(plane, width, self.scaled, zero);
        }
        let source = (picture.width as usize, picture.height as usize);
        resize(&picture.pixels, source, self.scaled, |row, pixels| {
            let range = row * width..row * width + self.scaled.0;
            let rows = [
                first.get_mut(range.clone()),
                second.get_mut(range.clone()),
                third.get_mut(range),
            ];
            if let [Some(first), Some(second), Some(third)] = rows {
                normalization.write_row(pixels, [first, second, third]);
            }
        });
        tensor
    }
}

/// Fills rows of `width` values outside the scaled picture.
fn pad(plane: &mut [f32], width: usize, scaled: (usize, usize), value: f32) {
    let (inside, below) = plane.split_at_mut(plane.len().min(width * scaled.1));
    below.fill(value);
    for row in inside.chunks_exact_mut(width.max(1)) {
        row.get_mut(scaled.0..).unwrap_or_default().fill(value);
    }
}

/// Returns the largest size with the picture's proportions that fits the input; truncated as in
/// insightface, and at least one pixel.
fn fit(width: u32, height: u32, input: (usize, usize)) -> (usize, usize) {
    let ratio = f64::from(height) / f64::from(width);
    let truncated = |length: f64| (length as usize).max(1);
    if ratio > input.1 as f64 / input.0 as f64 {
        (truncated(input.1 as f64 / ratio), input.1)
    } else {
        (input.0, truncated(input.0 as f64 * ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tensor::Channels;

    #[test]
    fn frame_is_padded_to_stride() {
        for (size, scaled, square, frame) in [
            ((640, 480), (640, 480), (640, 640), (640, 480)),
            ((1280, 720), (640, 360), (640, 640), (640, 384)),
            ((1280, 886), (640, 443), (640, 640), (640, 448)),
            ((320, 240), (640, 480), (640, 640), (640, 480)),
            ((480, 640), (480, 640), (640, 640), (480, 640)),
            ((1, 1), (640, 640), (640, 640), (640, 640)),
            ((10_000, 1), (640, 1), (640, 640), (640, 32)),
        ] {
            assert_eq!(
                Letterbox::square(size.0, size.1, 640).scaled,
                scaled,
                "{size:?}"
            );
            assert_eq!(
                Letterbox::square(size.0, size.1, 640).input,
                square,
                "{size:?}"
            );
            assert_eq!(
                Letterbox::frame(size.0, size.1, 640).input,
                frame,
                "{size:?}"
            );
        }
        // An input wider than the picture is filled to its height, and a higher one to its width.
        assert_eq!(Letterbox::fixed(400, 300, (640, 320)).scaled, (426, 320));
        assert_eq!(Letterbox::fixed(400, 300, (320, 640)).scaled, (320, 240));
    }

    /// Pixels lie in the upper left, channel by channel, and the rest is black.
    #[test]
    fn tensor_has_planes_and_padding() {
        let picture = Rgb {
            width: 64,
            height: 32,
            pixels: [10, 20, 30].repeat(64 * 32),
        };
        let normalization = Normalization {
            mean: 10.0,
            std: 2.0,
            channels: Channels::Rgb,
        };
        let tensor = Letterbox::square(64, 32, 64).tensor(&picture, normalization);
        let at = |channel: usize, x: usize, y: usize| tensor[channel * 64 * 64 + y * 64 + x];
        assert_eq!(
            [at(0, 63, 31), at(1, 63, 31), at(2, 63, 31)],
            [0.0, 5.0, 10.0]
        );
        assert_eq!([at(0, 0, 32), at(2, 63, 63)], [-5.0, -5.0]);
        let swapped = Normalization {
            channels: Channels::Bgr,
            ..normalization
        };
        assert_eq!(
            Letterbox::square(64, 32, 64).tensor(&picture, swapped)[0],
            10.0
        );
    }
}
