//! Seam for sessions that several nodes share: rows of a database.
//!
//! One node *has* a session: it counts the frames in memory, and writes each change before it is in
//! force. Another node takes a session over when the lease of its node has ended.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;
use rostro_common::ids::PersonId;
use uuid::Uuid;

use crate::error::SessionStoreError;
use crate::event::SessionEvent;
use crate::ids::SessionId;
use crate::session::{Session, SessionChange, SessionHead, SessionState, SessionSummary};
use crate::store::SessionLimits;

/// Lease under which a node has sessions. With another one it has to take them over again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTerm(pub Uuid);

/// A change to write, with what the session is after it.
#[derive(Clone, Copy, Debug)]
pub struct SessionWrite<'w> {
    /// Lease under which the node has the session.
    pub term: SessionTerm,
    /// The session.
    pub id: SessionId,
    /// State after the change.
    pub state: &'w SessionState,
    /// People and events to write.
    pub change: &'w SessionChange,
}

/// Sessions of all nodes. Calls block on the database.
///
/// A person of a session is enrolled: the deletion of a person removes them from every session in
/// its own transaction, and later writes leave them out.
pub trait SharedSessions: fmt::Debug + Send + Sync {
    /// Returns the lease of this node; none while it has none.
    fn term(&self) -> Option<SessionTerm>;

    /// Creates a session that this node has.
    ///
    /// # Errors
    ///
    /// If the owner has too many sessions, or the database fails.
    fn create(
        &self,
        head: &SessionHead,
        write: SessionWrite<'_>,
        limits: SessionLimits,
    ) -> Result<(), SessionStoreError>;

    /// Takes a session, unless a node with a lease has it.
    ///
    /// # Errors
    ///
    /// If the session does not exist, another node has it, or the database fails.
    fn claim(
        &self,
        term: SessionTerm,
        id: SessionId,
        max_events: u64,
    ) -> Result<Session, SessionStoreError>;

    /// Writes a change of a session that this node has.
    ///
    /// # Errors
    ///
    /// [`SessionStoreError::Moved`] if this node does not have it any more, and
    /// [`SessionStoreError::Deleting`] if this node has not applied a deletion yet, or the database
    /// fails. The change is not in force then.
    fn write(&self, write: SessionWrite<'_>) -> Result<(), SessionStoreError>;

    /// Removes the rows of a person from a session that this node has, and writes the change that
    /// says so.
    ///
    /// # Errors
    ///
    /// As [`SharedSessions::write`].
    fn remove_person(
        &self,
        write: SessionWrite<'_>,
        person: &PersonId,
    ) -> Result<(), SessionStoreError>;

    /// Deletes a session that this node has.
    ///
    /// # Errors
    ///
    /// As [`SharedSessions::write`].
    fn delete(&self, term: SessionTerm, id: SessionId) -> Result<(), SessionStoreError>;

    /// Deletes sessions that ended or were last used before a time. Returns their ids.
    ///
    /// # Errors
    ///
    /// If the database fails.
    fn sweep(&self, cutoff: Timestamp) -> Result<Vec<SessionId>, SessionStoreError>;

    /// Returns a session as it was last written, of any node.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or the database fails.
    fn load(&self, id: SessionId, max_events: u64) -> Result<Session, SessionStoreError>;

    /// Returns at most `most` events of any session after the one with this number.
    ///
    /// # Errors
    ///
    /// If the database fails.
    fn events_after(
        &self,
        id: SessionId,
        number: u64,
        most: usize,
    ) -> Result<Vec<SessionEvent>, SessionStoreError>;

    /// Returns all sessions as they were last written, in no order.
    ///
    /// # Errors
    ///
    /// If the database fails.
    fn summaries(&self) -> Result<Vec<SessionSummary>, SessionStoreError>;

    /// Returns true if this node delivers the events of all nodes. One node does; another one
    /// begins when its lease has ended.
    ///
    /// # Errors
    ///
    /// If the database fails.
    fn delivers(&self) -> Result<bool, SessionStoreError>;

    /// Returns the numbers of the events that a receiver got last; none for a new receiver.
    ///
    /// # Errors
    ///
    /// If the database fails.
    fn cursors(&self, receiver: &str)
    -> Result<Option<HashMap<SessionId, u64>>, SessionStoreError>;

    /// Sets the numbers of the events that a receiver got last, for these sessions. No number falls.
    ///
    /// # Errors
    ///
    /// If another node delivers, or the database fails.
    fn set_cursors(
        &self,
        receiver: &str,
        cursors: &HashMap<SessionId, u64>,
    ) -> Result<(), SessionStoreError>;

    /// Returns the topics that the broker of a receiver may retain.
    ///
    /// # Errors
    ///
    /// If the database fails.
    fn topics(&self, receiver: &str) -> Result<BTreeSet<String>, SessionStoreError>;

    /// Replaces the topics that the broker of a receiver may retain, unless another node delivers.
    ///
    /// # Errors
    ///
    /// If the database fails.
    fn set_topics(
        &self,
        receiver: &str,
        topics: &BTreeSet<String>,
    ) -> Result<(), SessionStoreError>;
}
