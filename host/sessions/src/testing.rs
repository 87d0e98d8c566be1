//! Values for the tests of this crate.

use jiff::Timestamp;
use rostro_common::ids::PersonId;

use crate::event::PolicyEvent;
use crate::ids::SessionId;
use crate::presence::PersonPresence;
use crate::rule::PresenceRule;
use crate::session::{NamedPerson, ObservedFrame, SessionHead};

/// Returns a time in seconds since 1970.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(crate) fn person(id: &str) -> PersonId {
    id.parse().unwrap()
}

/// Returns the head of a session with the default rule.
pub(crate) fn head() -> SessionHead {
    SessionHead {
        id: SessionId::random().unwrap(),
        stream: "door".parse().unwrap(),
        group: None,
        rule: PresenceRule::default(),
        owner: Some("school".to_owned()),
        revision: "r1".to_owned(),
        created: at(0),
    }
}

/// Returns a frame that names people.
pub(crate) fn frame(second: i64, people: &[&str]) -> ObservedFrame {
    let named = |id: &&str| NamedPerson {
        id: person(id),
        similarity: 0.75,
    };
    ObservedFrame {
        seq: None,
        at: at(second),
        people: people.iter().map(named).collect(),
        policy_events: Vec::new(),
    }
}

/// Returns an event of the policy.
pub(crate) fn policy_event(id: Option<&str>, message: &str) -> PolicyEvent {
    PolicyEvent {
        code: "note".to_owned(),
        person: id.map(person),
        value: Some(0.5),
        message: message.to_owned(),
    }
}

/// Returns the ids of records.
pub(crate) fn ids(people: &[PersonPresence]) -> Vec<&str> {
    people.iter().map(|person| person.id().as_str()).collect()
}
