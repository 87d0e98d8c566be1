//! Reading the outputs of SCRFD (Guo et al., "Sample and Computation Redistribution for Efficient
//! Face Detection", 2021), as the models that insightface publishes give them, and as
//! `SCRFD.forward` and `SCRFD.nms` of insightface read them.
//!
//! For each stride s of 8, 16 and 32 the input of H×W pixels has cells of s × s pixels and two
//! anchors a cell, A = 2·(H/s)·(W/s), in rows of cells, both anchors of a cell one after the other.
//! There are three outputs a stride, nine in all, with or without a leading 1:
//!
//! | output | shape | values |
//! | --- | --- | --- |
//! | scores | A×1 | 0 to 1 |
//! | boxes | A×4 | distances of the left, upper, right and lower edge from the cell's upper left corner, in units of s |
//! | landmarks | A×10 | x and y of five offsets from that corner, in units of s |

use crate::geometry::{Landmarks, Point, Rect};
use crate::letterbox::Letterbox;

/// The strides of the three levels, in pixels of the input.
const STRIDES: [usize; 3] = [8, 16, 32];

/// Anchors in each cell.
const ANCHORS: usize = 2;

/// Above this overlap with a face of a higher score a face is dropped: insightface's value.
pub(crate) const OVERLAP: f32 = 0.4;

/// An output of the network: its values, and the length of its last dimension.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// 1 for scores, 4 for boxes, 10 for landmarks.
    pub columns: usize,
    /// Its values, row by row: rows × columns.
    pub values: &'a [f32],
}

/// A face in pixels of the picture. It is not cut to it: [`Rect::within`] does that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Its box, finite and not empty.
    pub bounds: Rect,
    /// Its landmarks, finite.
    pub landmarks: Landmarks,
    /// The detector's confidence, 0 to 1.
    pub score: f32,
}

impl Detection {
    /// The same face in a picture whose sides are `factor` times as long: with
    /// [`Reduced::divisor`](crate::decode::Reduced::divisor), in pixels of the whole picture.
    #[must_use]
    pub fn scaled(&self, factor: f32) -> Self {
        let Rect { x1, y1, x2, y2 } = self.bounds;
        Self {
            bounds: Rect {
                x1: x1 * factor,
                y1: y1 * factor,
                x2: x2 * factor,
                y2: y2 * factor,
            },
            landmarks: self.landmarks.map(|point| Point {
                x: point.x * factor,
                y: point.y * factor,
            }),
            score: self.score,
        }
    }
}

/// Why outputs are not those of SCRFD.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// A score, box or landmark output is missing for a stride.
    #[error(
        "the detector has no output of {rows} rows of {columns} for stride {stride}; it gives (rows, columns) {given:?}"
    )]
    Missing {
        /// Columns that were looked for.
        columns: usize,
        /// Rows that were looked for: anchors of the stride.
        rows: usize,
        /// For which stride, in pixels of the input.
        stride: usize,
        /// Rows and columns of what there is.
        given: Vec<(usize, usize)>,
    },
}

/// The faces that score at least `threshold` (0 to 1), best first, in pixels of the picture.
///
/// Of faces that overlap by more than 0.4 ([`Rect::iou_of_pixels`]) only the best stays: greedy
/// non-maximum suppression, across strides. `outputs` may come in any order: each is known by its
/// number of rows and columns. `letterbox` is that by which the picture was laid into the input.
///
/// # Errors
///
/// [`OutputError`] if an output of a stride is missing: the model is not SCRFD with landmarks, or
/// its input had another size.
pub fn detect(
    outputs: &[Output<'_>],
    letterbox: &Letterbox,
    threshold: f32,
) -> Result<Vec<Detection>, OutputError> {
    let mut found = Vec::new();
    for stride in STRIDES {
        Level::find(outputs, letterbox, stride)?.collect(letterbox.scale, threshold, &mut found);
    }
    Ok(suppress(found, OVERLAP))
}

/// The outputs of one stride.
struct Level<'a> {
    stride: f32,
    cells_across: usize,
    scores: &'a [f32],
    boxes: &'a [[f32; 4]],
    landmarks: &'a [[[f32; 2]; 5]],
}

impl<'a> Level<'a> {
    fn find(
        outputs: &[Output<'a>],
        letterbox: &Letterbox,
        stride: usize,
    ) -> Result<Self, OutputError> {
        let (across, down) = (letterbox.input.0 / stride, letterbox.input.1 / stride);
        let rows = across * down * ANCHORS;
        let values = |columns: usize| {
            let fits = |output: &&Output<'_>| {
                output.columns == columns && output.values.len() == rows * columns
            };
            outputs
                .iter()
                .find(fits)
                .map(|output| output.values)
                .ok_or_else(|| {
                    let given = outputs
                        .iter()
                        .map(|output| (output.values.len() / output.columns.max(1), output.columns))
                        .collect();
                    OutputError::Missing {
                        columns,
                        rows,
                        stride,
                        given,
                    }
                })
        };
        Ok(Self {
            stride: stride as f32,
            cells_across: across,
            scores: values(1)?,
            boxes: values(4)?.as_chunks().0,
            landmarks: values(10)?.as_chunks().0.as_chunks().0,
        })
    }

    fn collect(&self, scale: f32, threshold: f32, found: &mut Vec<Detection>) {
        let anchors = self
            .scores
            .iter()
            .zip(self.boxes)
            .zip(self.landmarks)
            .enumerate();
        for (anchor, ((&score, edges), points)) in
            anchors.filter(|(_, ((score, _), _))| **score >= threshold)
        {
            let cell = anchor / ANCHORS;
            let centre = Point {
                x: (cell % self.cells_across) as f32 * self.stride,
                y: (cell / self.cells_across) as f32 * self.stride,
            };
            let at = |x: f32, y: f32| Point {
                x: (centre.x + x * self.stride) / scale,
                y: (centre.y + y * self.stride) / scale,
            };
            let (upper_left, lower_right) = (at(-edges[0], -edges[1]), at(edges[2], edges[3]));
            let bounds = Rect {
                x1: upper_left.x,
                y1: upper_left.y,
                x2: lower_right.x,
                y2: lower_right.y,
            };
            let landmarks = points.map(|[x, y]| at(x, y));
            let finite = landmarks
                .iter()
                .all(|point: &Point| point.x.is_finite() && point.y.is_finite());
            // At very low thresholds networks give boxes that are turned inside out.
            if bounds.area() > 0.0 && bounds.area().is_finite() && finite {
                found.push(Detection {
                    bounds,
                    landmarks,
                    score: score.min(1.0),
                });
            }
        }
    }
}

/// Greedy non-maximum suppression: the best face stays, those go that overlap it by more than
/// `overlap` (intersection over union, 0 to 1; SCRFD's is 0.4), and so on. Best first; equal scores
/// keep their order.
#[must_use]
pub fn suppress(mut found: Vec<Detection>, overlap: f32) -> Vec<Detection> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for face in found {
        if kept
            .iter()
            .all(|better| better.bounds.iou_of_pixels(&face.bounds) <= overlap)
        {
            kept.push(face);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outputs for a 64×32 input in which nothing is found yet.
    struct Outputs(Vec<(usize, Vec<f32>)>);

    impl Outputs {
        fn empty() -> Self {
            let rows = STRIDES.map(|stride| (64 / stride) * (32 / stride) * ANCHORS);
            Self(
                [1, 4, 10]
                    .iter()
                    .flat_map(|&columns| rows.map(|rows| (columns, vec![0.0; rows * columns])))
                    .collect(),
            )
        }

        /// Puts a face of `half` strides to each side around an anchor of the level.
        fn put(&mut self, level: usize, anchor: usize, score: f32, half: f32) {
            self.0[level].1[anchor] = score;
            self.0[3 + level].1[anchor * 4..][..4].fill(half);
            for (index, value) in self.0[6 + level].1[anchor * 10..][..10]
                .iter_mut()
                .enumerate()
            {
                *value = index as f32 / 10.0;
            }
        }

        fn detect(&self, threshold: f32) -> Result<Vec<Detection>, OutputError> {
            let outputs: Vec<Output<'_>> = self
                .0
                .iter()
                .map(|(columns, values)| Output {
                    columns: *columns,
                    values,
                })
                .collect();
            detect(
                &outputs,
                &Letterbox {
                    scaled: (64, 32),
                    input: (64, 32),
                    scale: 0.5,
                },
                threshold,
            )
        }
    }

    #[test]
    fn distances_are_taken_from_the_anchors_cell_in_pixels_of_the_picture() {
        let mut outputs = Outputs::empty();
        // Stride 16: four cells across; the second anchor of the cell in column 1 of row 1.
        outputs.put(1, (4 + 1) * 2 + 1, 0.9, 1.5);
        let found = outputs.detect(0.5).unwrap();
        // The cell lies at 16, 16 of the input; 1.5 strides are 24; the scale of a half doubles
        // all.
        assert_eq!(
            found[0].bounds,
            Rect {
                x1: -16.0,
                y1: -16.0,
                x2: 80.0,
                y2: 80.0
            }
        );
        assert_eq!(
            found[0].landmarks[0],
            Point {
                x: 32.0,
                y: 32.0 + 0.1 * 32.0
            }
        );
        assert_eq!((found.len(), found[0].score), (1, 0.9));
    }

    #[test]
    fn the_threshold_is_inclusive() {
        let mut outputs = Outputs::empty();
        outputs.put(0, 0, 0.5, 1.0);
        assert_eq!(outputs.detect(0.5).unwrap().len(), 1);
        assert_eq!(outputs.detect(0.500_01).unwrap().len(), 0);
    }

    #[test]
    fn of_faces_that_overlap_the_best_stays_whatever_its_level() {
        let mut outputs = Outputs::empty();
        outputs.put(0, 0, 0.8, 2.0);
        outputs.put(0, 1, 0.7, 2.0);
        outputs.put(1, 0, 0.9, 1.0);
        outputs.put(2, 3, 0.6, 0.2);
        let scores: Vec<f32> = outputs
            .detect(0.5)
            .unwrap()
            .iter()
            .map(|face| face.score)
            .collect();
        assert_eq!(scores, [0.9, 0.6]);
    }

    #[test]
    fn degenerate_faces_are_dropped() {
        for half in [0.0, -1.0, f32::NAN, f32::INFINITY, 3e38] {
            let mut outputs = Outputs::empty();
            outputs.put(0, 0, 0.9, half);
            assert_eq!(outputs.detect(0.5).unwrap(), [], "{half}");
        }
        let mut outputs = Outputs::empty();
        outputs.put(0, 0, f32::NAN, 1.0);
        assert_eq!(outputs.detect(0.5).unwrap(), []);
    }

    #[test]
    fn outputs_of_another_network_are_told_from_ours() {
        let mut outputs = Outputs::empty();
        outputs.0.remove(4);
        let message = outputs.detect(0.5).unwrap_err().to_string();
        assert!(
            message.starts_with("the detector has no output of 16 rows of 4 for stride 16"),
            "{message}"
        );
    }
}
