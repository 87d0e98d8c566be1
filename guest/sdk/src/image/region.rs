//! Tensors of a region of a picture, for models that need more, or less, than an aligned face.

use crate::detect::tensor::{Channels, Normalization};
use crate::image::decode::Rgb;
use crate::image::geometry::Rect;

/// Returns a region of a picture, in its pixels, as a 1×3×H×W tensor of this width and height. It
/// is scaled with bilinear interpolation between the centres of pixels, as in OpenCV's `resize`.
/// The region should lie in the picture ([`Rect::within`]); beyond it, the picture's edge is
/// repeated.
#[must_use]
pub fn tensor(
    picture: &Rgb,
    region: &Rect,
    (width, height): (usize, usize),
    normalization: Normalization,
) -> Vec<f32> {
    let plane = width * height;
    let mut tensor = vec![0.0; 3 * plane];
    let order = match normalization.channels {
        Channels::Rgb => [0, 1, 2],
        Channels::Bgr => [2, 1, 0],
    };
    let (left, top) = (region.x1.floor(), region.y1.floor());
    let (across, down) = (
        region.x2.floor() - left + 1.0,
        region.y2.floor() - top + 1.0,
    );
    for y in 0..height {
        let (above, below, share_y) = between(y, height, down, top, picture.height);
        for x in 0..width {
            let (before, after, share_x) = between(x, width, across, left, picture.width);
            for (place, channel) in order.into_iter().enumerate() {
                let at = |x: usize, y: usize| {
                    let index = 3 * (y * picture.width as usize + x) + channel;
                    picture
                        .pixels
                        .get(index)
                        .map_or(0.0, |value| f32::from(*value))
                };
                let upper = at(before, above) + share_x * (at(after, above) - at(before, above));
                let lower = at(before, below) + share_x * (at(after, below) - at(before, below));
                let value = upper + share_y * (lower - upper);
                if let Some(number) = tensor.get_mut(place * plane + y * width + x) {
                    *number = (value - normalization.mean) / normalization.std;
                }
            }
        }
    }
    tensor
}

/// Returns the two source pixels next to target pixel `index` of `count`, and the distance from the
/// first, 0 to 1. The source is a stretch of `length` from `begin`.
fn between(index: usize, count: usize, length: f32, begin: f32, most: u32) -> (usize, usize, f32) {
    let place = ((index as f32 + 0.5) * length / count as f32 - 0.5).clamp(0.0, length - 1.0);
    let (first, share) = ((begin + place).floor(), place.fract());
    let last = most.saturating_sub(1) as usize;
    let first = (first.max(0.0) as usize).min(last);
    (first, (first + 1).min(last), share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_of_equal_size_is_copied() {
        let picture = Rgb {
            width: 4,
            height: 4,
            pixels: (0..48).collect(),
        };
        let bgr = Normalization {
            mean: 0.0,
            std: 1.0,
            channels: Channels::Bgr,
        };
        let tensor = tensor(
            &picture,
            &Rect {
                x1: 1.0,
                y1: 1.0,
                x2: 2.0,
                y2: 2.0,
            },
            (2, 2),
            bgr,
        );
        // Blue first: of the pixels at (1, 1), (2, 1), (1, 2) and (2, 2).
        assert_eq!(tensor.get(..4), Some(&[17.0, 20.0, 29.0, 32.0][..]));
        assert_eq!(tensor.get(8..), Some(&[15.0, 18.0, 27.0, 30.0][..]));
    }
}
