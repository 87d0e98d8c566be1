//! Points and boxes in pixels: x to the right, y down, the origin in the upper left.
//!
//! Each use states its pixels: mostly those of the upright picture.

/// A point. It need not be a whole number of pixels, nor inside the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Horizontal coordinate, to the right.
    pub x: f32,
    /// Vertical coordinate, downwards.
    pub y: f32,
}

/// Five landmarks: left eye, right eye, nose, left and right corner of the mouth, as the viewer
/// sees them.
pub type Landmarks = [Point; 5];

/// An axis-aligned box, given by its edges.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x1: f32,
    /// Upper edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Lower edge.
    pub y2: f32,
}

impl Rect {
    /// Returns width times height, in square pixels; zero if either is negative.
    #[must_use]
    pub fn area(&self) -> f32 {
        (self.x2 - self.x1).max(0.0) * (self.y2 - self.y1).max(0.0)
    }

    /// Returns the smaller of width and height, in pixels; negative if the box is inverted.
    #[must_use]
    pub fn shorter_side(&self) -> f32 {
        (self.x2 - self.x1).min(self.y2 - self.y1)
    }

    /// Returns the share of `other`'s area inside this box, 0 to 1; NaN if `other` is empty.
    #[must_use]
    pub fn share_of(&self, other: &Self) -> f32 {
        let (x1, y1) = (self.x1.max(other.x1), self.y1.max(other.y1));
        let both = Self {
            x1,
            y1,
            x2: self.x2.min(other.x2).max(x1),
            y2: self.y2.min(other.y2).max(y1),
        };
        both.area() / other.area()
    }

    /// Returns the part of the box inside an image of `width` × `height` pixels, valid for an
    /// analysis. None if the part is empty, or an edge is not finite.
    #[must_use]
    pub fn within(&self, width: u32, height: u32) -> Option<Self> {
        let (right, bottom) = (width as f32, height as f32);
        let inside = Self {
            x1: self.x1.max(0.0),
            y1: self.y1.max(0.0),
            x2: self.x2.min(right),
            y2: self.y2.min(bottom),
        };
        // A comparison with NaN is false, but `max` and `min` above replaced NaN edges.
        let finite = [self.x1, self.y1, self.x2, self.y2]
            .iter()
            .all(|edge| edge.is_finite());
        (finite && inside.x1 < inside.x2 && inside.y1 < inside.y2).then_some(inside)
    }

    /// Returns intersection over union, 0 to 1, with both boxes one pixel wider and higher. This is
    /// the convention of the detectors' own non-maximum suppression, in which edges name the pixels
    /// that they cover (`SCRFD.nms` of insightface, after Girshick's of Fast R-CNN).
    #[must_use]
    pub fn iou_of_pixels(&self, other: &Self) -> f32 {
        // Most boxes are apart, and this is quicker to see.
        let is_apart = other.x1 - self.x2 >= 1.0
            || self.x1 - other.x2 >= 1.0
            || other.y1 - self.y2 >= 1.0
            || self.y1 - other.y2 >= 1.0;
        if is_apart {
            return 0.0;
        }
        let side = |low: f32, high: f32| (high - low + 1.0).max(0.0);
        let area = |rect: &Self| side(rect.x1, rect.x2) * side(rect.y1, rect.y2);
        let both = side(self.x1.max(other.x1), self.x2.min(other.x2))
            * side(self.y1.max(other.y1), self.y2.min(other.y2));
        both / (area(self) + area(other) - both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Rect = Rect {
        x1: 0.0,
        y1: 0.0,
        x2: 9.0,
        y2: 9.0,
    };

    #[test]
    fn iou_counts_edge_pixels() {
        let right_half = Rect { x1: 5.0, ..UNIT };
        assert_eq!(UNIT.iou_of_pixels(&UNIT), 1.0);
        assert_eq!(UNIT.iou_of_pixels(&right_half), 0.5);
        assert_eq!(
            UNIT.iou_of_pixels(&Rect {
                x1: 20.0,
                x2: 30.0,
                ..UNIT
            }),
            0.0
        );
    }

    #[test]
    fn share_is_relative_to_other() {
        let right_half = Rect { x1: 4.5, ..UNIT };
        assert_eq!(
            (UNIT.share_of(&right_half), right_half.share_of(&UNIT)),
            (1.0, 0.5)
        );
        assert_eq!(
            UNIT.share_of(&Rect {
                x1: 20.0,
                x2: 30.0,
                ..UNIT
            }),
            0.0
        );
    }

    #[test]
    fn box_is_cut_to_image() {
        let wide = Rect {
            x1: -5.0,
            y1: 2.0,
            x2: 50.0,
            y2: 8.0,
        };
        assert_eq!(
            wide.within(20, 10),
            Some(Rect {
                x1: 0.0,
                y1: 2.0,
                x2: 20.0,
                y2: 8.0
            })
        );
        assert_eq!(Rect { x1: 30.0, ..wide }.within(20, 10), None);
        for edge in [f32::NAN, f32::INFINITY] {
            assert_eq!(Rect { x1: edge, ..wide }.within(20, 10), None);
            assert_eq!(Rect { y2: edge, ..wide }.within(20, 10), None);
        }
    }
}
