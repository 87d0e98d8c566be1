//! Ids of people, contracts and enrolments.

mod case;
mod person;

use std::fmt;
use std::str::FromStr;

use crate::digest::Sha256Digest;

pub use case::CaseKeys;
#[cfg(any(test, fuzzing))]
pub use person::property;
pub use person::{InvalidId, PersonId, UNKNOWN};

/// Id of a contract, which makes embeddings comparable: the recogniser, its dimension, the
/// alignment and the preprocessing. It has 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContractId(String);

/// Error of a text that is not a contract id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a contract id has 16 hexadecimal digits")]
pub struct InvalidContractId;

impl ContractId {
    /// Returns the id of a contract with this digest.
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

/// Id of one enrolment of a person. Samples of several contracts with the same id come from the
/// same photos, so a replacement under one contract invalidates those of all others. It has 16
/// hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnrolmentId(String);

/// Error of a text that is not an enrolment id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an enrolment id has 16 hexadecimal digits")]
pub struct InvalidEnrolmentId;

impl EnrolmentId {
    /// Returns a unique id. It does not reveal the time of its creation.
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
