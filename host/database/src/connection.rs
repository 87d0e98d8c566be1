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
    /// A statement failed.
    #[error("the database refused a statement: {0}")]
    Statement(#[from] tokio_postgres::Error),
    /// No connection.
    #[error("cannot connect to the database: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
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
