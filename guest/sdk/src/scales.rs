//! At which sizes to look at a picture.
//!
//! A detector finds faces of some 12 to 400 pixels of its input. One look at a usual size finds most of them; what it sees weakly or
//! small says whether a larger one would find more, and a picture in which it sees nothing may be all face, or hold none but distant ones.
//! The figures here were measured with SCRFD 500MF (`docs/performance.md`).

use crate::scrfd::Detection;

/// The longer side of the first look, in pixels of the input: insightface's.
pub const FIRST: usize = 640;

/// The longer side of the look at a picture that may be all face.
pub const SMALL: usize = 256;

/// The longer side of the largest look: beyond it a pass costs more than a frame may take.
pub const LARGEST: usize = 1920;

/// Down to this score a detection hints at a face that a closer look would find: a face of 24 pixels in a frame of 1920 scores so at
/// [`FIRST`].
pub const HINT: f32 = 0.2;

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
    /// Pixels of the input for one of the picture.
    pub scale: f32,
    /// Faces down to [`HINT`].
    pub detections: Vec<Detection>,
}

impl Look {
    /// The longer side of a closer look at a picture whose longer side has `longest` pixels; none where it would add nothing.
    ///
    /// Faces count as found from the score `threshold` on.
    #[must_use]
    pub fn closer(&self, longest: u32, threshold: f32) -> Option<usize> {
        let sides = || self.detections.iter().map(|face| face.bounds.shorter_side() * self.scale);
        let doubtful = self.detections.iter().zip(sides()).filter(|(face, side)| face.score < threshold || *side < SMALL_FACE).count();
        if !self.detections.is_empty() && doubtful * SHARE < self.detections.len() {
            return None;
        }
        // Of a picture in which nothing is seen, everything may be too small.
        let smallest = sides().fold(SMALL_FACE, f32::min).max(1.0);
        let wanted = (FIRST as f32 * AIM / smallest) as usize;
        let most = LARGEST.min(longest as usize);
        // A little larger shows nothing new.
        Some(wanted.min(most)).filter(|&side| side * 4 > FIRST * 5)
    }

    /// This look together with a closer one: each face as the finest scale shows it that sees it whole.
    #[must_use]
    pub fn with(self, closer: Self) -> Vec<Detection> {
        let is_large = |face: &Detection| face.bounds.shorter_side() * closer.scale > LARGE_FACE;
        let (large, mut rest): (Vec<_>, Vec<_>) = self.detections.into_iter().partition(is_large);
        // Inside a face that is too large for it, the closer look sees parts of faces.
        let is_part = |face: &Detection| large.iter().any(|whole| whole.bounds.share_of(&face.bounds) > 0.5);
        let fine: Vec<Detection> = closer.detections.into_iter().filter(|face| !is_large(face) && !is_part(face)).collect();
        rest.retain(|face| fine.iter().all(|finer| finer.bounds.iou_of_pixels(&face.bounds) <= crate::scrfd::OVERLAP));
        large.into_iter().chain(fine).chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{Point, Rect};

    fn face(x: f32, side: f32, score: f32) -> Detection {
        Detection { bounds: Rect { x1: x, y1: 0.0, x2: x + side, y2: side * 1.2 }, landmarks: [Point::default(); 5], score }
    }

    fn look(scale: f32, detections: &[Detection]) -> Look {
        Look { scale, detections: detections.to_vec() }
    }

    #[test]
    fn a_closer_look_is_taken_where_it_may_add_something() {
        let strong = |count: usize| (0..count).map(|i| face(200.0 * i as f32, 90.0, 0.9)).collect::<Vec<_>>();
        let third = 1.0 / 3.0;
        for (what, longest, faces, wanted) in [
            ("faces that are seen well", 1920, strong(30), None),
            ("one weak face of many", 1920, [strong(29), vec![face(0.0, 60.0, 0.5)]].concat(), None),
            ("weak faces", 1920, [strong(2), vec![face(0.0, 40.0, 0.5)]].concat(), Some(1066)),
            ("small faces", 1920, [strong(2), vec![face(0.0, 24.0, 0.9)]].concat(), Some(1600)),
            ("the smallest faces", 3000, vec![face(0.0, 9.0, 0.3)], Some(1920)),
            ("nothing", 1920, vec![], Some(1066)),
            ("a picture that has no more to show", 640, vec![face(0.0, 30.0, 0.3)], None),
            ("hardly more", 800, vec![face(0.0, 30.0, 0.3)], None),
        ] {
            assert_eq!(look(third, &faces).closer(longest, 0.7), wanted, "{what}");
        }
    }

    #[test]
    fn each_face_is_taken_from_the_finest_scale_that_sees_it_whole() {
        let coarse = look(0.25, &[face(0.0, 40.0, 0.5), face(1000.0, 500.0, 0.9), face(300.0, 50.0, 0.8)]);
        let fine = look(1.0, &[face(1.0, 40.0, 0.9), face(1100.0, 100.0, 0.6), face(1010.0, 480.0, 0.4), face(600.0, 20.0, 0.75)]);
        let scores: Vec<f32> = coarse.with(fine).iter().map(|face| face.score).collect();
        // The large one as it was, the near one finer, the distant one that is new, and the one that only the first look saw.
        assert_eq!(scores, [0.9, 0.9, 0.75, 0.8]);
    }
}
