//! The frames that services are asked about.

use std::path::PathBuf;

use crate::steps::shared;

/// The frames: what is in them, and where they are.
const FRAMES: [(&str, &str); 3] = [
    ("1 face, 640×480", "faces/students/s6/test.jpg"),
    ("6 faces, 1280×886", "faces/groups/friends.jpg"),
    (
        "30 faces, 1920×1080",
        "faces/classrooms/classroom_030_faces.jpg",
    ),
];

/// What no frame of a camera at a door shows: as many faces as a pipeline must find.
const CROWD: (&str, &str) = (
    "200 faces, 1920×1080",
    "faces/classrooms/classroom_200_faces.jpg",
);

/// A large frame with few faces.
const LARGE: &str = "faces/classrooms/classroom_005_faces.jpg";

/// The usual frames.
pub(super) fn usual() -> impl Iterator<Item = (&'static str, PathBuf)> {
    FRAMES
        .into_iter()
        .map(|(what, file)| (what, shared().join(file)))
}

/// The usual frames and the crowd.
pub(super) fn all() -> impl Iterator<Item = (&'static str, PathBuf)> {
    usual().chain([(CROWD.0, shared().join(CROWD.1))])
}

/// A frame of 1920×1080 that is worked on quickly.
pub(super) fn large() -> PathBuf {
    shared().join(LARGE)
}
