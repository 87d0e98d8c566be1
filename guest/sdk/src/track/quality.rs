//! Quality of a face in one frame, by which frames and votes are weighed.
//!
//! It comes from the detection alone. A choice by similarity to the gallery would favour frames in
//! which a stranger resembles a person.

use crate::types::Face;

/// The side in pixels from which a larger face has no more detail: the recognisers' input.
const FULL_SIDE: f32 = 112.0;

/// The sharpness at which quality is half, in the unit of
/// [`Measures::sharpness`](crate::measure::Measures::sharpness): a face under it is blurred.
const HALF_SHARPNESS: f32 = 50.0;

/// The share of the quality that a face in profile loses.
const PROFILE_LOSS: f32 = 0.8;

/// Returns the quality of a face, 0 to 1, from its detection score (0 to 1) and its
/// [measures](crate::measure::Measures): the shorter side in pixels, yaw and sharpness. A missing
/// measure is not judged.
///
/// It is the product of the score, the square root of the side's share of 112 pixels, a factor that
/// falls to 0.2 in profile, and one that is half at a sharpness of 50. 0 if a number is not finite.
#[must_use]
pub fn quality(score: f32, size: f32, yaw: Option<f32>, sharpness: Option<f32>) -> f32 {
    let detail = (size / FULL_SIDE).clamp(0.0, 1.0).sqrt();
    let front = yaw.map_or(1.0, |yaw| 1.0 - PROFILE_LOSS * yaw.abs().min(1.0));
    let focus = sharpness.map_or(1.0, |sharpness| {
        let sharpness = sharpness.max(0.0);
        sharpness / (sharpness + HALF_SHARPNESS)
    });
    let inputs = [score, size, yaw.unwrap_or(0.0), sharpness.unwrap_or(0.0)];
    if inputs.iter().all(|input| input.is_finite()) {
        score.clamp(0.0, 1.0) * detail * front * focus
    } else {
        0.0
    }
}

/// Returns the [`quality`] of a face from its box and those of its measures that vision took.
#[must_use]
pub fn quality_of(face: &Face) -> f32 {
    quality(
        face.score,
        face.bounds.shorter_side(),
        face.measure("yaw"),
        face.measure("sharpness"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::geometry::Rect;
    use crate::types::Measure;

    #[test]
    fn quality_follows_each_measure() {
        let cases = [
            ("all that is needed", 1.0, 112.0, None, None, 1.0),
            ("a larger face", 1.0, 500.0, None, None, 1.0),
            ("a quarter of the side", 1.0, 28.0, None, None, 0.5),
            ("half the score", 0.5, 112.0, None, None, 0.5),
            ("in profile", 1.0, 112.0, Some(-1.0), None, 0.2),
            ("beyond profile", 1.0, 112.0, Some(3.0), None, 0.2),
            ("blurred", 1.0, 112.0, None, Some(50.0), 0.5),
            ("without any edge", 1.0, 112.0, None, Some(0.0), 0.0),
            ("an inverted box", 1.0, -4.0, None, None, 0.0),
            (
                "a score that is no number",
                f32::NAN,
                112.0,
                None,
                None,
                0.0,
            ),
            (
                "infinite sharpness",
                1.0,
                112.0,
                None,
                Some(f32::INFINITY),
                0.0,
            ),
        ];
        for (case, score, size, yaw, sharpness, wanted) in cases {
            let found = quality(score, size, yaw, sharpness);
            assert!((found - wanted).abs() < 1e-6, "{case}: {found}");
        }
    }

    #[test]
    fn quality_of_reads_measures() {
        let bounds = Rect {
            x2: 28.0,
            y2: 40.0,
            ..Rect::default()
        };
        let measures = vec![
            Measure::new("yaw", 0.5),
            Measure::new("sharpness", 150.0),
            Measure::new("brightness", 100.0),
        ];
        let face = Face {
            bounds,
            score: 0.8,
            landmarks: Vec::new(),
            measures,
        };
        assert_eq!(
            quality_of(&face),
            quality(0.8, 28.0, Some(0.5), Some(150.0))
        );
    }
}
