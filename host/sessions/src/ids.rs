//! Ids of sessions and names of streams.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

/// Maximum length of a stream's name in characters.
const MAX_STREAM_NAME: usize = 64;

/// Id of a session: a random UUID, in lower case with hyphens. It cannot be guessed, and is safe in
/// addresses and file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(Uuid);

/// Error of a text that is not a session's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session's id is a UUID, 36 lower-case characters with hyphens")]
pub struct InvalidSessionId;

impl SessionId {
    /// Creates an id from the operating system's random numbers.
    ///
    /// # Errors
    ///
    /// If the operating system has no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(Builder::from_random_bytes(bytes).into_uuid()))
    }

    /// Returns the id as a UUID.
    #[must_use]
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    /// Parses the one form that is displayed, so that two texts never name the same session.
    fn from_str(text: &str) -> Result<Self, InvalidSessionId> {
        Uuid::try_parse(text)
            .ok()
            .map(Self)
            .filter(|id| id.to_string() == text)
            .ok_or(InvalidSessionId)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl TryFrom<String> for SessionId {
    type Error = InvalidSessionId;

    fn try_from(text: String) -> Result<Self, InvalidSessionId> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.to_string()
    }
}

/// Name of a stream of frames, such as a camera.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamName(String);

/// Rule of stream names that a text breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStreamName {
    /// The name is empty or too long.
    #[error("the name of a stream has {0} characters; 1 to {MAX_STREAM_NAME} are allowed")]
    Length(usize),
    /// A character is not allowed.
    #[error(
        "the name of a stream contains {0:?}; letters and digits of ASCII, '-', '_' and '.' are \
         allowed"
    )]
    Character(char),
}

impl StreamName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamName {
    type Err = InvalidStreamName;

    fn from_str(text: &str) -> Result<Self, InvalidStreamName> {
        let length = text.chars().count();
        if !(1..=MAX_STREAM_NAME).contains(&length) {
            return Err(InvalidStreamName::Length(length));
        }
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match text.chars().find(|&c| !is_allowed(c)) {
            Some(c) => Err(InvalidStreamName::Character(c)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for StreamName {
    type Error = InvalidStreamName;

    fn try_from(text: String) -> Result<Self, InvalidStreamName> {
        text.parse()
    }
}

impl From<StreamName> for String {
    fn from(name: StreamName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_id_parses_its_display() {
        let id = SessionId::random().unwrap();
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.len(), 36);
        assert_ne!(SessionId::random().unwrap(), id);
        for bad in [
            "",
            "../x",
            &text.to_uppercase(),
            &text.replace('-', ""),
            &format!("{text}0"),
        ] {
            assert_eq!(bad.parse::<SessionId>(), Err(InvalidSessionId), "{bad}");
        }
    }

    #[test]
    fn stream_name_follows_its_rules() {
        for good in ["a", "room-1_north.left", &"x".repeat(64)] {
            assert_eq!(good.parse::<StreamName>().unwrap().as_str(), good);
        }
        for (bad, error) in [
            (String::new(), InvalidStreamName::Length(0)),
            ("x".repeat(65), InvalidStreamName::Length(65)),
            ("a b".to_owned(), InvalidStreamName::Character(' ')),
            ("a/b".to_owned(), InvalidStreamName::Character('/')),
            ("é".to_owned(), InvalidStreamName::Character('é')),
        ] {
            assert_eq!(bad.parse::<StreamName>(), Err(error), "{bad}");
        }
    }
}
