//! Who is enrolled: ids, and the samples that stand for a person.

use std::fmt;
use std::str::FromStr;

use crate::digest::Sha256Digest;

/// The longest id, in characters.
const LONGEST: usize = 128;

/// What is answered as the identity of somebody who is not known; so nobody can have it as an id.
pub(crate) const UNKNOWN: &str = "Unknown";

/// A person's id. Letters, digits, `.`, `_`, `-` and `@`, not beginning with a dot: it names a file of the gallery and can name no
/// other path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonId(String);

/// Which rule an id breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// No or too many characters.
    #[error("it has {0} characters; 1 to {LONGEST} are allowed")]
    Length(usize),
    /// A character that is not allowed.
    #[error("it contains {0:?}; letters, digits, '.', '_', '-' and '@' are allowed")]
    Character(char),
    /// It would be a hidden file, or the folder itself.
    #[error("it begins with a dot")]
    LeadingDot,
    /// Callers could not tell the person from a stranger.
    #[error("'{UNKNOWN}' is how strangers are called")]
    Reserved,
}

impl FromStr for PersonId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
        let length = text.chars().count();
        if !(1..=LONGEST).contains(&length) {
            return Err(InvalidId::Length(length));
        }
        if let Some(other) = text.chars().find(|&c| !allowed(c)) {
            return Err(InvalidId::Character(other));
        }
        if text.starts_with('.') {
            return Err(InvalidId::LeadingDot);
        }
        if text == UNKNOWN {
            return Err(InvalidId::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

impl PersonId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names what an embedding means: the recogniser, its dimension, the alignment and the preprocessing. 16 hexadecimal digits.
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
        Self(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl FromStr for ContractId {
    type Err = InvalidContractId;

    fn from_str(text: &str) -> Result<Self, InvalidContractId> {
        let digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if text.len() == 16 && text.bytes().all(digit) { Ok(Self(text.to_owned())) } else { Err(InvalidContractId) }
    }
}

impl fmt::Display for ContractId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one enrolment of a person. Samples of several contracts with the same id come from the same photos, so a replacement under one
/// contract puts those of all others out of force. 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EnrolmentId(String);

/// Text that is no enrolment id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an enrolment id has 16 hexadecimal digits")]
pub(crate) struct InvalidEnrolmentId;

impl EnrolmentId {
    /// Returns an id that no other enrolment has. It does not tell when it was made.
    pub(crate) fn unique() -> Self {
        let ContractId(text) = ContractId::from_digest(Sha256Digest::of(uuid::Uuid::now_v7().as_bytes()).0);
        Self(text)
    }
}

impl FromStr for EnrolmentId {
    type Err = InvalidEnrolmentId;

    fn from_str(text: &str) -> Result<Self, InvalidEnrolmentId> {
        text.parse().map(|ContractId(text)| Self(text)).map_err(|InvalidContractId| InvalidEnrolmentId)
    }
}

impl fmt::Display for EnrolmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is kept of one enrolment photo.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// What the pipeline gave for the photo, not normalised: the recogniser's raw output, or a mean of several.
    pub embedding: Vec<f32>,
    /// What the embedding means; none where the replaced service wrote it.
    pub contract: Option<ContractId>,
    /// The detector's confidence in the face; none where the replaced service wrote it.
    pub det_score: Option<f32>,
    /// The enrolment that the sample belongs to; none where the replaced service or a program before enrolment ids wrote it.
    pub enrolment: Option<EnrolmentId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_say_which_rule_they_break() {
        for good in ["s6", "a", "A.b_c-d@e.f", "0", "-", "a..b", &"x".repeat(128)] {
            assert_eq!(good.parse::<PersonId>().map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for (bad, error) in [
            ("", InvalidId::Length(0)),
            (&"x".repeat(129), InvalidId::Length(129)),
            ("../s6", InvalidId::Character('/')),
            ("a\\b", InvalidId::Character('\\')),
            ("a\0", InvalidId::Character('\0')),
            ("Zoë", InvalidId::Character('ë')),
            (".", InvalidId::LeadingDot),
            ("..", InvalidId::LeadingDot),
            (".s6", InvalidId::LeadingDot),
            ("Unknown", InvalidId::Reserved),
        ] {
            assert_eq!(bad.parse::<PersonId>(), Err(error), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_id_names_a_file_right_inside_the_gallery_or_is_refused(text in "\\PC{0,140}|[./a]{1,6}") {
            if let Ok(id) = text.parse::<PersonId>() {
                let path = std::path::Path::new("gallery").join(format!("{id}.csv"));
                proptest::prop_assert_eq!(path.parent(), Some(std::path::Path::new("gallery")));
                proptest::prop_assert_eq!(path.components().count(), 2);
            }
        }
    }
}
