//! Sessions in a database, which all nodes share.
//!
//! | module | content |
//! | --- | --- |
//! | `rows` | statements on rows of sessions |
//! | `delivery` | which node delivers events, and what receivers got |
//!
//! A session belongs to a lease. Each write compares it, so that a node
//! without a valid lease cannot write a session that another one took over.

mod delivery;
mod rows;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool_postgres::{Object, Transaction};
use jiff::Timestamp;
use rostro_common::ids::PersonId;
use rostro_sessions::shared::{SessionTerm, SessionWrite, SharedSessions};
use rostro_sessions::{
    Session, SessionEvent, SessionHead, SessionId, SessionLimits, SessionStoreError, SessionSummary,
};

use crate::connection::{Database, DatabaseError, StatementKind};
use crate::fleet::Fleet;

pub(crate) use rows::{hold_texts, remove_mentions};

/// Longest pause of a node within a transaction, after which the server rolls it back.
const IDLE_LIMIT: &str = "SET LOCAL idle_in_transaction_session_timeout = '2s'";

/// Sessions of the nodes that share a database.
pub(crate) struct PostgresSessions {
    database: Database,
    fleet: Arc<Fleet>,
    /// True after damaged rows were logged.
    has_found_damage: AtomicBool,
}

/// Reason why an operation failed.
#[derive(Debug)]
enum Failure {
    /// The database failed.
    Database(DatabaseError),
    /// The operation is refused.
    Refused(SessionStoreError),
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<SessionStoreError> for Failure {
    fn from(error: SessionStoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for SessionStoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Database(error) => Self::Database {
                is_transient: error.is_transient(),
                cause: Box::new(error),
            },
        }
    }
}

impl fmt::Debug for PostgresSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSessions").finish_non_exhaustive()
    }
}

impl PostgresSessions {
    pub(crate) fn new(database: Database, fleet: Arc<Fleet>) -> Self {
        Self {
            database,
            fleet,
            has_found_damage: AtomicBool::new(false),
        }
    }

    /// Runs a change in a transaction.
    fn change<T>(
        &self,
        change: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, SessionStoreError> {
        self.database.count(StatementKind::Session);
        let done = self.database.wait(async {
            let mut client = self.database.client().await?;
            let transaction = client.transaction().await?;
            // A deletion waits for the locks of a node that freezes here.
            transaction.batch_execute(IDLE_LIMIT).await?;
            let result = change(&transaction).await?;
            transaction.commit().await?;
            Ok::<_, Failure>(result)
        });
        Ok(done?)
    }

    /// Runs a query.
    fn read<T>(
        &self,
        read: impl AsyncFnOnce(&Object) -> Result<T, Failure>,
    ) -> Result<T, SessionStoreError> {
        self.database.count(StatementKind::Session);
        let done = self.database.wait(async {
            let client = self.database.client().await?;
            read(&client).await
        });
        Ok(done?)
    }
}

impl SharedSessions for PostgresSessions {
    fn term(&self) -> Option<SessionTerm> {
        self.fleet.own_lease().map(SessionTerm)
    }

    fn create(
        &self,
        head: &SessionHead,
        write: SessionWrite<'_>,
        limits: SessionLimits,
    ) -> Result<(), SessionStoreError> {
        self.change(async |transaction| {
            rows::check_limits(transaction, head.owner.as_deref(), limits).await?;
            rows::check_lease(transaction, write.term, SessionStoreError::NoLease).await?;
            rows::insert(transaction, head, write).await?;
            let people = rows::lock_people(transaction, write).await?;
            rows::write_change(transaction, write, &people).await
        })
    }

    fn claim(
        &self,
        term: SessionTerm,
        id: SessionId,
        max_events: u64,
    ) -> Result<Session, SessionStoreError> {
        let owner = self.read(async |client| rows::check_owner(client, term, id).await);
        if let Err(SessionStoreError::Elsewhere { node, .. }) = &owner
            && *node == self.fleet.node()
        {
            // An earlier lease of this node, which has not ended yet. A redirect would lead here.
            return Err(SessionStoreError::Moved(id));
        }
        owner?;
        self.change(async |transaction| {
            rows::check_lease(transaction, term, SessionStoreError::NoLease).await?;
            rows::claim(transaction, term, id).await?;
            rows::load(transaction, id, max_events).await
        })
    }

    fn write(&self, write: SessionWrite<'_>) -> Result<(), SessionStoreError> {
        self.change(async |transaction| {
            if write.change.events().iter().any(rows::is_of_policy) {
                let applied = || self.fleet.position().get();
                rows::hold_deletions(transaction, write.term, applied).await?;
            }
            rows::check_lease(transaction, write.term, SessionStoreError::Moved(write.id)).await?;
            rows::update(transaction, write).await?;
            let people = rows::lock_people(transaction, write).await?;
            rows::write_change(transaction, write, &people).await
        })
    }

    fn remove_person(
        &self,
        write: SessionWrite<'_>,
        person: &PersonId,
    ) -> Result<(), SessionStoreError> {
        self.change(async |transaction| {
            rows::check_lease(transaction, write.term, SessionStoreError::Moved(write.id)).await?;
            rows::update(transaction, write).await?;
            rows::remove_person(transaction, write.id, person).await?;
            let people = rows::lock_people(transaction, write).await?;
            rows::write_change(transaction, write, &people).await
        })
    }

    fn delete(&self, term: SessionTerm, id: SessionId) -> Result<(), SessionStoreError> {
        self.read(async |client| rows::delete(client, term, id).await)
    }

    fn sweep(&self, cutoff: Timestamp) -> Result<Vec<SessionId>, SessionStoreError> {
        self.read(async |client| rows::sweep(client, cutoff).await)
    }

    fn load(&self, id: SessionId, max_events: u64) -> Result<Session, SessionStoreError> {
        self.read(async |client| rows::load(client, id, max_events).await)
    }

    fn events_after(
        &self,
        id: SessionId,
        number: u64,
        most: usize,
    ) -> Result<Vec<SessionEvent>, SessionStoreError> {
        self.read(async |client| rows::events_after(client, id, number, most).await)
    }

    fn summaries(&self) -> Result<Vec<SessionSummary>, SessionStoreError> {
        let (sessions, damaged) = self.read(async |client| rows::summaries(client).await)?;
        // Once, because a delivery reads them each second.
        if let Some(id) = damaged.first()
            && !self.has_found_damage.swap(true, Ordering::Relaxed)
        {
            tracing::error!(
                "{} sessions in the database are damaged and left out, the first is {id}; delete their rows, or restore a backup",
                damaged.len()
            );
        }
        Ok(sessions)
    }

    fn delivers(&self) -> Result<bool, SessionStoreError> {
        let Some(term) = self.term() else {
            return Ok(false);
        };
        self.read(async |client| delivery::take(client, term).await)
    }

    fn cursors(
        &self,
        receiver: &str,
    ) -> Result<Option<HashMap<SessionId, u64>>, SessionStoreError> {
        self.read(async |client| delivery::cursors(client, receiver).await)
    }

    fn set_cursors(
        &self,
        receiver: &str,
        cursors: &HashMap<SessionId, u64>,
    ) -> Result<(), SessionStoreError> {
        let term = self.term().ok_or(SessionStoreError::NoLease)?;
        self.change(async |transaction| {
            delivery::set_cursors(transaction, term, receiver, cursors).await
        })
    }

    fn topics(&self, receiver: &str) -> Result<BTreeSet<String>, SessionStoreError> {
        self.read(async |client| delivery::topics(client, receiver).await)
    }

    fn set_topics(
        &self,
        receiver: &str,
        topics: &BTreeSet<String>,
    ) -> Result<(), SessionStoreError> {
        let term = self.term().ok_or(SessionStoreError::NoLease)?;
        self.read(async |client| delivery::set_topics(client, term, receiver, topics).await)
    }
}
