//! At which sizes to look at a picture.
//!
//! A detector is sure of faces of some 12 to 320 pixels of its input, and hints, with a low score,
//! at faces half as large. So a first, coarse look costs little and tells which look is worth its
//! time: none, if all that it sees are large faces; the usual one; or a closer one, where faces are
//! too small for that.
//!
//! A look is one run of the detector on the whole picture, laid into its input by
//! [`Letterbox::frame`](crate::letterbox::Letterbox::frame); its side is the longer side of the
//! scaled picture. The scheme is Rostro's own, not insightface's, which looks once. Its figures
//! were measured with SCRFD 500MF (`docs/performance.md` in Rostro's repository).

use crate::letterbox::MULTIPLE;
use crate::scrfd::Detection;

/// The longer side of the first look at a frame, in pixels of the input: a quarter of the usual
/// one's cost. A face that fills the picture is seen well at it, and at the usual one not.
pub const COARSE: usize = 320;

/// The longer side of the usual look, in pixels of the input: insightface's `det_size`.
pub const USUAL: usize = 640;

/// The longer side of the largest look, in pixels of the input: beyond it a pass costs more than a
/// frame may take.
pub const LARGEST: usize = 1920;

/// The most looks at one picture of which each is closer than the one before.
pub const LOOKS: usize = 3;

/// Down to this score, of 0 to 1, a small detection of the coarse look hints at a face: nine in ten
/// faces of 6 pixels of the input score so, and nothing else in photos of a single face does.
pub const COARSE_HINT: f32 = 0.15;

/// From this many pixels of the input on, all faces score above [`LARGER_HINT`], however they are
/// turned: less is no hint.
const LARGER: f32 = 8.0;

/// Down to this score a detection of the coarse look that is not small hints at a face.
const LARGER_HINT: f32 = 0.3;

/// Down to this score, of 0 to 1, a detection of another look hints at a face that a closer look
/// would find.
pub const HINT: f32 = 0.2;

/// Faces of so many pixels of the coarse look's input need no other: twice what is asked for of the
/// usual look.
const LARGE_ENOUGH: f32 = 22.0;

/// As large the smallest face is made where the coarse look has faces that are not large enough,
/// and no hints at others.
const COMFORTABLE: f32 = 32.0;

/// Faces of fewer pixels of the input are found less surely, and their landmarks are coarse.
const SMALL_FACE: f32 = 12.0;

/// As large the smallest face should be at a closer look.
const AIM: f32 = 20.0;

/// Faces of more pixels of the input are seen better at a coarser scale.
const LARGE_FACE: f32 = 320.0;

/// One in so many faces that is weak or small makes a closer look worth its time.
const SHARE: usize = 10;

/// What one look found.
#[derive(Clone, Debug)]
pub struct Look {
    /// The longer side of the scaled picture, in pixels of the input.
    pub side: usize,
    /// Pixels of the input for one of the picture.
    pub scale: f32,
    /// Faces in pixels of the picture, with scores down to [`HINT`], or [`COARSE_HINT`] if this is
    /// the coarse look.
    pub detections: Vec<Detection>,
}

impl Look {
    /// The longer side of the look to take after this coarse one, at a picture whose longer side
    /// has `longest` pixels; none where all that there is was seen well.
    ///
    /// Faces count as found from the score `threshold` on. For a look whose side is [`COARSE`].
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
        let wanted = ((COARSE as f32 * COMFORTABLE / smallest) as usize).next_multiple_of(MULTIPLE);
        Some(wanted.min(USUAL)).filter(|_| smallest < LARGE_ENOUGH)
    }

    /// The usual look, unless too many faces are too small for that, too.
    fn usual_or_closer(&self, longest: u32) -> usize {
        let least = SMALL_FACE * COARSE as f32 / USUAL as f32;
        let tiny = self.sides().filter(|&side| side < least).count();
        if tiny == 0 || tiny * SHARE < self.detections.len() {
            USUAL
        } else {
            self.aimed(longest).max(USUAL)
        }
    }

    /// The longer side of a look closer than this one, at a picture whose longer side has `longest`
    /// pixels; none where it would add nothing. No more than `longest`, nor than [`LARGEST`].
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
        // A little larger shows nothing new.
        Some(self.aimed(longest)).filter(|&side| side * 4 > self.side * 5)
    }

    /// The shorter sides of the faces in pixels of the input.
    fn sides(&self) -> impl Iterator<Item = f32> {
        self.detections
            .iter()
            .map(|face| face.bounds.shorter_side() * self.scale)
    }

    /// The longer side of the look at which the smallest face is as large as it should be.
    fn aimed(&self, longest: u32) -> usize {
        // Of a picture in which nothing is seen, everything may be too small.
        let smallest = self.sides().fold(SMALL_FACE, f32::min).max(1.0);
        ((self.side as f32 * AIM / smallest) as usize)
            .min(LARGEST)
            .min(longest as usize)
    }

    /// This look together with a closer one: each face as the finest scale shows it that sees it
    /// whole.
    ///
    /// Only faces that score at least `threshold` count: hints tell where to look, and must not
    /// take the place of what was seen for sure. The faces are in no order.
    #[must_use]
    pub fn with(self, closer: Self, threshold: f32) -> Self {
        let is_sure = |face: &Detection| face.score >= threshold;
        let is_large = |face: &Detection| face.bounds.shorter_side() * closer.scale > LARGE_FACE;
        let (large, mut rest): (Vec<_>, Vec<_>) = self
            .detections
            .into_iter()
            .filter(is_sure)
            .partition(is_large);
        // Inside a face that is too large for it, the closer look sees parts of faces.
        let is_part = |face: &Detection| {
            large
                .iter()
                .any(|whole| whole.bounds.share_of(&face.bounds) > 0.5)
        };
        let is_whole = |face: &Detection| is_sure(face) && !is_large(face) && !is_part(face);
        let fine: Vec<Detection> = closer.detections.into_iter().filter(is_whole).collect();
        rest.retain(|face| {
            fine.iter()
                .all(|finer| finer.bounds.iou_of_pixels(&face.bounds) <= crate::scrfd::OVERLAP)
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
    use crate::geometry::{Point, Rect};

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

    /// A look at a picture of 1920 pixels.
    fn look(side: usize, detections: &[Detection]) -> Look {
        Look {
            side,
            scale: side as f32 / 1920.0,
            detections: detections.to_vec(),
        }
    }

    /// Faces that are seen well at the usual look.
    fn strong(count: usize) -> Vec<Detection> {
        (0..count)
            .map(|i| face(200.0 * i as f32, 90.0, 0.9))
            .collect()
    }

    #[test]
    fn the_second_look_is_taken_only_where_the_first_saw_more_than_large_faces() {
        for (what, faces, wanted) in [
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
                "a face that is seen well at the usual look",
                vec![face(0.0, 400.0, 0.8), face(500.0, 80.0, 0.9)],
                Some(USUAL),
            ),
            (
                "what would score more if it were a face",
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
            assert_eq!(look(COARSE, &faces).second(1920, 0.7), wanted, "{what}");
        }
        // A picture that has no more pixels is looked at as usual.
        assert_eq!(
            look(COARSE, &[face(0.0, 30.0, 0.3)]).second(400, 0.7),
            Some(USUAL)
        );
    }

    #[test]
    fn a_closer_look_is_taken_where_it_may_add_something() {
        for (what, longest, faces, wanted) in [
            ("faces that are seen well", 1920, strong(30), None),
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
            assert_eq!(look(USUAL, &faces).closer(longest, 0.7), wanted, "{what}");
        }
    }

    #[test]
    fn each_face_is_taken_from_the_finest_scale_that_sees_it_whole() {
        let coarse = look(
            480,
            &[
                face(0.0, 40.0, 0.72),
                face(1000.0, 500.0, 0.9),
                face(300.0, 50.0, 0.8),
            ],
        );
        let fine = look(
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
        // The large one as it was, the near one finer, the distant one that is new, and the one
        // that only the first look saw.
        assert_eq!(scores, [0.9, 0.9, 0.75, 0.8]);
    }

    #[test]
    fn hints_take_the_place_of_nothing() {
        let coarse = look(480, &[face(0.0, 600.0, 0.2), face(1000.0, 50.0, 0.9)]);
        let fine = look(1920, &[face(100.0, 60.0, 0.8), face(1001.0, 50.0, 0.25)]);
        let scores: Vec<f32> = coarse
            .with(fine, 0.7)
            .detections
            .iter()
            .map(|face| face.score)
            .collect();
        // The face inside a large weak box stays, and so does the one on which the closer look has
        // a weak box.
        assert_eq!(scores, [0.8, 0.9]);
    }
}
