//! A stored session: its state, where it is stored, and its subscribers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rostro_common::ids::PersonId;
use tokio::sync::watch;

use crate::error::SessionStoreError;
use crate::ids::{SessionId, StreamName};
use crate::session::{Session, SessionChange};
use crate::shared::SessionTerm;

use super::SessionPosition;
use super::log::SessionLog;

/// A session of the store.
#[derive(Debug)]
pub(super) struct StoredSession {
    id: SessionId,
    owner: Option<String>,
    is_open: AtomicBool,
    /// Lease under which this node has the session; none in a folder.
    term: Option<SessionTerm>,
    /// True after another node took the session over, or a write failed that may have taken effect.
    is_lost: AtomicBool,
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
    pub(super) log: SessionLog,
    is_deleted: bool,
}

impl StoredSession {
    pub(super) fn new(session: Session, log: SessionLog, changes: watch::Sender<u64>) -> Self {
        let head = session.head();
        Self {
            id: head.id,
            owner: head.owner.clone(),
            stream: head.stream.clone(),
            group: head.group.clone(),
            created: head.created,
            changes,
            is_open: AtomicBool::new(session.ended().is_none()),
            term: log.term(),
            is_lost: AtomicBool::new(false),
            last_event: watch::Sender::new(session.last_event()),
            state: Mutex::new(StoredState {
                session,
                log,
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

    /// Returns true if this node has the session under a lease.
    pub(super) fn is_of(&self, term: SessionTerm) -> bool {
        self.term == Some(term) && !self.is_lost.load(Ordering::Relaxed)
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
    /// If the session was deleted or lost after it was found.
    pub(super) fn lock(&self) -> Result<MutexGuard<'_, StoredState>, SessionStoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_deleted {
            return Err(SessionStoreError::Unknown(self.id));
        }
        match self.is_lost.load(Ordering::Relaxed) {
            true => Err(SessionStoreError::Moved(self.id)),
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
            let written = state.log.append(&state.session, change);
            self.keep(written)?;
        }
        state.session.apply(change);
        self.publish(&state.session);
        Ok(())
    }

    /// Returns the result of a write, after which the session may be lost: another node has it, or the
    /// write failed and may have been committed. It is read anew then.
    fn keep<T>(&self, result: Result<T, SessionStoreError>) -> Result<T, SessionStoreError> {
        if let Err(SessionStoreError::Moved(_) | SessionStoreError::Database { .. }) = result {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        result
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
        let StoredState { session, log, .. } = &mut *state;
        let without = match self.keep(log.remove_person(session, person, now)) {
            // The node that has the session now removes the person there.
            Err(SessionStoreError::Moved(_)) => return Ok(false),
            without => without?,
        };
        let Some(without) = without else {
            return Ok(false);
        };
        *session = without;
        self.publish(session);
        Ok(true)
    }

    /// Deletes the session. The caller syncs the folder of a journal.
    ///
    /// # Errors
    ///
    /// If the session was deleted before, or the disk fails.
    pub(super) fn delete(&self) -> Result<(), SessionStoreError> {
        let mut state = self.lock()?;
        self.keep(state.log.delete(self.id))?;
        state.is_deleted = true;
        self.is_open.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Returns true if a subscriber waits for events.
    pub(super) fn is_subscribed(&self) -> bool {
        self.last_event.receiver_count() > 0
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
