//! How strictly enrolment photos are judged.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bindings::ReviewLevel;

/// How strictly enrolment photos are judged, the laxest first.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Review {
    /// As the replaced service did: the best face is taken if it is above the detection threshold.
    Off,
    /// What makes people hard to recognise is refused: blurred, dark, small, turned or crowded
    /// photos, and a photo twice; a face that is another person's is taken with a warning.
    #[default]
    Standard,
    /// The same with narrower limits, and a face that is another person's is refused.
    Strict,
}

/// A text that names no strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be 'off', 'standard' or 'strict'")]
pub struct InvalidReview;

impl FromStr for Review {
    type Err = InvalidReview;

    fn from_str(text: &str) -> Result<Self, InvalidReview> {
        match text {
            "off" => Ok(Self::Off),
            "standard" => Ok(Self::Standard),
            "strict" => Ok(Self::Strict),
            _ => Err(InvalidReview),
        }
    }
}

impl Review {
    /// As a guest is told.
    pub(crate) fn level(self) -> ReviewLevel {
        match self {
            Self::Off => ReviewLevel::Off,
            Self::Standard => ReviewLevel::Standard,
            Self::Strict => ReviewLevel::Strict,
        }
    }
}
