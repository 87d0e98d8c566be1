//! Connections to a database.

pub mod error;
pub mod options;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Timeouts};
use tokio::runtime::{Builder, Runtime};

pub use error::DatabaseError;
pub use options::DatabaseOptions;

/// Connections of a service: one for each concurrent change, and the one that holds its lock.
const CONNECTIONS: usize = 16;

/// Time to wait for a connection, and for the server to accept one.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A database. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Pool,
    options: Arc<DatabaseOptions>,
    /// Thread on which connections read and write.
    runtime: Arc<Runtime>,
}

impl Database {
    /// Opens the pool, and makes one connection, so that an address that cannot be used is found at
    /// the start.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`] with the remedy.
    pub fn open(options: &DatabaseOptions) -> Result<Self, DatabaseError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("rostro-database")
            .enable_all()
            .build()
            .map_err(DatabaseError::Runtime)?;
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(options.config(), options.tls()?, recycling);
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(TIMEOUT),
                create: Some(TIMEOUT),
                recycle: Some(TIMEOUT),
            })
            .build()
            .map_err(|error| DatabaseError::Runtime(std::io::Error::other(error)))?;
        let database = Self {
            pool,
            options: Arc::new(options.clone()),
            runtime: Arc::new(runtime),
        };
        drop(database.wait(database.client())?);
        Ok(database)
    }

    /// Waits for work with connections. For threads that may block.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let _context = self.runtime.enter();
        futures_executor::block_on(work)
    }

    /// Takes a connection from the pool.
    pub(crate) async fn client(&self) -> Result<Object, DatabaseError> {
        self.pool
            .get()
            .await
            .map_err(|error| DatabaseError::of_pool(error, &self.options))
    }

    /// Returns the address, without the password.
    pub fn options(&self) -> &DatabaseOptions {
        &self.options
    }
}
