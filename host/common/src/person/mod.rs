//! Who is enrolled: ids, and the samples that stand for a person.

mod case;
mod id;

use std::fmt;
use std::str::FromStr;

use crate::digest::Sha256Digest;

pub use case::CaseKeys;
pub use id::InvalidId;
pub use id::PersonId;
pub use id::UNKNOWN;
#[cfg(any(test, fuzzing))]
pub use id::property;

/// Names what an embedding means: the recogniser, its dimension, the alignment and the
/// preprocessing. 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContractId(String);

/// Text that is no contract id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a contract id has 16 hexadecimal digits")]
pub struct InvalidContractId;

impl ContractId {
    /// The id of a contract with this digest.
    #[must_use]
    pub fn from_digest(digest: [u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = digest;
        Self(hex::encode([a, b, c, d, e, f, g, h]))
    }
}

impl FromStr for ContractId {
    type Err = InvalidContractId;

    fn from_str(text: &str) -> Result<Self, InvalidContractId> {
        let digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if text.len() == 16 && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidContractId)
        }
    }
}

impl fmt::Display for ContractId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one enrolment of a person. Samples of several contracts with the same id come from the
/// same photos, so a replacement under one contract puts those of all others out of force. 16
/// hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnrolmentId(String);

/// Text that is no enrolment id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an enrolment id has 16 hexadecimal digits")]
pub struct InvalidEnrolmentId;

impl EnrolmentId {
    /// Returns an id that no other enrolment has. It does not tell when it was made.
    pub fn unique() -> Self {
        let ContractId(text) =
            ContractId::from_digest(Sha256Digest::of(uuid::Uuid::now_v7().as_bytes()).0);
        Self(text)
    }
}

impl FromStr for EnrolmentId {
    type Err = InvalidEnrolmentId;

    fn from_str(text: &str) -> Result<Self, InvalidEnrolmentId> {
        text.parse()
            .map(|ContractId(text)| Self(text))
            .map_err(|InvalidContractId| InvalidEnrolmentId)
    }
}

impl fmt::Display for EnrolmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is kept of one enrolment photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What the pipeline gave for the photo, not normalised: what templates are made of.
    pub embedding: Vec<f32>,
    /// The recogniser's raw output for the photo, where `embedding` is something else, such as a
    /// mean. Never matched.
    pub raw: Option<Vec<f32>>,
    /// What the embedding means; none where the replaced service wrote it.
    pub contract: Option<ContractId>,
    /// The detector's confidence in the face; none where the replaced service wrote it.
    pub det_score: Option<f32>,
    /// The enrolment that the sample belongs to; none where the replaced service or a program
    /// before enrolment ids wrote it.
    pub enrolment: Option<EnrolmentId>,
}
