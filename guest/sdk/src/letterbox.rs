//! Bringing a picture to a detector's input: scaled to fit with its proportions kept, in the upper
//! left, the rest black. The letterbox of `SCRFD.detect` of insightface; others centre the picture.

use crate::decode::Rgb;
use crate::resize::resize;
use crate::tensor::{Normalization, planes};

/// Detectors with strides up to 32 take inputs whose sides are multiples of it.
pub(crate) const MULTIPLE: usize = 32;

/// How a picture is laid into a detector's input. Sizes are width, height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letterbox {
    /// Width and height of the scaled picture in pixels of the input; no more than those of the
    /// input.
    pub scaled: (usize, usize),
    /// Width and height of the input in pixels.
    pub input: (usize, usize),
    /// Pixels of the input for one of the picture: a place in the input divided by it is one in the
    /// picture.
    pub scale: f32,
}

impl Letterbox {
    /// A picture of `width` × `height` pixels (neither 0) into an input of a fixed size, exactly as
    /// `SCRFD.detect` of insightface does it: small pictures are enlarged, and the scale is that of
    /// the height.
    #[must_use]
    pub fn fixed(width: u32, height: u32, input: (usize, usize)) -> Self {
        let scaled = fit(width, height, input);
        Self {
            scaled,
            input,
            scale: scaled.1 as f32 / height as f32,
        }
    }

    /// [`Self::fixed`] into a square of `side` × `side` pixels; `side` is a multiple of 32, as
    /// SCRFD wants it.
    #[must_use]
    pub fn square(width: u32, height: u32, side: usize) -> Self {
        Self::fixed(width, height, (side, side))
    }

    /// The longer side becomes `side` pixels and both are padded only to the next multiple of 32,
    /// SCRFD's largest stride: a wide frame costs a detector less than a square would. For models
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

    /// The picture as a 1×3×H×W tensor, normalised, of the size of [`Self::input`]. It is scaled
    /// bilinearly by OpenCV's convention (`cv2.resize` with `INTER_LINEAR`); the padding is the
    /// colour zero, normalised like every other.
    #[must_use]
    pub fn tensor(&self, picture: &Rgb, normalization: Normalization) -> Vec<f32> {
        let (width, height) = self.input;
        let zero = -normalization.mean / normalization.std;
        let mut tensor = vec![zero; 3 * width * height];
        let [first, second, third] = planes(&mut tensor);
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

/// The size that fits the input, of the same proportions as the picture; truncated as insightface
/// does, and at least one pixel.
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
    use crate::tensor::Channels;

    #[test]
    fn a_frame_is_padded_no_further_than_it_must_be() {
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
        // An input that is wider than the picture is filled to its height, and one that is higher
        // to its width.
        assert_eq!(Letterbox::fixed(400, 300, (640, 320)).scaled, (426, 320));
        assert_eq!(Letterbox::fixed(400, 300, (320, 640)).scaled, (320, 240));
    }

    #[test]
    fn pixels_lie_in_the_upper_left_channel_by_channel_and_the_rest_is_black() {
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
