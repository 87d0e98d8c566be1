//! Frames that the benchmarks send.

use std::path::PathBuf;

use crate::harness::shared;

/// A frame: its description and its file in the shared folder.
type Frame = (&'static str, &'static str);

const FRAMES: [Frame; 3] = [
    ("1 face, 640×480", "faces/students/s6/test.jpg"),
    ("6 faces, 1280×886", "faces/groups/friends.jpg"),
    (
        "30 faces, 1920×1080",
        "faces/classrooms/classroom_030_faces.jpg",
    ),
];

/// Frame with as many faces as a pipeline must detect, far more than a camera at a door shows.
const CROWD: Frame = (
    "200 faces, 1920×1080",
    "faces/classrooms/classroom_200_faces.jpg",
);

/// Returns the usual frames.
pub(crate) fn usual() -> Vec<(&'static str, PathBuf)> {
    FRAMES.map(located).to_vec()
}

/// Returns the frame with the most faces.
pub(crate) fn crowd() -> (&'static str, PathBuf) {
    located(CROWD)
}

fn located((description, file): Frame) -> (&'static str, PathBuf) {
    (description, shared(file))
}
