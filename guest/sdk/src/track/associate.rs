//! Association of the faces of a frame with tracks, by boxes alone.
//!
//! Three stages, each an optimal assignment of what the earlier ones left:
//!
//! 1. Confident detections, by intersection over union with the predicted boxes.
//! 2. Detections under the threshold, by the same with a higher least overlap, to tracks of the
//!    previous frame. They continue tracks through blur and occlusion, but never begin one.
//! 3. Confident detections, by distance from the predicted centre: people who moved further than
//!    their box is wide, as they do at one frame a second.
//!
//! The first two are ByteTrack's (Y. Zhang et al., "ByteTrack: Multi-Object Tracking by Associating
//! Every Detection Box", 2022). The third has the gate of DeepSORT (N. Wojke et al., "Simple Online
//! and Realtime Tracking with a Deep Association Metric", 2017).

use std::collections::BTreeMap;

use super::appearance::Appearance;
use super::matching::{Pair, heaviest};
use super::motion::Motion;
use super::schedule::Doubt;
use crate::image::geometry::Rect;

/// The least overlap of a confident detection with a predicted box (ByteTrack's).
const LEAST_OVERLAP: f32 = 0.2;

/// The least overlap of a detection under the threshold with a predicted box (ByteTrack's).
const LEAST_OVERLAP_UNSURE: f32 = 0.5;

/// The largest squared Mahalanobis distance: 99 % of the χ² distribution with two degrees of
/// freedom.
const GATE: f32 = 9.21;

/// The largest ratio of sides in the third stage.
const SIZE_GATE: f32 = 1.6;

/// The furthest possible edge, in pixels.
const FURTHEST: f32 = 1e6;

/// The least overlap at which another box is a rival, and its least share of the matched pair's
/// overlap. The share keeps people who sit close together from being rivals for ever.
const RIVAL: (f32, f32) = (0.1, 0.4);

/// A detected face of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Its box in pixels of the picture. An observation with an edge that is not finite, or beyond a
    /// million pixels, is ignored.
    pub bounds: Rect,
    /// The detector's confidence, 0 to 1.
    pub score: f32,
    /// Its [quality](super::quality::quality), 0 to 1.
    pub quality: f32,
    /// Its appearance. Without one, changes of the face are not noticed.
    pub appearance: Option<Appearance>,
}

/// A track before the detections of a frame are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Its motion, predicted to the time of the frame.
    pub motion: Motion,
    /// True if it was observed in the previous frame.
    pub was_visible: bool,
}

/// The tracks that the faces of a frame continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// One entry an observation, in their order.
    pub origins: Vec<Origin>,
    /// One entry a track, in their order: why the track may have been confused with another. Also
    /// set for tracks that nothing continues.
    pub doubts: Vec<Doubt>,
}

/// Where a face of a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It continues the track at this index. A track has at most one observation.
    Track(usize),
    /// It begins a track.
    New,
    /// It is under the threshold and continues no track, or its box is impossible: not a face.
    Background,
}

/// Associates the observations of a frame with tracks. `threshold` is the detection score from
/// which an observation may begin a track.
#[must_use]
pub fn associate(
    tracks: &[Prediction],
    observations: &[Observation],
    threshold: f32,
) -> Association {
    let expected: Vec<Rect> = tracks.iter().map(|track| track.motion.bounds()).collect();
    let overlaps = overlaps(&expected, observations);
    let is_confident = |index: usize| {
        observations
            .get(index)
            .is_some_and(|face| face.score >= threshold && is_possible(&face.bounds))
    };
    let was_visible = |index: usize| tracks.get(index).is_some_and(|track| track.was_visible);
    let mut association = Association {
        origins: (0..observations.len())
            .map(|index| {
                if is_confident(index) {
                    Origin::New
                } else {
                    Origin::Background
                }
            })
            .collect(),
        doubts: vec![Doubt::None; tracks.len()],
    };
    let mut is_matched = vec![false; tracks.len()];

    let confident = overlaps
        .iter()
        .filter(|pair| pair.weight > LEAST_OVERLAP && is_confident(pair.column));
    let pairs: Vec<Pair> = confident.copied().collect();
    association.accept(&heaviest(&pairs), &mut is_matched);

    let unsure = overlaps.iter().filter(|pair| {
        pair.weight > LEAST_OVERLAP_UNSURE
            && !is_confident(pair.column)
            && was_visible(pair.row)
            && is_matched.get(pair.row) == Some(&false)
    });
    let pairs: Vec<Pair> = unsure.copied().collect();
    association.accept(&heaviest(&pairs), &mut is_matched);

    let jumps = heaviest(&association.jumps(tracks, observations, &is_matched));
    association.accept(&jumps, &mut is_matched);
    association.doubt(&overlaps, was_visible);
    for (track, _) in jumps {
        association.raise(track, Doubt::Change);
    }
    association
}

impl Association {
    fn accept(&mut self, pairs: &[(usize, usize)], is_matched: &mut [bool]) {
        for &(track, observation) in pairs {
            if let Some(origin) = self.origins.get_mut(observation) {
                *origin = Origin::Track(track);
            }
            if let Some(is_matched) = is_matched.get_mut(track) {
                *is_matched = true;
            }
        }
    }

    /// Returns the possible pairs of the third stage.
    fn jumps(
        &self,
        tracks: &[Prediction],
        observations: &[Observation],
        is_matched: &[bool],
    ) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let free = tracks.iter().zip(is_matched).enumerate();
        for (row, (track, _)) in free.filter(|(_, (_, is_matched))| !**is_matched) {
            let faces = observations.iter().zip(&self.origins).enumerate();
            for (column, (face, _)) in faces.filter(|(_, (_, origin))| **origin == Origin::New) {
                let distance = track.motion.distance(&face.bounds);
                if distance < GATE && track.motion.size_ratio(&face.bounds) < SIZE_GATE {
                    let weight = 1.0 - distance / GATE;
                    pairs.push(Pair {
                        row,
                        column,
                        weight,
                    });
                }
            }
        }
        pairs
    }

    /// Marks the tracks of overlapping boxes that could have been assigned the other way.
    fn doubt(&mut self, overlaps: &[Pair], was_visible: impl Fn(usize) -> bool) {
        // The matched overlap of each track and of each observation.
        let (mut rows, mut columns) = (BTreeMap::new(), BTreeMap::new());
        for pair in overlaps {
            if self.origins.get(pair.column) == Some(&Origin::Track(pair.row)) {
                rows.insert(pair.row, pair.weight);
                columns.insert(pair.column, (pair.row, pair.weight));
            }
        }
        let (least, share) = RIVAL;
        for pair in overlaps.iter().filter(|pair| pair.weight > least) {
            let is_rival = |matched: f32| pair.weight > share * matched;
            // Another track is near this observation. One that is not matched now may be the one that
            // the observation shows.
            if let Some(&(matched, overlap)) = columns.get(&pair.column)
                && matched != pair.row
                && is_rival(overlap)
            {
                let is_covered = was_visible(pair.row) && !rows.contains_key(&pair.row);
                let doubt = if is_covered {
                    Doubt::Change
                } else {
                    Doubt::Overlap
                };
                self.raise(matched, doubt);
                self.raise(pair.row, doubt);
            }
            // Another observation is near this track.
            if let Some(&overlap) = rows.get(&pair.row)
                && self.origins.get(pair.column) != Some(&Origin::Track(pair.row))
                && is_rival(overlap)
            {
                self.raise(pair.row, Doubt::Overlap);
            }
        }
    }

    fn raise(&mut self, track: usize, doubt: Doubt) {
        if let Some(before) = self.doubts.get_mut(track) {
            *before = doubt.max(*before);
        }
    }
}

/// Returns true if the edges leave room for calculations.
fn is_possible(bounds: &Rect) -> bool {
    let edges = [bounds.x1, bounds.y1, bounds.x2, bounds.y2];
    edges.iter().all(|edge| edge.abs() <= FURTHEST)
}

/// Returns all pairs of a track and an observation that overlap, with their intersection over union.
fn overlaps(expected: &[Rect], observations: &[Observation]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (row, track) in expected.iter().enumerate() {
        for (column, face) in observations.iter().enumerate() {
            let weight = track.iou_of_pixels(&face.bounds);
            if weight > 0.0 && is_possible(&face.bounds) {
                pairs.push(Pair {
                    row,
                    column,
                    weight,
                });
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::Doubt::{Change, Overlap};
    use super::Origin::{Background, New, Track};
    use super::*;

    fn square(x: f32) -> Rect {
        Rect {
            x1: x,
            y1: 0.0,
            x2: x + 100.0,
            y2: 100.0,
        }
    }

    /// A case: the left edges of tracks seen a second ago, those of observations with their scores,
    /// their origins, and the doubts by track.
    type Case<'a> = (
        &'a str,
        &'a [f32],
        &'a [(f32, f32)],
        &'a [Origin],
        &'a [(usize, Doubt)],
    );

    fn check(cases: &[Case<'_>], is_visible: bool) {
        for (case, tracks, faces, wanted, wanted_doubts) in cases {
            let tracks: Vec<Prediction> = tracks
                .iter()
                .map(|&x| {
                    let mut motion = Motion::new(&square(x));
                    motion.predict(1.0);
                    Prediction {
                        motion,
                        was_visible: is_visible,
                    }
                })
                .collect();
            let faces: Vec<Observation> = faces
                .iter()
                .map(|&(x, score)| Observation {
                    bounds: square(x),
                    score,
                    quality: 0.5,
                    appearance: None,
                })
                .collect();
            let found = associate(&tracks, &faces, 0.6);
            assert_eq!(found.origins, *wanted, "{case}");
            let doubts: Vec<(usize, Doubt)> = found
                .doubts
                .into_iter()
                .enumerate()
                .filter(|(_, doubt)| *doubt != Doubt::None)
                .collect();
            assert_eq!(doubts, *wanted_doubts, "{case}");
        }
    }

    #[test]
    fn associate_continues_nearest_track() {
        let cases: &[Case<'_>] = &[
            ("nothing", &[], &[], &[], &[]),
            ("a first face", &[], &[(0.0, 0.9)], &[New], &[]),
            ("a face that is gone", &[0.0], &[], &[], &[]),
            (
                "a face that stays",
                &[0.0],
                &[(10.0, 0.9)],
                &[Track(0)],
                &[],
            ),
            (
                "two that stay, in another order",
                &[0.0, 500.0],
                &[(510.0, 0.9), (10.0, 0.9)],
                &[Track(1), Track(0)],
                &[],
            ),
            (
                "one that stays and a new one far away",
                &[0.0],
                &[(0.0, 0.9), (2000.0, 0.9)],
                &[Track(0), New],
                &[],
            ),
            (
                "further than its box is wide",
                &[0.0],
                &[(250.0, 0.9)],
                &[Track(0)],
                &[(0, Change)],
            ),
            ("too far", &[0.0], &[(900.0, 0.9)], &[New], &[]),
            (
                "the sum of overlaps decides",
                &[0.0, 60.0],
                &[(30.0, 0.9), (70.0, 0.9)],
                &[Track(0), Track(1)],
                &[(0, Overlap), (1, Overlap)],
            ),
            (
                "one of two that overlap is hidden",
                &[0.0, 40.0],
                &[(0.0, 0.9)],
                &[Track(0)],
                &[(0, Change), (1, Change)],
            ),
            (
                "two near, but clear",
                &[0.0, 80.0],
                &[(0.0, 0.9), (80.0, 0.9)],
                &[Track(0), Track(1)],
                &[],
            ),
        ];
        check(cases, true);
    }

    #[test]
    fn low_scores_only_continue_tracks() {
        let cases: &[Case<'_>] = &[
            ("they begin none", &[], &[(0.0, 0.3)], &[Background], &[]),
            (
                "they continue one",
                &[0.0],
                &[(10.0, 0.3)],
                &[Track(0)],
                &[],
            ),
            (
                "they need more overlap",
                &[0.0],
                &[(40.0, 0.3)],
                &[Background],
                &[],
            ),
            (
                "a confident one goes first",
                &[0.0],
                &[(0.0, 0.3), (20.0, 0.9)],
                &[Background, Track(0)],
                &[(0, Overlap)],
            ),
        ];
        check(cases, true);
        let hidden: &[Case<'_>] = &[
            (
                "no hidden track",
                &[0.0],
                &[(10.0, 0.3)],
                &[Background],
                &[],
            ),
            (
                "the threshold is enough",
                &[0.0],
                &[(10.0, 0.6)],
                &[Track(0)],
                &[],
            ),
        ];
        check(hidden, false);
    }

    /// A face near a track, but of another size, is another person.
    #[test]
    fn other_size_begins_track() {
        let mut motion = Motion::new(&square(0.0));
        motion.predict(1.0);
        let track = Prediction {
            motion,
            was_visible: true,
        };
        let small = Observation {
            bounds: Rect {
                x1: 120.0,
                y1: 40.0,
                x2: 140.0,
                y2: 60.0,
            },
            score: 0.9,
            quality: 0.5,
            appearance: None,
        };
        assert_eq!(associate(&[track], &[small], 0.6).origins, [New]);
    }
}
