//! State of a session without its people and events, for a store that keeps those in rows.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::presence::PersonPresence;

use super::{FramePosition, Session, SessionChange, SessionHead, SessionSummary};

/// What changes of a session, without people and events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// Time of the last operation by the host's clock.
    pub active: Timestamp,
    /// Position of the last frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<FramePosition>,
    /// Revision that the session is bound to.
    pub revision: String,
    /// Time of the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Number of the last event.
    pub last_event: u64,
    /// True if the policy made events.
    #[serde(default)]
    pub has_policy_events: bool,
    /// True after the last event that the limit allows.
    #[serde(default)]
    pub is_full: bool,
}

impl SessionState {
    /// Returns the session of a head without its people.
    #[must_use]
    pub fn summary(self, head: SessionHead) -> SessionSummary {
        SessionSummary {
            id: head.id,
            stream: head.stream,
            group: head.group,
            rule: head.rule,
            owner: head.owner,
            revision: self.revision,
            created: head.created,
            ended: self.ended,
            last_frame: self.frame,
            last_event: self.last_event,
        }
    }
}

impl Session {
    /// Returns the state after a change that was not applied yet.
    #[must_use]
    pub fn state_after(&self, change: &SessionChange) -> SessionState {
        let mut next = self.clone();
        next.apply(change);
        SessionState {
            active: next.active,
            frame: next.frame,
            revision: next.revision,
            ended: next.ended,
            last_event: next.last_event,
            has_policy_events: next.has_policy_events,
            is_full: next.is_full,
        }
    }

    /// Returns a session of what a store has.
    #[must_use]
    pub fn restore(
        head: SessionHead,
        max_events: u64,
        state: SessionState,
        people: impl IntoIterator<Item = PersonPresence>,
    ) -> Self {
        let people = people.into_iter();
        Self {
            revision: state.revision,
            active: state.active,
            frame: state.frame,
            ended: state.ended,
            people: people.map(|person| (person.id().clone(), person)).collect(),
            last_event: state.last_event,
            has_policy_events: state.has_policy_events,
            is_full: state.is_full,
            ..Self::new(head, max_events)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, frame, head, policy_event};

    #[test]
    fn restored_session_is_the_same() {
        let head = head();
        let mut session = Session::new(head.clone(), 3);
        session.apply(&session.start());
        for number in 1..=2 {
            let mut frame = frame(number, &["a", "b"]);
            frame.policy_events = vec![policy_event(None, "waved")];
            let change = session.observe(&frame, at(number)).unwrap();
            let state = session.state_after(&change);
            session.apply(&change);
            let text = serde_json::to_string(&state).unwrap();
            let state = serde_json::from_str(&text).unwrap();
            let people = session.snapshot().people;
            let restored = Session::restore(head.clone(), 3, state, people);
            assert_eq!(restored, session, "{number}");
        }
        assert!(session.is_full && session.has_policy_events);
    }
}
