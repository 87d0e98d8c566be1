//! Pairs of boxes from two answers about one picture that show the same face.

use crate::bindings::BoundingBox;

/// Intersection over union above which two boxes show the same face.
const SAME_FACE: f32 = 0.5;

/// Returns, for each box of `one`, the index of the box of `other` that shows the same face. Each
/// index is returned at most once, for the box that overlaps it most.
pub fn same_faces(one: &[BoundingBox], other: &[BoundingBox]) -> Vec<Option<usize>> {
    let mut remaining: Vec<usize> = (0..other.len()).collect();
    let same = |bounds: &BoundingBox| {
        let overlaps = remaining
            .iter()
            .enumerate()
            .filter_map(|(place, index)| Some((place, iou(bounds, other.get(*index)?))));
        let (place, _) = overlaps
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|(_, overlap)| *overlap > SAME_FACE)?;
        Some(remaining.swap_remove(place))
    };
    one.iter().map(same).collect()
}

/// Returns the index of the box that overlaps most with `bounds`, if it shows the same face.
pub fn most_overlapping(bounds: &BoundingBox, others: &[BoundingBox]) -> Option<usize> {
    let overlaps = others.iter().map(|other| iou(bounds, other)).enumerate();
    overlaps
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|(_, overlap)| *overlap > SAME_FACE)
        .map(|(index, _)| index)
}

/// Returns the intersection over union.
fn iou(a: &BoundingBox, b: &BoundingBox) -> f32 {
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
        for (others, expected) in [
            (vec![0.2, 0.1, 0.3], Some(1)),
            // An overlap of a third: a neighbour's face.
            (vec![0.5], None),
            (vec![0.33], Some(0)),
            (vec![0.34], None),
            (vec![], None),
        ] {
            let others: Vec<BoundingBox> = others.into_iter().map(face).collect();
            assert_eq!(
                most_overlapping(&face(0.0), &others),
                expected,
                "{others:?}"
            );
        }
    }

    #[test]
    fn same_faces_pairs_each_once() {
        let face = |x: f32| BoundingBox {
            x1: x,
            y1: 0.0,
            x2: x + 100.0,
            y2: 100.0,
        };
        // The first takes the nearest. None remains for the second, next to it. A third overlaps
        // by less than a half.
        let same = same_faces(
            &[face(0.0), face(5.0), face(300.0)],
            &[face(360.0), face(10.0)],
        );
        assert_eq!(same, [Some(1), None, None]);
    }
}
