//! Sessions that nodes share, as one node has them.

use std::sync::{Arc, PoisonError};

use crate::error::SessionStoreError;
use crate::event::SessionEvent;
use crate::ids::SessionId;
use crate::session::SessionView;
use crate::shared::{SessionTerm, SharedSessions};

use super::log::SessionLog;
use super::session::StoredSession;
use super::{Place, SessionStore};

impl SessionStore {
    /// Returns a session that this node has. It takes one over from a node whose lease ended.
    pub(super) fn find(&self, id: SessionId) -> Result<Arc<StoredSession>, SessionStoreError> {
        let found = || self.read().get(&id).cloned();
        let Place::Shared(shared) = &self.place else {
            return found().ok_or(SessionStoreError::Unknown(id));
        };
        let term = shared.term().ok_or(SessionStoreError::NoLease)?;
        let own = || found().filter(|session| session.is_of(term));
        if let Some(session) = own() {
            return Ok(session);
        }
        // One at a time, so that a session is not taken twice.
        let _creation = self.lock_creation();
        if let Some(session) = own() {
            return Ok(session);
        }
        // The lease may have ended while others waited for the database.
        let term = shared.term().ok_or(SessionStoreError::NoLease)?;
        self.claim(shared, term, id)
    }

    /// Takes a session over. The caller has locked the creation.
    fn claim(
        &self,
        shared: &Arc<dyn SharedSessions>,
        term: SessionTerm,
        id: SessionId,
    ) -> Result<Arc<StoredSession>, SessionStoreError> {
        loop {
            let mark = self.removal_mark();
            let session = shared.claim(term, id, self.limits.events)?;
            let log = SessionLog::Rows(Arc::clone(shared), term);
            // Until the session is in the map: a removal before has its people here, and a later one
            // finds it there.
            let removals = self.removals();
            if !session
                .people()
                .any(|person| removals.is_removed(mark, person))
            {
                return Ok(self.insert(session, log));
            }
        }
    }

    /// Forgets sessions that other nodes may have, and those that ended and that no request uses.
    pub(super) fn forget_unneeded(&self) {
        let Place::Shared(shared) = &self.place else {
            return;
        };
        // A lease that lapsed may be renewed.
        let Some(term) = shared.term() else {
            return;
        };
        let mut sessions = self
            .sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| {
            // A request has a clone, and a subscriber waits for its end.
            let is_used = Arc::strong_count(session) > 1 || session.is_subscribed();
            session.is_of(term) && (session.is_open() || is_used)
        });
    }

    /// Returns a session as it is stored, of any node.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or the database fails.
    pub fn load(&self, id: SessionId) -> Result<SessionView, SessionStoreError> {
        match &self.place {
            Place::Folder(_) => self.get(id, &[]),
            Place::Shared(shared) => Ok(shared.load(id, self.limits.events)?.view(&[])),
        }
    }

    /// Returns events as [`SessionStore::events_after`], of any node's session.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or its events cannot be read.
    pub fn stored_events_after(
        &self,
        id: SessionId,
        number: u64,
        most: usize,
    ) -> Result<Vec<SessionEvent>, SessionStoreError> {
        match &self.place {
            Place::Folder(_) => self.events_after(id, number, most),
            Place::Shared(shared) => shared.events_after(id, number, most),
        }
    }

    /// Returns the sessions that nodes share; none in a folder.
    #[must_use]
    pub fn shared(&self) -> Option<&Arc<dyn SharedSessions>> {
        match &self.place {
            Place::Folder(_) => None,
            Place::Shared(shared) => Some(shared),
        }
    }
}
