//! Where a session is stored: its journal, or rows that several nodes share.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::PersonId;

use crate::error::SessionStoreError;
use crate::event::SessionEvent;
use crate::ids::SessionId;
use crate::journal::Journal;
use crate::session::{Session, SessionChange};
use crate::shared::{SessionTerm, SessionWrite, SharedSessions};

/// Place of one session.
#[derive(Debug)]
pub(super) enum SessionLog {
    /// A file.
    Journal(Journal),
    /// Rows, and the lease under which this node has the session.
    Rows(Arc<dyn SharedSessions>, SessionTerm),
}

impl SessionLog {
    /// Returns the lease under which this node has the session; none for a file.
    pub(super) fn term(&self) -> Option<SessionTerm> {
        match self {
            Self::Journal(_) => None,
            Self::Rows(_, term) => Some(*term),
        }
    }

    /// Writes a change of a session, durably.
    pub(super) fn append(
        &mut self,
        session: &Session,
        change: &SessionChange,
    ) -> Result<(), SessionStoreError> {
        match self {
            Self::Journal(journal) => journal
                .append(change)
                .map_err(SessionStoreError::io("write", journal.path())),
            Self::Rows(shared, term) => shared.write(SessionWrite {
                term: *term,
                id: session.head().id,
                state: &session.state_after(change),
                change,
            }),
        }
    }

    /// Returns at most `most` events after the one with this number, in the order of their numbers.
    pub(super) fn events_after(
        &self,
        id: SessionId,
        number: u64,
        most: usize,
    ) -> Result<Vec<SessionEvent>, SessionStoreError> {
        match self {
            Self::Journal(journal) => journal
                .events_after(number, most)
                .map_err(SessionStoreError::io("read", journal.path())),
            Self::Rows(shared, _) => shared.events_after(id, number, most),
        }
    }

    /// Removes a person's counts and events. Returns the session without the person; none if it did
    /// not have them. The caller syncs the folder of a journal.
    ///
    /// # Errors
    ///
    /// If the disk or the database fails. What is stored is unchanged then.
    pub(super) fn remove_person(
        &mut self,
        session: &Session,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<Option<Session>, SessionStoreError> {
        match self {
            Self::Journal(journal) => {
                journal
                    .trim()
                    .map_err(SessionStoreError::io("repair", journal.path()))?;
                let has_person = session.has_person(person)
                    || session.has_policy_events()
                        && journal
                            .mentions(person)
                            .map_err(SessionStoreError::io("search", journal.path()))?;
                if !has_person {
                    return Ok(None);
                }
                let (without, change) = session.without(person, now);
                journal
                    .rewrite(without.head(), &change, |kind| kind.mentions(person))
                    .map_err(SessionStoreError::io("rewrite", journal.path()))?;
                Ok(Some(without))
            }
            Self::Rows(shared, term) => {
                // The deletion itself searched the texts of events.
                if !session.has_person(person) {
                    return Ok(None);
                }
                let (without, change) = session.without(person, now);
                let write = SessionWrite {
                    term: *term,
                    id: session.head().id,
                    state: &without.state_after(&change),
                    change: &change,
                };
                shared.remove_person(write, person)?;
                Ok(Some(without))
            }
        }
    }

    /// Deletes the session. The caller syncs the folder of a journal.
    pub(super) fn delete(&self, id: SessionId) -> Result<(), SessionStoreError> {
        match self {
            Self::Journal(journal) => journal
                .remove()
                .map_err(SessionStoreError::io("delete", journal.path())),
            Self::Rows(shared, term) => shared.delete(*term, id),
        }
    }

    /// Returns true if a journal is much longer than a rewritten one would be.
    pub(super) fn has_grown(&self) -> bool {
        match self {
            Self::Journal(journal) => journal.has_grown(),
            Self::Rows(..) => false,
        }
    }

    /// Rewrites a journal with the events and the last counts alone. Failures are logged, because the
    /// old journal has the same content.
    pub(super) fn compact(&mut self, session: &Session) {
        let Self::Journal(journal) = self else {
            return;
        };
        let folder = journal.path().parent().map(Path::to_owned);
        let compacted = journal
            .rewrite(session.head(), &session.snapshot(), |_| false)
            .and_then(|()| folder.map_or(Ok(()), |folder| sync_folder(&folder).map(drop)));
        if let Err(error) = compacted {
            tracing::warn!(
                "cannot shorten the session {}: {error}; its file stays longer than it needs to be",
                journal.path().display()
            );
        }
    }
}
