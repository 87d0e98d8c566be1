//! Which faces of two answers about one picture are the same.

use crate::bindings::BoundingBox;

/// Two boxes that overlap by more than this are of one face.
const SAME_FACE: f32 = 0.5;

/// For each box of the one answer that of the other which is of the same face, if any is: the one
/// that it overlaps most, each once.
pub fn same_faces(one: &[BoundingBox], other: &[BoundingBox]) -> Vec<Option<usize>> {
    let mut left: Vec<usize> = (0..other.len()).collect();
    let same = |bounds: &BoundingBox| {
        let overlaps = left
            .iter()
            .enumerate()
            .filter_map(|(place, index)| Some((place, face_matching(bounds, other.get(*index)?))));
        let (place, _) = overlaps
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|(_, face_matching)| *face_matching > SAME_FACE)?;
        Some(left.swap_remove(place))
    };
    one.iter().map(same).collect()
}

/// Returns the index of the box that overlaps most with `bounds`, if it is of the same face.
pub fn most_overlapping(bounds: &BoundingBox, others: &[BoundingBox]) -> Option<usize> {
    let overlaps = others
        .iter()
        .map(|other| face_matching(bounds, other))
        .enumerate();
    overlaps
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|(_, face_matching)| *face_matching > SAME_FACE)
        .map(|(index, _)| index)
}

/// Intersection over union.
fn face_matching(a: &BoundingBox, b: &BoundingBox) -> f32 {
    let area = |b: &BoundingBox| (b.x2 - b.x1) * (b.y2 - b.y1);
    let width = a.x2.min(b.x2) - a.x1.max(b.x1);
    let height = a.y2.min(b.y2) - a.y1.max(b.y1);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let common = width * height;
    common / (area(a) + area(b) - common)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_overlapping_takes_nearest_face() {
        let face = |x: f32| BoundingBox {
            x1: x,
            y1: 0.0,
            x2: x + 1.0,
            y2: 1.0,
        };
        for (others, wanted) in [
            (vec![0.2, 0.1, 0.3], Some(1)),
            // A third of the area is common: a neighbour's face.
            (vec![0.5], None),
            (vec![0.33], Some(0)),
            (vec![0.34], None),
            (vec![], None),
        ] {
            let others: Vec<BoundingBox> = others.into_iter().map(face).collect();
            assert_eq!(most_overlapping(&face(0.0), &others), wanted, "{others:?}");
        }
    }

    #[test]
    fn each_face_is_the_same_as_one_other_at_most() {
        let face = |x: f32| BoundingBox {
            x1: x,
            y1: 0.0,
            x2: x + 100.0,
            y2: 100.0,
        };
        // The first takes the nearest; the second, beside it, finds none left; a third overlaps by
        // less than a half.
        let same = same_faces(
            &[face(0.0), face(5.0), face(300.0)],
            &[face(360.0), face(10.0)],
        );
        assert_eq!(same, [Some(1), None, None]);
    }
}
