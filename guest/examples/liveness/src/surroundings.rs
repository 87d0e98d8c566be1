//! The surroundings of a face, as in MiniFASNet's training: `generate_patches.py` of
//! Silent-Face-Anti-Spoofing.

use rostro_sdk::geometry::Rect;

/// Returns the region of `scale` times a face's box around its centre. At the picture's edge it is
/// smaller, or moved inwards, as in the model's own code.
pub(crate) fn of(face: &Rect, scale: f32, width: u32, height: u32) -> Rect {
    let (most_x, most_y) = (width as f32 - 1.0, height as f32 - 1.0);
    let (across, down) = (face.x2 - face.x1, face.y2 - face.y1);
    let scale = scale.min(most_x / across).min(most_y / down);
    let place = |low: f32, side: f32, most: f32| {
        let begin =
            (low + side / 2.0 - side * scale / 2.0).clamp(0.0, (most - side * scale).max(0.0));
        (begin, begin + side * scale)
    };
    let ((x1, x2), (y1, y2)) = (place(face.x1, across, most_x), place(face.y1, down, most_y));
    Rect { x1, y1, x2, y2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_stays_within_picture() {
        let face = Rect {
            x1: 40.0,
            y1: 40.0,
            x2: 60.0,
            y2: 60.0,
        };
        let region = of(&face, 2.7, 1000, 1000);
        assert!(
            (region.x1 - 23.0).abs() < 1e-3 && (region.x2 - 77.0).abs() < 1e-3,
            "{region:?}"
        );
        // It is moved inwards at an edge, and smaller in a small picture.
        let corner = Rect {
            x1: 0.0,
            y1: 0.0,
            x2: 20.0,
            y2: 20.0,
        };
        let region = of(&corner, 2.7, 1000, 1000);
        assert_eq!((region.x1, region.y1), (0.0, 0.0));
        assert!((region.x2 - 54.0).abs() < 1e-3, "{region:?}");
        assert_eq!(of(&face, 2.7, 50, 60).x2, 49.0);
    }
}
