//! Choice of the detector's passes over a picture, and their sizes.
//!
//! A detector is sure of faces of some 12 to 320 pixels of its input. For faces half as large it
//! reports a low score, a hint. So a first, coarse pass costs little and shows which pass should
//! follow. None follows if it found only large faces; otherwise the usual one, or a closer one if
//! faces are too small for that.
//!
//! A pass is one run of the detector on the whole picture, in the letterbox
//! [`Letterbox::frame`](crate::letterbox::Letterbox::frame). Its side is the longer side of the
//! scaled picture. The scheme is Rostro's own; insightface has one pass. Its figures were measured
//! with SCRFD 500MF (`docs/performance.md` in Rostro's repository).

use crate::detect::scrfd::{Detection, OVERLAP};
use crate::image::letterbox::MULTIPLE;

/// Former names, kept for existing pipelines.
pub use self::{MAX_PASSES as LOOKS, Pass as Look};

/// The longer side of the first pass over a frame, in pixels of the input, at a quarter of the
/// usual cost. It finds faces that fill the picture, which the usual pass misses.
pub const COARSE: usize = 320;

/// The longer side of the usual pass, in pixels of the input: insightface's `det_size`.
pub const USUAL: usize = 640;

/// The longer side of the largest pass, in pixels of the input. A larger one costs more time than a
/// frame has.
pub const LARGEST: usize = 1920;

/// The most passes over one picture, each closer than the one before.
pub const MAX_PASSES: usize = 3;

/// The least score, of 0 to 1, at which a small detection of the coarse pass hints at a face. Nine
/// in ten faces of 6 pixels of the input reach it, and nothing else in photos of a single face
/// does.
pub const COARSE_HINT: f32 = 0.15;

/// The size in pixels of the input from which every face scores above [`LARGER_HINT`], in any pose.
/// A lower score there is not a hint.
const LARGER: f32 = 8.0;

/// The least score at which a larger detection of the coarse pass hints at a face.
const LARGER_HINT: f32 = 0.3;

/// The least score, of 0 to 1, at which a detection of another pass hints at a face that a closer
/// pass would find.
pub const HINT: f32 = 0.2;

/// The size in pixels of the coarse pass's input from which faces need no other pass: twice the
/// least size of the usual pass.
const LARGE_ENOUGH: f32 = 22.0;

/// The target size of the smallest face, if the coarse pass has faces that are too small but no
/// hints at others.
const COMFORTABLE: f32 = 32.0;

/// The size in pixels of the input below which faces are found less surely and have coarse
/// landmarks.
const SMALL_FACE: f32 = 12.0;

/// The target size of the smallest face at a closer pass.
const TARGET_FACE: f32 = 20.0;

/// The size in pixels of the input above which faces are found better at a coarser scale.
const LARGE_FACE: f32 = 320.0;

/// A closer pass is worth its time if at least one in this many faces is weak or small.
const SHARE: usize = 10;

/// The result of one pass.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The longer side of the scaled picture, in pixels of the input.
    pub side: usize,
    /// Pixels of the input per pixel of the picture.
    pub scale: f32,
    /// Faces in pixels of the picture, with scores down to [`HINT`], or [`COARSE_HINT`] for the
    /// coarse pass.
    pub detections: Vec<Detection>,
}

impl Pass {
    /// Returns the longer side of the pass after this coarse one; None if this one found everything
    /// well. `longest` is the longer side of the picture in pixels.
    ///
    /// Faces count as found from the score `threshold` on. Only for a pass with the side
    /// [`COARSE`].
    #[must_use]
    pub fn second(&self, longest: u32, threshold: f32) -> Option<usize> {
        let is_hint = |face: &&Detection| {
            let least = if face.bounds.shorter_side() * self.scale < LARGER {
                COARSE_HINT
            } else {
                LARGER_HINT
            };
            face.score >= least.min(threshold)
        };
        let hints = Self {
            detections: self.detections.iter().filter(is_hint).copied().collect(),
            ..*self
        };
        let smallest = hints.sides().fold(f32::INFINITY, f32::min);
        let is_weak = |face: &Detection| face.score < threshold;
        if hints.detections.is_empty()
            || hints.detections.iter().any(is_weak)
            || smallest < SMALL_FACE
        {
            return Some(hints.usual_or_closer(longest));
        }
        let side = ((COARSE as f32 * COMFORTABLE / smallest) as usize).next_multiple_of(MULTIPLE);
        Some(side.min(USUAL)).filter(|_| smallest < LARGE_ENOUGH)
    }

    /// Returns the usual side, or a larger one if too many faces are too small for that.
    fn usual_or_closer(&self, longest: u32) -> usize {
        let least = SMALL_FACE * COARSE as f32 / USUAL as f32;
        let tiny = self.sides().filter(|&side| side < least).count();
        if tiny == 0 || tiny * SHARE < self.detections.len() {
            USUAL
        } else {
            self.target_side(longest).max(USUAL)
        }
    }

    /// Returns the longer side of a closer pass, at most `longest` and [`LARGEST`]; None if it
    /// would find nothing new. `longest` is the longer side of the picture in pixels.
    ///
    /// Faces count as found from the score `threshold` on.
    #[must_use]
    pub fn closer(&self, longest: u32, threshold: f32) -> Option<usize> {
        let is_doubtful =
            |(face, side): &(&Detection, f32)| face.score < threshold || *side < SMALL_FACE;
        let doubtful = self
            .detections
            .iter()
            .zip(self.sides())
            .filter(is_doubtful)
            .count();
        if !self.detections.is_empty() && doubtful * SHARE < self.detections.len() {
            return None;
        }
        // A slightly larger pass finds nothing new.
        Some(self.target_side(longest)).filter(|&side| side * 4 > self.side * 5)
    }

    /// Returns the shorter sides of the faces in pixels of the input.
    fn sides(&self) -> impl Iterator<Item = f32> {
        self.detections
            .iter()
            .map(|face| face.bounds.shorter_side() * self.scale)
    }

    /// Returns the longer side at which the smallest face has the target size.
    fn target_side(&self, longest: u32) -> usize {
        // If nothing was found, all faces may be too small.
        let smallest = self.sides().fold(SMALL_FACE, f32::min).max(1.0);
        ((self.side as f32 * TARGET_FACE / smallest) as usize)
            .min(LARGEST)
            .min(longest as usize)
    }

    /// Merges this pass with a closer one. Each face comes from the finest scale that contains it
    /// whole.
    ///
    /// Only faces that score at least `threshold` count, because hints must not replace sure
    /// detections. The faces are in no order.
    #[must_use]
    pub fn with(self, closer: Self, threshold: f32) -> Self {
        let is_sure = |face: &Detection| face.score >= threshold;
        let is_large = |face: &Detection| face.bounds.shorter_side() * closer.scale > LARGE_FACE;
        let (large, mut rest): (Vec<_>, Vec<_>) = self
            .detections
            .into_iter()
            .filter(is_sure)
            .partition(is_large);
        // Inside a face that is too large for it, the closer pass finds parts of faces.
        let is_part = |face: &Detection| {
            large
                .iter()
                .any(|whole| whole.bounds.share_of(&face.bounds) > 0.5)
        };
        let is_whole = |face: &Detection| is_sure(face) && !is_large(face) && !is_part(face);
        let fine: Vec<Detection> = closer.detections.into_iter().filter(is_whole).collect();
        rest.retain(|face| {
            fine.iter()
                .all(|finer| finer.bounds.iou_of_pixels(&face.bounds) <= OVERLAP)
        });
        Self {
            detections: large.into_iter().chain(fine).chain(rest).collect(),
            ..closer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::geometry::{Point, Rect};

    fn face(x: f32, side: f32, score: f32) -> Detection {
        Detection {
            bounds: Rect {
                x1: x,
                y1: 0.0,
                x2: x + side,
                y2: side * 1.2,
            },
            landmarks: [Point::default(); 5],
            score,
        }
    }

    /// A pass over a picture of 1920 pixels.
    fn pass(side: usize, detections: &[Detection]) -> Pass {
        Pass {
            side,
            scale: side as f32 / 1920.0,
            detections: detections.to_vec(),
        }
    }

    /// Faces that the usual pass finds well.
    fn strong(count: usize) -> Vec<Detection> {
        (0..count)
            .map(|i| face(200.0 * i as f32, 90.0, 0.9))
            .collect()
    }

    /// The second pass runs only if the first found more than large faces.
    #[test]
    fn second_pass_depends_on_face_sizes() {
        for (case, faces, wanted) in [
            (
                "large faces",
                vec![face(0.0, 400.0, 0.8), face(500.0, 300.0, 0.9)],
                None,
            ),
            (
                "a large face that is weak",
                vec![face(0.0, 400.0, 0.6)],
                Some(USUAL),
            ),
            (
                "a face that is not quite large enough",
                vec![face(0.0, 400.0, 0.8), face(500.0, 120.0, 0.9)],
                Some(512),
            ),
            (
                "a face for the usual pass",
                vec![face(0.0, 400.0, 0.8), face(500.0, 80.0, 0.9)],
                Some(USUAL),
            ),
            (
                "a larger detection with a low score",
                vec![face(0.0, 400.0, 0.8), face(500.0, 90.0, 0.25)],
                None,
            ),
            (
                "a face that is half hidden",
                vec![face(0.0, 400.0, 0.8), face(500.0, 90.0, 0.4)],
                Some(USUAL),
            ),
            (
                "a hint at a distant face",
                vec![face(0.0, 400.0, 0.8), face(500.0, 36.0, 0.2)],
                Some(USUAL),
            ),
            (
                "distant faces",
                vec![face(0.0, 400.0, 0.8), face(500.0, 30.0, 0.2)],
                Some(1280),
            ),
            (
                "one distant face of many",
                [strong(29), vec![face(0.0, 30.0, 0.3)]].concat(),
                Some(USUAL),
            ),
            (
                "the most distant faces",
                vec![face(500.0, 12.0, 0.16)],
                Some(1920),
            ),
            ("nothing", vec![], Some(USUAL)),
        ] {
            assert_eq!(pass(COARSE, &faces).second(1920, 0.7), wanted, "{case}");
        }
        // A picture without more pixels gets the usual pass.
        assert_eq!(
            pass(COARSE, &[face(0.0, 30.0, 0.3)]).second(400, 0.7),
            Some(USUAL)
        );
    }

    /// A closer pass runs only if it can find more.
    #[test]
    fn closer_pass_needs_doubtful_faces() {
        for (case, longest, faces, wanted) in [
            ("strong faces", 1920, strong(30), None),
            (
                "one weak face of many",
                1920,
                [strong(29), vec![face(0.0, 60.0, 0.5)]].concat(),
                None,
            ),
            (
                "weak faces",
                1920,
                [strong(2), vec![face(0.0, 40.0, 0.5)]].concat(),
                Some(1066),
            ),
            (
                "small faces",
                1920,
                [strong(2), vec![face(0.0, 24.0, 0.9)]].concat(),
                Some(1600),
            ),
            (
                "the smallest faces",
                3000,
                vec![face(0.0, 9.0, 0.3)],
                Some(1920),
            ),
            ("nothing", 1920, vec![], Some(1066)),
            (
                "a picture that has no more to show",
                640,
                vec![face(0.0, 30.0, 0.3)],
                None,
            ),
            ("hardly more", 800, vec![face(0.0, 30.0, 0.3)], None),
        ] {
            assert_eq!(pass(USUAL, &faces).closer(longest, 0.7), wanted, "{case}");
        }
    }

    #[test]
    fn merge_takes_finest_whole_face() {
        let coarse = pass(
            480,
            &[
                face(0.0, 40.0, 0.72),
                face(1000.0, 500.0, 0.9),
                face(300.0, 50.0, 0.8),
            ],
        );
        let fine = pass(
            1920,
            &[
                face(1.0, 40.0, 0.9),
                face(1100.0, 100.0, 0.8),
                face(1010.0, 480.0, 0.8),
                face(600.0, 20.0, 0.75),
            ],
        );
        let scores: Vec<f32> = coarse
            .with(fine, 0.7)
            .detections
            .iter()
            .map(|face| face.score)
            .collect();
        // In order: the large face of the coarse pass, the near face of the finer one, the new
        // distant face, and the face of the coarse pass alone.
        assert_eq!(scores, [0.9, 0.9, 0.75, 0.8]);
    }

    #[test]
    fn hints_replace_no_face() {
        let coarse = pass(480, &[face(0.0, 600.0, 0.2), face(1000.0, 50.0, 0.9)]);
        let fine = pass(1920, &[face(100.0, 60.0, 0.8), face(1001.0, 50.0, 0.25)]);
        let scores: Vec<f32> = coarse
            .with(fine, 0.7)
            .detections
            .iter()
            .map(|face| face.score)
            .collect();
        // Both sure faces stay: the one inside a large weak box, and the one with a weak box of the
        // closer pass.
        assert_eq!(scores, [0.8, 0.9]);
    }
}
