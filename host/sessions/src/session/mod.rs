//! State of a session: pure, without files.
//!
//! Every operation returns a [`SessionChange`] and leaves the session as it is. The store writes the
//! change and then applies it, so that a change is durable before it is in force. A store in files
//! and one in a database share this state machine.

mod change;
mod frame;
mod state;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rostro_common::ids::PersonId;
use serde::{Deserialize, Serialize};

use crate::event::{EventId, EventKind, SessionEvent};
use crate::ids::{SessionId, StreamName};
use crate::presence::{CorrectedStatus, Correction, PersonPresence};
use crate::rule::PresenceRule;

pub use change::{FramePosition, SessionChange};
pub use frame::{NamedPerson, ObservedFrame};
pub use state::SessionState;
pub use view::{Attendance, SessionSummary, SessionView, UncertainReason};

/// What is fixed when a session is created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionHead {
    /// Id.
    pub id: SessionId,
    /// Stream that the frames come from.
    pub stream: StreamName,
    /// Group that people are recognised in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Rule by which a person is present.
    pub rule: PresenceRule,
    /// Name of the API key that created it; none if the service runs without keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Revision that the session is bound to at first.
    pub revision: String,
    /// Time of the creation.
    pub created: Timestamp,
}

/// A session.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    head: SessionHead,
    revision: String,
    /// Maximum number of events.
    max_events: u64,
    /// Time of the last operation by the host's clock.
    active: Timestamp,
    /// Position of the last frame.
    frame: Option<FramePosition>,
    ended: Option<Timestamp>,
    people: BTreeMap<PersonId, PersonPresence>,
    /// People with counts that changed since the last urgent change.
    unsaved: BTreeSet<PersonId>,
    /// True if a frame came since the last urgent change.
    is_frame_unsaved: bool,
    /// Number of the last event.
    last_event: u64,
    has_policy_events: bool,
    /// True after [`EventKind::TooManyEvents`].
    is_full: bool,
}

/// Reason why a session refuses an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The frame is older than the last one, or is the last one again.
    #[error(
        "cannot take the frame: it is not newer than the last one ({}at {}); send frames in their \
         order, and each once",
        .last.seq.map(|seq| format!("seq {seq}, ")).unwrap_or_default(),
        .last.at
    )]
    OutOfOrder {
        /// Position of the last frame.
        last: FramePosition,
    },
    /// The session ended.
    #[error("cannot take the frame: the session ended at {0}; create a new one")]
    Ended(Timestamp),
}

impl SessionError {
    /// Returns the stable code of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::OutOfOrder { .. } => "out_of_order",
            Self::Ended(_) => "session_ended",
        }
    }
}

/// A written change that does not fit its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has the number or the session of another one")]
pub struct InvalidChange;

/// Events of one change, numbered.
struct NewEvents<'s> {
    session: &'s Session,
    last: u64,
    is_full: bool,
    events: Vec<SessionEvent>,
}

impl NewEvents<'_> {
    /// Adds an event unless the session has too many.
    fn add(&mut self, at: Timestamp, kind: EventKind) {
        if self.is_full {
            return;
        }
        self.is_full = self.last >= self.session.max_events;
        let kind = match self.is_full {
            true => EventKind::TooManyEvents,
            false => kind,
        };
        self.add_always(at, kind);
    }

    /// Adds an event, however many the session has.
    fn add_always(&mut self, at: Timestamp, kind: EventKind) {
        self.last += 1;
        self.events.push(SessionEvent {
            id: EventId {
                session: self.session.head.id,
                number: self.last,
            },
            at,
            kind,
        });
    }
}

impl Session {
    /// Creates a session without events. [`Session::start`] returns its first change.
    #[must_use]
    pub fn new(head: SessionHead, max_events: u64) -> Self {
        Self {
            revision: head.revision.clone(),
            max_events,
            active: head.created,
            frame: None,
            ended: None,
            people: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            is_frame_unsaved: false,
            last_event: 0,
            has_policy_events: false,
            is_full: false,
            head,
        }
    }

    /// Returns what is fixed.
    #[must_use]
    pub fn head(&self) -> &SessionHead {
        &self.head
    }

    /// Returns the time of the end.
    #[must_use]
    pub fn ended(&self) -> Option<Timestamp> {
        self.ended
    }

    /// Returns the time of the last operation by the host's clock.
    #[must_use]
    pub fn active(&self) -> Timestamp {
        self.active
    }

    /// Returns the number of the last event; 0 if there is none.
    #[must_use]
    pub fn last_event(&self) -> u64 {
        self.last_event
    }

    /// Returns the people that the session knows.
    pub fn people(&self) -> impl Iterator<Item = &PersonId> {
        self.people.keys()
    }

    /// Returns true if the session knows the person.
    #[must_use]
    pub fn has_person(&self, person: &PersonId) -> bool {
        self.people.contains_key(person)
    }

    /// Returns true if the session has events of the policy, with texts that may mention anyone.
    #[must_use]
    pub fn has_policy_events(&self) -> bool {
        self.has_policy_events
    }

    /// Returns the first change, with the event of the start.
    #[must_use]
    pub fn start(&self) -> SessionChange {
        let mut events = self.new_events();
        events.add(self.head.created, EventKind::Started);
        let events = events.events;
        self.urgent(self.head.created, self.frame, Vec::new(), events)
    }

    /// Counts a frame.
    ///
    /// # Errors
    ///
    /// If the session ended, or the frame is not newer than the last one.
    pub fn observe(
        &self,
        frame: &ObservedFrame,
        now: Timestamp,
    ) -> Result<SessionChange, SessionError> {
        self.check_next(frame.seq, frame.at)?;
        let mut events = self.new_events();
        let mut people = Vec::new();
        for (id, similarity) in frame.best_by_person() {
            let mut person = self.record_of(id);
            let arrives = person.see(frame.at, similarity, &self.head.rule);
            // A correction is in force instead of the count, so that the count makes no event.
            if arrives && person.correction().is_none() {
                let similarity = person.seen().and_then(|seen| seen.best);
                let person = id.clone();
                let kind = match self.head.rule.is_late(frame.at) {
                    true => EventKind::Late { person, similarity },
                    false => EventKind::Arrived { person, similarity },
                };
                events.add(frame.at, kind);
            }
            people.push(person);
        }
        for event in &frame.policy_events {
            let mut event = event.clone();
            event.value = event.value.filter(|value| value.is_finite());
            events.add(frame.at, EventKind::Policy(event));
        }
        let position = Some(FramePosition {
            seq: frame.seq.or(self.frame.and_then(|last| last.seq)),
            at: frame.at,
        });
        let events = events.events;
        if events.is_empty() {
            return Ok(SessionChange {
                active: now,
                frame: position,
                revision: None,
                people,
                events,
                is_urgent: false,
            });
        }
        Ok(self.urgent(now, position, people, events))
    }

    /// Checks that a frame may come next.
    ///
    /// # Errors
    ///
    /// If the session ended, or the frame is not newer than the last one.
    pub fn check_next(&self, seq: Option<u64>, at: Timestamp) -> Result<(), SessionError> {
        if let Some(ended) = self.ended {
            return Err(SessionError::Ended(ended));
        }
        let Some(last) = self.frame else {
            return Ok(());
        };
        let is_repeated = seq.zip(last.seq).is_some_and(|(seq, last)| seq <= last);
        if is_repeated || at < last.at {
            return Err(SessionError::OutOfOrder { last });
        }
        Ok(())
    }

    /// Corrects a person's status, or withdraws the correction. Attendance may be corrected after
    /// the end.
    #[must_use]
    pub fn correct(
        &self,
        person: &PersonId,
        status: Option<CorrectedStatus>,
        by: Option<&str>,
        now: Timestamp,
    ) -> SessionChange {
        let by = by.map(str::to_owned);
        let mut record = self.record_of(person);
        record.correct(status.map(|status| Correction {
            status,
            by: by.clone(),
            at: now,
        }));
        let mut events = self.new_events();
        let person = person.clone();
        events.add(now, EventKind::Corrected { person, status, by });
        let events = events.events;
        self.urgent(now, self.frame, vec![record], events)
    }

    /// Binds the session to another revision.
    #[must_use]
    pub fn bind(&self, revision: String, now: Timestamp) -> SessionChange {
        SessionChange {
            revision: Some(revision),
            ..self.urgent(now, self.frame, Vec::new(), Vec::new())
        }
    }

    /// Ends the session; none if it ended before.
    #[must_use]
    pub fn end(&self, now: Timestamp) -> Option<SessionChange> {
        let mut events = self.new_events();
        events.add_always(now, EventKind::Ended);
        let events = events.events;
        self.ended
            .is_none()
            .then(|| self.urgent(now, self.frame, Vec::new(), events))
    }

    /// Returns the counts since the last urgent change; none if there are none.
    #[must_use]
    pub fn checkpoint(&self) -> Option<SessionChange> {
        (self.is_frame_unsaved || !self.unsaved.is_empty())
            .then(|| self.urgent(self.active, self.frame, Vec::new(), Vec::new()))
    }

    /// Returns the whole state except the events.
    #[must_use]
    pub fn snapshot(&self) -> SessionChange {
        SessionChange {
            active: self.active,
            frame: self.frame,
            revision: (self.revision != self.head.revision).then(|| self.revision.clone()),
            people: self.people.values().cloned().collect(),
            events: Vec::new(),
            is_urgent: true,
        }
    }

    /// Returns the session without a person, and the event that marks the gap. The store drops the
    /// events that [mention](EventKind::mentions) the person.
    #[must_use]
    pub fn without(&self, person: &PersonId, now: Timestamp) -> (Self, SessionChange) {
        let mut session = self.clone();
        session.people.remove(person);
        let mut events = session.new_events();
        events.add_always(now, EventKind::PersonRemoved);
        // With the time of the last operation, because a deletion does not keep a session longer.
        let change = SessionChange {
            events: events.events,
            ..session.snapshot()
        };
        session.apply(&change);
        (session, change)
    }

    /// Applies a change that an operation returned, after it was written if it is urgent.
    pub fn apply(&mut self, change: &SessionChange) {
        self.active = self.active.max(change.active);
        self.frame = change.frame;
        if let Some(revision) = &change.revision {
            self.revision.clone_from(revision);
        }
        for person in &change.people {
            self.people.insert(person.id().clone(), person.clone());
        }
        if change.is_urgent {
            self.unsaved.clear();
            self.is_frame_unsaved = false;
        } else {
            self.unsaved
                .extend(change.people.iter().map(|person| person.id().clone()));
            self.is_frame_unsaved = true;
        }
        for event in &change.events {
            self.last_event = event.id.number;
            // Every person of an event is known, so that a deletion finds the event.
            if let Some(id) = event.kind.person() {
                let record = || PersonPresence::new(id.clone());
                self.people.entry(id.clone()).or_insert_with(record);
            }
            match &event.kind {
                EventKind::Ended => self.ended = Some(event.at),
                EventKind::TooManyEvents => self.is_full = true,
                EventKind::Policy(_) => self.has_policy_events = true,
                EventKind::Started
                | EventKind::Arrived { .. }
                | EventKind::Late { .. }
                | EventKind::Corrected { .. }
                | EventKind::PersonRemoved => {}
            }
        }
    }

    /// Applies a change that was read back.
    ///
    /// # Errors
    ///
    /// If it does not fit; the session is unchanged then.
    pub fn replay(&mut self, change: &SessionChange) -> Result<(), InvalidChange> {
        let mut last = self.last_event;
        for event in &change.events {
            if event.id.session != self.head.id || event.id.number <= last {
                return Err(InvalidChange);
            }
            last = event.id.number;
        }
        self.apply(change);
        Ok(())
    }

    fn new_events(&self) -> NewEvents<'_> {
        NewEvents {
            session: self,
            last: self.last_event,
            is_full: self.is_full,
            events: Vec::new(),
        }
    }

    /// Returns the record of a person, a new one if the session does not know them.
    fn record_of(&self, id: &PersonId) -> PersonPresence {
        match self.people.get(id) {
            Some(person) => person.clone(),
            None => PersonPresence::new(id.clone()),
        }
    }

    /// Returns an urgent change. It has the unsaved counts in addition to the given ones.
    fn urgent(
        &self,
        now: Timestamp,
        frame: Option<FramePosition>,
        mut people: Vec<PersonPresence>,
        events: Vec<SessionEvent>,
    ) -> SessionChange {
        let given: BTreeSet<PersonId> = people.iter().map(|person| person.id().clone()).collect();
        let unsaved = self.unsaved.difference(&given);
        people.extend(unsaved.filter_map(|id| self.people.get(id)).cloned());
        SessionChange {
            active: now,
            frame,
            revision: None,
            people,
            events,
            is_urgent: true,
        }
    }
}
