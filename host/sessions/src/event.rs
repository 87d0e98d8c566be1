//! Events of a session, and their form in JSON.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use rostro_common::ids::PersonId;
use serde::{Deserialize, Serialize};

use crate::ids::SessionId;
use crate::presence::CorrectedStatus;

/// Stable id of an event: `<session>-<number>`. Receivers drop the second delivery of an event by
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "EventIdFields", into = "EventIdFields")]
pub struct EventId {
    /// The event's session.
    pub session: SessionId,
    /// Number of the event in its session, from 1 on. Numbers ascend; a removed person leaves gaps.
    pub number: u64,
}

/// Error of a text that is not an event's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event's id is the id of its session, a hyphen, and its number")]
pub struct InvalidEventId;

/// An event's id in JSON, and the number once more for readers that order by it.
#[derive(Serialize, Deserialize)]
struct EventIdFields {
    id: String,
    number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.session, self.number)
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let (session, digits) = text.rsplit_once('-').ok_or(InvalidEventId)?;
        let id = Self {
            session: session.parse().map_err(|_| InvalidEventId)?,
            number: digits.parse().map_err(|_| InvalidEventId)?,
        };
        // No sign and no leading zero.
        if id.number.to_string() == digits && id.number > 0 {
            Ok(id)
        } else {
            Err(InvalidEventId)
        }
    }
}

impl TryFrom<EventIdFields> for EventId {
    type Error = InvalidEventId;

    fn try_from(fields: EventIdFields) -> Result<Self, InvalidEventId> {
        let id: Self = fields.id.parse()?;
        if id.number == fields.number {
            Ok(id)
        } else {
            Err(InvalidEventId)
        }
    }
}

impl From<EventId> for EventIdFields {
    fn from(id: EventId) -> Self {
        Self {
            id: id.to_string(),
            number: id.number,
        }
    }
}

/// An event of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionEvent {
    /// Id and number.
    #[serde(flatten)]
    pub id: EventId,
    /// Time of the frame that made the event; else the time of the operation.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Kind of an event, with its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// The session was created.
    Started,
    /// A person was seen often enough to be present.
    Arrived {
        /// The person.
        person: PersonId,
        /// Best similarity up to then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        similarity: Option<f32>,
    },
    /// A person was seen often enough, after the time up to which an arrival is in time.
    Late {
        /// The person.
        person: PersonId,
        /// Best similarity up to then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        similarity: Option<f32>,
    },
    /// A person's status was corrected, or a correction was withdrawn.
    Corrected {
        /// The person.
        person: PersonId,
        /// The status from now on; none if the correction was withdrawn.
        status: Option<CorrectedStatus>,
        /// Name of the API key that corrected it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// An event of the policy.
    Policy(PolicyEvent),
    /// A person was deleted, with their events. The person is not named.
    PersonRemoved,
    /// The session has as many events as are allowed. Counting continues without events.
    TooManyEvents,
    /// The session ended.
    Ended,
}

/// An event that the policy reports about a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyEvent {
    /// Stable code.
    pub code: String,
    /// The person that the policy decided for the event's face.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// A number that belongs to the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
    /// One sentence for people.
    pub message: String,
}

impl EventKind {
    /// Returns the name of the kind, as in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Arrived { .. } => "arrived",
            Self::Late { .. } => "late",
            Self::Corrected { .. } => "corrected",
            Self::Policy(_) => "policy",
            Self::PersonRemoved => "person_removed",
            Self::TooManyEvents => "too_many_events",
            Self::Ended => "ended",
        }
    }

    /// Returns the person that the event is about.
    #[must_use]
    pub fn person(&self) -> Option<&PersonId> {
        match self {
            Self::Arrived { person, .. }
            | Self::Late { person, .. }
            | Self::Corrected { person, .. } => Some(person),
            Self::Policy(event) => event.person.as_ref(),
            Self::Started | Self::PersonRemoved | Self::TooManyEvents | Self::Ended => None,
        }
    }

    /// Returns true if the event is about a person or its text has the person's id.
    #[must_use]
    pub fn mentions(&self, person: &PersonId) -> bool {
        match self {
            Self::Policy(event) => event.mentions(person),
            _ => self.person() == Some(person),
        }
    }
}

impl PolicyEvent {
    /// Returns true if the event is about a person or its text has the person's id, because an
    /// untrusted policy may write ids into it.
    #[must_use]
    pub fn mentions(&self, person: &PersonId) -> bool {
        self.person.as_ref() == Some(person)
            || [&self.code, &self.message]
                .iter()
                .any(|text| has_word(text, person.as_str()))
    }
}

/// Returns true if a text contains a word that is not a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, _)| {
        let before = text.get(..start).and_then(|text| text.chars().next_back());
        let after = text
            .get(start + word.len()..)
            .and_then(|text| text.chars().next());
        ![before, after]
            .into_iter()
            .flatten()
            .any(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SessionId {
        "3f2b8c1e-9a47-4d7e-8b55-0c9d1e2f3a4b".parse().unwrap()
    }

    #[test]
    fn event_id_parses_its_display() {
        let id = EventId {
            session: session(),
            number: 17,
        };
        assert_eq!(id.to_string(), format!("{}-17", session()));
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "17", "-0", "-017", "-+17", "-x", "-1-7"] {
            let text = format!("{}{bad}", session());
            assert_eq!(text.parse::<EventId>(), Err(InvalidEventId), "{bad}");
        }
    }

    #[test]
    fn event_is_tagged_json() {
        let event = |number, kind| SessionEvent {
            id: EventId {
                session: session(),
                number,
            },
            at: "2026-12-02T08:00:00.5Z".parse().unwrap(),
            kind,
        };
        let person: PersonId = "José".parse().unwrap();
        for (event, json) in [
            (event(1, EventKind::Started), r#""kind":"started""#),
            (
                event(
                    2,
                    EventKind::Arrived {
                        person: person.clone(),
                        similarity: Some(0.81),
                    },
                ),
                r#""kind":"arrived","person":"José","similarity":0.81"#,
            ),
            (
                event(
                    3,
                    EventKind::Corrected {
                        person: person.clone(),
                        status: Some(CorrectedStatus::Absent),
                        by: Some("desk".to_owned()),
                    },
                ),
                r#""kind":"corrected","person":"José","status":"absent","by":"desk""#,
            ),
            (
                event(
                    4,
                    EventKind::Policy(PolicyEvent {
                        code: "hands_up".to_owned(),
                        person: Some(person),
                        value: Some(0.5),
                        message: "A hand is up.".to_owned(),
                    }),
                ),
                r#""kind":"policy","code":"hands_up","person":"José","value":0.5,"message":"A hand is up.""#,
            ),
            (
                event(5, EventKind::PersonRemoved),
                r#""kind":"person_removed""#,
            ),
        ] {
            let text = serde_json::to_string(&event).unwrap();
            let start = format!(
                r#"{{"id":"{}","number":{},"at":"2026-12-02T08:00:00.5Z","#,
                event.id, event.id.number
            );
            assert_eq!(text, format!("{start}{json}}}"));
            assert!(json.starts_with(&format!("\"kind\":\"{}\"", event.kind.name())));
            assert_eq!(serde_json::from_str::<SessionEvent>(&text).unwrap(), event);
        }
    }

    #[test]
    fn policy_text_mentions_whole_words() {
        let event = |message: &str| PolicyEvent {
            code: "note".to_owned(),
            person: None,
            value: None,
            message: message.to_owned(),
        };
        for (message, expected) in [
            ("s6 waved", true),
            ("It was (s6).", true),
            ("s60, s6", true),
            ("s60 and xs6", false),
            ("", false),
        ] {
            assert_eq!(
                event(message).mentions(&"s6".parse().unwrap()),
                expected,
                "{message}"
            );
        }
    }
}
