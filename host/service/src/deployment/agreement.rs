//! Agreement of a shadow with the active revision on the same frames.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use rostro_sandbox::bindings::BoundingBox;
use rostro_sandbox::face_matching::same_faces;

/// A face of an answer: its place, and its person.
#[derive(Clone, Debug)]
pub struct IdentifiedFace {
    /// Bounding box in pixels of the frame.
    pub bounds: BoundingBox,
    /// The person's id. None for an unknown face.
    pub identity: Option<String>,
}

/// Counts so far.
#[derive(Debug, Default)]
pub struct Agreement {
    frames: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
    faces: AtomicU64,
    same_face: AtomicU64,
    only_active: AtomicU64,
    only_shadow: AtomicU64,
    same_identity: AtomicU64,
}

/// The counts at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Frames that both analysed.
    pub frames: u64,
    /// Frames of the share that the shadow did not analyse, because no worker was idle.
    pub skipped: u64,
    /// Frames on which the shadow failed.
    pub failed: u64,
    /// Faces that either found.
    pub faces: u64,
    /// Faces that both found.
    pub same_face: u64,
    /// Faces that only the active revision found.
    pub only_active: u64,
    /// Faces that only the shadow found.
    pub only_shadow: u64,
    /// Faces that both found, with the same identity or both without one.
    pub same_identity: u64,
}

impl Agreement {
    pub(crate) fn record_skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn record_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Compares two answers on one frame.
    pub(crate) fn compare(&self, active: &[IdentifiedFace], shadow: &[IdentifiedFace]) {
        let counts = counts(active, shadow);
        for (total, more) in [
            (&self.frames, counts.frames),
            (&self.faces, counts.faces),
            (&self.same_face, counts.same_face),
            (&self.only_active, counts.only_active),
            (&self.only_shadow, counts.only_shadow),
            (&self.same_identity, counts.same_identity),
        ] {
            total.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            frames: load(&self.frames),
            skipped: load(&self.skipped),
            failed: load(&self.failed),
            faces: load(&self.faces),
            same_face: load(&self.same_face),
            only_active: load(&self.only_active),
            only_shadow: load(&self.only_shadow),
            same_identity: load(&self.same_identity),
        }
    }
}

fn counts(active: &[IdentifiedFace], shadow: &[IdentifiedFace]) -> Counts {
    let boxes = |faces: &[IdentifiedFace]| faces.iter().map(|face| face.bounds).collect::<Vec<_>>();
    let mut counts = Counts {
        frames: 1,
        ..Counts::default()
    };
    for (face, same) in active
        .iter()
        .zip(same_faces(&boxes(active), &boxes(shadow)))
    {
        match same.and_then(|index| shadow.get(index)) {
            Some(other) => {
                counts.same_face += 1;
                counts.same_identity += u64::from(other.identity == face.identity);
            }
            None => counts.only_active += 1,
        }
    }
    counts.only_shadow = shadow.len() as u64 - counts.same_face;
    counts.faces = counts.same_face + counts.only_active + counts.only_shadow;
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(x: f32, identity: &str) -> IdentifiedFace {
        let bounds = BoundingBox {
            x1: x,
            y1: 0.0,
            x2: x + 100.0,
            y2: 100.0,
        };
        IdentifiedFace {
            bounds,
            identity: Some(identity.to_owned()).filter(|name| !name.is_empty()),
        }
    }

    #[test]
    fn overlapping_faces_are_compared() {
        let active = [
            face(0.0, "alice"),
            face(200.0, "bob"),
            face(400.0, ""),
            face(600.0, ""),
        ];
        let shadow = [
            face(205.0, "carol"),
            face(10.0, "alice"),
            face(398.0, ""),
            face(900.0, ""),
        ];
        let agreement = Agreement::default();
        agreement.compare(&active, &shadow);
        agreement.compare(&[], &[]);
        let expected = Counts {
            frames: 2,
            faces: 5,
            same_face: 3,
            only_active: 1,
            only_shadow: 1,
            same_identity: 2,
            ..Counts::default()
        };
        assert_eq!(agreement.counts(), expected);
    }
}
