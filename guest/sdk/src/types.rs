//! Plain data that vision, policies and their rules share, as in `wit/`'s `interface types`.
//!
//! Each type is also public under the module that uses it: [`policy`](crate::policy),
//! [`analysis`](crate::analysis) or [`review`](crate::review).

use std::borrow::Cow;

use crate::image::geometry::{Point, Rect};

/// Name and version of a component, for answers and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// 1 to 64 lower-case letters, digits and `-`.
    pub name: Cow<'static, str>,
    /// A semantic version of at most 64 characters: `0.1.0`.
    pub version: Cow<'static, str>,
}

impl Identity {
    /// Creates an identity: `Identity::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))`.
    #[must_use]
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            version: Cow::Borrowed(version),
        }
    }
}

/// A number that vision measured on a face, as input for policies.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// Its name: 1 to 32 lower-case letters, digits and `-`; each name at most once a face.
    pub name: Cow<'static, str>,
    /// The value, finite. Its unit belongs to the definition of the name;
    /// [`Measures`](crate::measure::Measures) has those of the default pipeline.
    pub value: f32,
}

impl Measure {
    /// Creates a measure.
    #[must_use]
    pub const fn new(name: &'static str, value: f32) -> Self {
        Self {
            name: Cow::Borrowed(name),
            value,
        }
    }
}

/// A face as a policy sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Face {
    /// Its box in pixels of the upright image, not empty and within the image.
    pub bounds: Rect,
    /// The detector's confidence, 0 to 1.
    pub score: f32,
    /// Five landmarks in pixels of the upright image, in the order of
    /// [`Landmarks`](crate::geometry::Landmarks). Empty if the detector has no landmarks.
    pub landmarks: Vec<Point>,
    /// Its measures, at most 32; [`Self::measure`] finds one by its name.
    pub measures: Vec<Measure>,
}

impl Face {
    /// Returns the measure of this name, if vision took it.
    #[must_use]
    pub fn measure(&self, name: &str) -> Option<f32> {
        self.measures
            .iter()
            .find(|measure| measure.name == name)
            .map(|measure| measure.value)
    }
}

/// One reason for the rejection of a photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// A stable code, 1 to 64 lower-case letters, digits and `_`: `face_too_small`.
    pub code: Cow<'static, str>,
    /// One sentence with the remedy, for people: one line of 1 to 500 bytes.
    pub message: Cow<'static, str>,
    /// The measured value and the limit that it misses, if the reason has numbers: both finite, in
    /// the measure's unit.
    pub measured: Option<(f32, f32)>,
}

impl Reason {
    /// Creates a reason without numbers.
    #[must_use]
    pub const fn new(code: &'static str, message: &'static str) -> Self {
        Self {
            code: Cow::Borrowed(code),
            message: Cow::Borrowed(message),
            measured: None,
        }
    }

    /// Adds the measured value and the limit that it misses.
    #[must_use]
    pub const fn measured(mut self, value: f32, limit: f32) -> Self {
        self.measured = Some((value, limit));
        self
    }
}

/// The best face of a photo.
#[derive(Clone, Debug, PartialEq)]
pub enum Best {
    /// The face at this index of the scores.
    Face(usize),
    /// The photo has no face.
    NoFace,
    /// The best face scores below the threshold.
    LowScore {
        /// Its index in the scores.
        index: usize,
        /// Its detection score, 0 to 1.
        score: f32,
        /// The least score, 0 to 1.
        threshold: f32,
    },
}

/// Quality limits for an enrolment photo. They exist because a template made of poor photos is
/// somewhat similar to many people, and very similar to no one.
///
/// The measures are those of [`Measures`](crate::measure::Measures); one that vision did not take
/// is not judged. The limits were set on 90 good photos, none of which is refused, and on the same
/// photos blurred, darkened, shrunk and squeezed (`docs/performance.md` in Rostro's repository).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gates {
    /// The least shorter side of the face's box, in pixels.
    pub size: f32,
    /// The largest turn to either side (`yaw`).
    pub yaw: f32,
    /// The least brightness of the aligned face, 0 to 255.
    pub darkest: f32,
    /// The greatest brightness of the aligned face, 0 to 255.
    pub brightest: f32,
    /// The largest share of the aligned face beyond the picture's edge, 0 to 1.
    pub outside: f32,
    /// The least sharpness of the aligned face.
    pub sharpness: f32,
    /// The least size of a second person: the shorter side of the other face, as a share of this
    /// face's, 0 to 1.
    pub companion: f32,
}
