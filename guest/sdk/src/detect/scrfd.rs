//! Decoding of the outputs of SCRFD (Guo et al., "Sample and Computation Redistribution for
//! Efficient Face Detection", 2021). The models are those that insightface publishes; the decoding
//! follows its `SCRFD.forward` and `SCRFD.nms`.
//!
//! For each stride s of 8, 16 and 32 the input of H×W pixels has cells of s × s pixels. A cell has
//! two anchors: A = 2·(H/s)·(W/s). Anchors are in rows of cells, both anchors of a cell one after
//! the other. Each stride has three outputs, nine in all, with or without a leading 1:
//!
//! | output | shape | values |
//! | --- | --- | --- |
//! | scores | A×1 | 0 to 1 |
//! | boxes | A×4 | distances of the left, upper, right and lower edge from the cell's upper left corner, in units of s |
//! | landmarks | A×10 | x and y of five offsets from that corner, in units of s |

use crate::image::geometry::{Landmarks, Point, Rect};
use crate::image::letterbox::Letterbox;

/// The strides of the three levels, in pixels of the input.
const STRIDES: [usize; 3] = [8, 16, 32];

/// Anchors in each cell.
const ANCHORS: usize = 2;

/// A face that overlaps one of a higher score by more than this is dropped: insightface's value.
pub(crate) const OVERLAP: f32 = 0.4;

/// An output of the network: its values, and the length of its last dimension.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// 1 for scores, 4 for boxes, 10 for landmarks.
    pub columns: usize,
    /// Its values, row by row: rows × columns.
    pub values: &'a [f32],
}

/// A face in pixels of the picture. Its box may extend beyond the picture; [`Rect::within`] cuts
/// it.
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
    /// Returns the face in a picture with sides `factor` times as long. With
    /// [`Reduced::divisor`](crate::decode::Reduced::divisor) the result is in pixels of the whole
    /// picture.
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

/// Error for outputs of another model than SCRFD.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// A score, box or landmark output is missing for a stride.
    #[error(
        "the detector has no output of {rows} rows of {columns} for stride {stride}; it gives (rows, columns) {given:?}"
    )]
    Missing {
        /// Columns of the missing output.
        columns: usize,
        /// Rows of the missing output: anchors of the stride.
        rows: usize,
        /// The stride in pixels of the input.
        stride: usize,
        /// Rows and columns of each output.
        given: Vec<(usize, usize)>,
    },
}

/// Returns the faces that score at least `threshold` (0 to 1), best first, in pixels of the
/// picture.
///
/// Keeps only the best of faces that overlap by more than 0.4 ([`Rect::iou_of_pixels`]): greedy
/// non-maximum suppression, across strides. `outputs` may come in any order, because each is
/// identified by its number of rows and columns. `letterbox` is the picture's letterbox.
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
    let mut faces = Vec::new();
    for stride in STRIDES {
        Level::find(outputs, letterbox, stride)?.collect(letterbox.scale, threshold, &mut faces);
    }
    Ok(suppress(faces, OVERLAP))
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
            // At very low thresholds networks return inverted boxes.
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

/// Applies greedy non-maximum suppression: keeps the best face, drops those that overlap it by more
/// than `overlap`, and repeats this with the rest. `overlap` is intersection over union, 0 to 1;
/// SCRFD's is 0.4. Best first; equal scores keep their order.
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

    /// Outputs for a 64×32 input without faces.
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

        /// Adds a face that extends `half` strides to each side of an anchor.
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

    /// Distances count from the anchor's cell and become pixels of the picture.
    #[test]
    fn boxes_are_relative_to_cells() {
        let mut outputs = Outputs::empty();
        // Stride 16: four cells across; the second anchor of the cell in column 1 of row 1.
        outputs.put(1, (4 + 1) * 2 + 1, 0.9, 1.5);
        let found = outputs.detect(0.5).unwrap();
        // The cell lies at 16, 16 of the input; 1.5 strides are 24; the scale of one half doubles
        // everything.
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

    /// The best of overlapping faces stays, also across strides.
    #[test]
    fn suppression_spans_strides() {
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
    fn missing_output_is_an_error() {
        let mut outputs = Outputs::empty();
        outputs.0.remove(4);
        let message = outputs.detect(0.5).unwrap_err().to_string();
        assert!(
            message.starts_with("the detector has no output of 16 rows of 4 for stride 16"),
            "{message}"
        );
    }
}
