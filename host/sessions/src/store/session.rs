//! A stored session: its state, its journal and its subscribers.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::PersonId;
use tokio::sync::watch;

use crate::error::SessionStoreError;
use crate::ids::{SessionId, StreamName};
use crate::journal::Journal;
use crate::session::{Session, SessionChange};

use super::SessionPosition;

/// A session of the store.
#[derive(Debug)]
pub(super) struct StoredSession {
    id: SessionId,
    owner: Option<String>,
    is_open: AtomicBool,
    state: Mutex<StoredState>,
    /// Number of the last event, for subscribers.
    last_event: watch::Sender<u64>,
    /// Number of changes of all sessions.
    changes: watch::Sender<u64>,
    stream: StreamName,
    group: Option<String>,
    created: Timestamp,
}

/// What the lock of a session protects.
#[derive(Debug)]
pub(super) struct StoredState {
    pub(super) session: Session,
    pub(super) journal: Journal,
    is_deleted: bool,
}

impl StoredSession {
    pub(super) fn new(session: Session, journal: Journal, changes: watch::Sender<u64>) -> Self {
        let head = session.head();
        Self {
            id: head.id,
            owner: head.owner.clone(),
            stream: head.stream.clone(),
            group: head.group.clone(),
            created: head.created,
            changes,
            is_open: AtomicBool::new(session.ended().is_none()),
            last_event: watch::Sender::new(session.last_event()),
            state: Mutex::new(StoredState {
                session,
                journal,
                is_deleted: false,
            }),
        }
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    pub(super) fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Returns true until the session ends or is deleted. It takes no lock, because another request
    /// may hold it while it waits for the disk.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Returns the position of the last event. It takes no lock, as [`StoredSession::is_open`].
    pub(super) fn position(&self) -> SessionPosition {
        SessionPosition {
            id: self.id,
            stream: self.stream.clone(),
            group: self.group.clone(),
            created: self.created,
            is_open: self.is_open(),
            last_event: *self.last_event.borrow(),
        }
    }

    /// Locks the state.
    ///
    /// # Errors
    ///
    /// If the session was deleted after it was found.
    pub(super) fn lock(&self) -> Result<MutexGuard<'_, StoredState>, SessionStoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.is_deleted {
            true => Err(SessionStoreError::Unknown(self.id)),
            false => Ok(state),
        }
    }

    /// Writes a change if it is urgent, and applies it.
    ///
    /// # Errors
    ///
    /// If the disk fails. The change is not in force then.
    pub(super) fn write(
        &self,
        state: &mut StoredState,
        change: &SessionChange,
    ) -> Result<(), SessionStoreError> {
        if change.is_urgent() {
            state
                .journal
                .append(change)
                .map_err(SessionStoreError::io("write", state.journal.path()))?;
        }
        state.session.apply(change);
        self.publish(&state.session);
        Ok(())
    }

    /// Rewrites the journal with the events and the last counts alone. Failures are logged, because
    /// the old journal has the same content.
    pub(super) fn compact(&self, state: &mut StoredState, folder: &Path) {
        let StoredState {
            session, journal, ..
        } = state;
        let compacted = journal
            .rewrite(session.head(), &session.snapshot(), |_| false)
            .and_then(|()| sync_folder(folder));
        if let Err(error) = compacted {
            tracing::warn!(
                "cannot shorten the session {}: {error}; its file stays longer than it needs to be",
                journal.path().display()
            );
        }
    }

    /// Removes a person. Returns true if the session had them. The caller syncs the folder.
    ///
    /// # Errors
    ///
    /// If the disk fails. The session is unchanged then.
    pub(super) fn remove_person(
        &self,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<bool, SessionStoreError> {
        let Ok(mut state) = self.lock() else {
            return Ok(false);
        };
        let StoredState {
            session, journal, ..
        } = &mut *state;
        journal
            .trim()
            .map_err(SessionStoreError::io("repair", journal.path()))?;
        let has_person = session.has_person(person)
            || session.has_policy_events()
                && journal
                    .mentions(person)
                    .map_err(SessionStoreError::io("search", journal.path()))?;
        if has_person {
            let (without, change) = session.without(person, now);
            journal
                .rewrite(without.head(), &change, |kind| kind.mentions(person))
                .map_err(SessionStoreError::io("rewrite", journal.path()))?;
            *session = without;
            self.publish(session);
        }
        Ok(has_person)
    }

    /// Removes the journal. The caller syncs the folder.
    ///
    /// # Errors
    ///
    /// If the session was deleted before, or the disk fails.
    pub(super) fn delete(&self) -> Result<(), SessionStoreError> {
        let mut state = self.lock()?;
        state
            .journal
            .remove()
            .map_err(SessionStoreError::io("delete", state.journal.path()))?;
        state.is_deleted = true;
        self.is_open.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Subscribes to the number of the last event.
    ///
    /// # Errors
    ///
    /// If the session was deleted.
    pub(super) fn subscribe(&self) -> Result<watch::Receiver<u64>, SessionStoreError> {
        let _state = self.lock()?;
        Ok(self.last_event.subscribe())
    }

    /// Tells subscribers and the limit on open sessions about the state.
    fn publish(&self, session: &Session) {
        self.is_open
            .store(session.ended().is_none(), Ordering::Relaxed);
        let is_new = self.last_event.send_if_modified(|last| {
            let is_new = *last != session.last_event();
            *last = session.last_event();
            is_new
        });
        if is_new {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}
