//! Strictness of the review of enrolment photos.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bindings::ReviewLevel;

/// Strictness of the review of enrolment photos, in ascending order.
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
    /// Accepts the best face above the detection threshold, as the replaced service did.
    Off,
    /// Rejects blurred, dark, small, turned, crowded and repeated photos, because they make people
    /// hard to recognise. Accepts another person's face with a warning.
    #[default]
    Standard,
    /// Applies narrower limits than `standard`, and rejects another person's face.
    Strict,
}

/// Text that is not a strictness.
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
    /// Returns the value that guests read.
    pub(crate) fn level(self) -> ReviewLevel {
        match self {
            Self::Off => ReviewLevel::Off,
            Self::Standard => ReviewLevel::Standard,
            Self::Strict => ReviewLevel::Strict,
        }
    }
}
