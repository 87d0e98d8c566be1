//! Events that wait for a receiver.
//!
//! They stay in the store. An event is read again before each attempt, so that a
//! deletion of a person takes it from here, too.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_sessions::{
    EventId, SessionEvent, SessionId, SessionPosition, SessionStore, SessionStoreError,
};

use crate::backoff::{BackoffLimits, RetryBackoff};
use crate::cursors::Cursors;
use crate::error::DeliveryError;
use crate::receivers::EventFilter;

/// Number of events that are read at once to find one that the receiver wants.
const PAGE: usize = 64;

/// Events of all sessions that wait for one receiver.
#[derive(Debug)]
pub(crate) struct Outbox {
    store: Arc<SessionStore>,
    filter: EventFilter,
    cursors: Cursors,
    limits: BackoffLimits,
    /// Sessions with a next event that failed.
    retries: HashMap<SessionId, PlannedRetry>,
    /// True after a cursor could not be written.
    is_disk_failing: bool,
}

/// Next attempt of a session after its event failed.
#[derive(Debug)]
struct PlannedRetry {
    backoff: RetryBackoff,
    at: Instant,
}

impl Outbox {
    /// Opens the outbox of a receiver. A new receiver gets all events of sessions that are open, and
    /// those that happen from now on in sessions that ended.
    ///
    /// # Errors
    ///
    /// If the receiver's file cannot be used, or the database fails.
    pub(crate) fn open(
        folder: &Path,
        receiver: &str,
        store: Arc<SessionStore>,
        filter: EventFilter,
        limits: BackoffLimits,
    ) -> Result<Self, DeliveryError> {
        let positions: HashMap<SessionId, SessionPosition> = store
            .positions()?
            .into_iter()
            .map(|position| (position.id, position))
            .collect();
        let last_event = |session| positions.get(&session).map(|position| position.last_event);
        let initial = || {
            let ended = positions.values().filter(|position| !position.is_open);
            ended
                .map(|position| (position.id, position.last_event))
                .collect()
        };
        let cursors = match store.shared() {
            None => {
                let path = folder.join(format!("{receiver}.jsonl"));
                Cursors::open(&path, last_event, initial)?
            }
            Some(shared) => Cursors::of_rows(shared, receiver, last_event, initial)?,
        };
        Ok(Self {
            store,
            filter,
            cursors,
            limits,
            retries: HashMap::new(),
            is_disk_failing: false,
        })
    }

    /// Returns the store.
    pub(crate) fn store(&self) -> &SessionStore {
        &self.store
    }

    /// Returns the sessions of streams that the receiver wants, in the order of their creation, and
    /// drops what is kept about sessions that were deleted.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub(crate) fn sessions(&mut self) -> Result<Vec<SessionPosition>, SessionStoreError> {
        let mut positions = self.store.positions()?;
        let existing: HashSet<SessionId> = positions.iter().map(|position| position.id).collect();
        self.cursors.retain(|session| existing.contains(&session));
        self.retries.retain(|session, _| existing.contains(session));
        positions.retain(|position| self.filter.wants_stream(&position.stream));
        positions.sort_by_key(|position| (position.created, position.id));
        Ok(positions)
    }

    /// Returns true if events of a session wait and may be tried.
    pub(crate) fn is_due(&self, position: &SessionPosition, now: Instant) -> bool {
        position.last_event > self.cursors.get(position.id)
            && self
                .retries
                .get(&position.id)
                .is_none_or(|retry| retry.at <= now)
    }

    /// Reads the next event of a session that the receiver wants, and moves past those that it does
    /// not want.
    ///
    /// # Errors
    ///
    /// If the session was deleted, or its journal cannot be read.
    pub(crate) fn next_event(
        &mut self,
        session: SessionId,
    ) -> Result<Option<SessionEvent>, SessionStoreError> {
        loop {
            let after = self.cursors.get(session);
            let events = self.store.stored_events_after(session, after, PAGE)?;
            let Some(last) = events.last().map(|event| event.id.number) else {
                return Ok(None);
            };
            let wanted = |event: &SessionEvent| self.filter.wants_kind(&event.kind);
            match events.into_iter().find(wanted) {
                Some(event) => return Ok(Some(event)),
                None => self.cursors.skip(session, last),
            }
        }
    }

    /// Moves past the events of a session that were deleted, because none of them is there any more.
    pub(crate) fn skip_removed(&mut self, position: &SessionPosition) {
        self.cursors.skip(position.id, position.last_event);
    }

    /// Records a delivery, durably. A disk that fails is logged, because the delivery is repeated
    /// after a restart at worst.
    pub(crate) fn delivered(&mut self, event: EventId) {
        self.retries.remove(&event.session);
        match self.cursors.advance(event.session, event.number) {
            Ok(()) => self.is_disk_failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_disk_failing, true) {
                    tracing::warn!(
                        "cannot record a delivery: {error}; after a restart, events are delivered \
                         again"
                    );
                }
            }
        }
    }

    /// Records a failed attempt for the next event of a session.
    pub(crate) fn failed(&mut self, session: SessionId, now: Instant, asked: Option<Duration>) {
        let retry = self.retries.entry(session).or_insert(PlannedRetry {
            backoff: RetryBackoff::default(),
            at: now,
        });
        retry.at = now + retry.backoff.fail(self.limits, asked);
    }

    /// Returns true if events wait because an attempt failed.
    pub(crate) fn is_failing(&self) -> bool {
        !self.retries.is_empty()
    }

    /// Returns the time of the next retry.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.retries.values().map(|retry| retry.at).min()
    }

    /// Returns the maximum number of events that wait in sessions. Removed events and those that
    /// the receiver does not want count, because they are not read for it.
    pub(crate) fn waiting(&self, sessions: &[SessionPosition]) -> u64 {
        let waiting = |position: &SessionPosition| {
            position
                .last_event
                .saturating_sub(self.cursors.get(position.id))
        };
        sessions.iter().map(waiting).sum()
    }
}
