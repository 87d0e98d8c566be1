//! Connections to a database.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::Runtime;

/// A database. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Database {
    pool: deadpool_postgres::Pool,
    runtime: Arc<Runtime>,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Another service writes the database.
    #[error("another service uses this database; stop it first")]
    InUse,
    /// Another service has taken over as the writer.
    #[error("another service has taken over this database; stop this one or restart it")]
    TakenOver,
    /// A row cannot be used.
    #[error("{0} in the database is damaged; restore the database from a backup")]
    Damaged(&'static str),
    /// The gallery's folder belongs to another database.
    #[error("the gallery {} belongs to another database; name another folder with --gallery", folder.display())]
    OtherDatabase {
        /// The folder.
        folder: std::path::PathBuf,
    },
    /// The gallery's folder has people of its own.
    #[error("the gallery {} has {people} people that are not in the database, whose files would be removed; name an empty folder with --gallery", folder.display())]
    FolderInUse {
        /// The folder.
        folder: std::path::PathBuf,
        /// Number of people.
        people: usize,
    },
    /// A statement failed.
    #[error("the database refused a statement: {0}")]
    Statement(#[from] tokio_postgres::Error),
    /// No connection.
    #[error("cannot connect to the database: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
}

impl DatabaseError {
    /// Returns true if a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Statement(_) | Self::Pool(_))
    }
}

impl Database {
    /// Waits for work with connections, on a thread that may block.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let _context = self.runtime.enter();
        futures_executor::block_on(work)
    }

    /// Takes a connection from the pool.
    pub(crate) async fn client(&self) -> Result<deadpool_postgres::Client, DatabaseError> {
        Ok(self.pool.get().await?)
    }
}
