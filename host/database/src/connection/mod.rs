//! Connections to a database.

pub mod error;
mod hosts;
pub mod options;
mod usage;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Timeouts,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{NoTls, SimpleQueryMessage, Socket};

use error::pool_refuses_writes;
use hosts::{HostConnector, has_primary};
use usage::UsageCounts;

pub use error::DatabaseError;
pub use options::DatabaseOptions;
pub(crate) use usage::StatementKind;

/// Connections of a service: one for each concurrent change, and the one that holds its lock.
const CONNECTIONS: usize = 16;

/// Time to wait for a connection, and for a host that accepted one to log in.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Finds this program's tables, and nothing of other users before them. A statement rather than a
/// parameter of the connection, which PgBouncer refuses.
const SETTINGS: &str = "SET search_path = rostro, pg_temp; \
                        SET lock_timeout = '5s'; \
                        SET statement_timeout = '60s'; \
                        SET idle_in_transaction_session_timeout = '60s'; \
                        SET idle_session_timeout = 0";

/// A database. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Pool,
    options: Arc<DatabaseOptions>,
    /// Fires on a notification of the server, and when a connection ends.
    notified: Arc<Notify>,
    counts: Arc<UsageCounts>,
    /// Thread on which connections read and write.
    runtime: Arc<ConnectionRuntime>,
}

/// Runtime of the connections. It ends without waiting for them, so that the last database may be
/// dropped on a thread that must not block.
#[derive(Debug)]
struct ConnectionRuntime(Option<Runtime>);

/// Returns the process that serves a connection, after a statement.
async fn backend(client: &Object, before: &str) -> Result<Option<String>, DatabaseError> {
    // Without a prepared statement, which such a pooler may lose.
    let query = format!("{before} SELECT pg_backend_pid()");
    let answer = client.simple_query(&query).await;
    let messages = answer.map_err(|error| match error.code() {
        // PgBouncer's statement mode refuses a transaction.
        Some(code) if *code == SqlState::PROTOCOL_VIOLATION => DatabaseError::SharedSessions,
        _ => error.into(),
    })?;
    let id = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(id.map(str::to_owned))
}

fn manager<T>(options: &DatabaseOptions, tls: T, notified: &Arc<Notify>) -> Manager
where
    T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
    T::Stream: Sync + Send,
    T::TlsConnect: Sync + Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let config = options.config();
    let connector = HostConnector::new(&config, options.host_timeout(), tls, Arc::clone(notified));
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    Manager::from_connect(config, connector, recycling)
}

/// Work on the thread of the connections, which ends on drop.
#[derive(Debug)]
pub(crate) struct BackgroundTask(Option<AbortHandle>);

impl Drop for BackgroundTask {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Drop for ConnectionRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
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
        let notified = Arc::new(Notify::new());
        let manager = match options.tls()? {
            Some(tls) => manager(options, tls, &notified),
            None => manager(options, NoTls, &notified),
        };
        let settings = Hook::async_fn(|client, _| {
            Box::pin(async move {
                let set = client.batch_execute(SETTINGS).await;
                set.map_err(HookError::Backend)
            })
        });
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(TIMEOUT),
                create: Some(options.connect_timeout() + TIMEOUT),
                recycle: Some(TIMEOUT),
            })
            .post_create(settings)
            .build()
            .map_err(|error| DatabaseError::Runtime(std::io::Error::other(error)))?;
        let database = Self {
            pool,
            options: Arc::new(options.clone()),
            notified,
            counts: Arc::default(),
            runtime: Arc::new(ConnectionRuntime(Some(runtime))),
        };
        database.wait(database.check_sessions())?;
        Ok(database)
    }

    /// Makes two connections, and checks that they are two sessions of the server. A pooler that
    /// shares sessions would give a lock and a prepared statement to another client.
    async fn check_sessions(&self) -> Result<(), DatabaseError> {
        let (first, second) = (self.client().await?, self.client().await?);
        let idle = backend(&first, "").await?;
        // In a transaction, a pooler may give it the idle session of the other one.
        let busy = backend(&second, "BEGIN;").await?;
        second.batch_execute("ROLLBACK").await?;
        match idle == busy {
            true => Err(DatabaseError::SharedSessions),
            false => Ok(()),
        }
    }

    /// Waits for work with connections. For threads that may block.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let _context = self.runtime.0.as_ref().map(Runtime::enter);
        futures_executor::block_on(work)
    }

    /// Runs work with connections on their thread, which it must not block, until the result is
    /// dropped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> BackgroundTask {
        let runtime = self.runtime.0.as_ref();
        BackgroundTask(runtime.map(|runtime| runtime.spawn(work).abort_handle()))
    }

    /// Waits for a notification of the server, or for the end of a connection.
    pub(crate) async fn notified(&self) {
        self.notified.notified().await;
    }

    /// Takes a connection from the pool.
    pub(crate) async fn client(&self) -> Result<Object, DatabaseError> {
        let status = self.pool.status();
        if status.available == 0 && status.size >= status.max_size {
            self.counts.count_pool_wait();
        }
        match self.pool.get().await {
            Ok(client) => Ok(client),
            Err(error) if pool_refuses_writes(&error) && self.has_primary().await => {
                Err(DatabaseError::ReadOnly(self.options.to_string()))
            }
            Err(error) => Err(DatabaseError::of_pool(error, self.options.to_string())),
        }
    }

    /// Returns true if one of the hosts is not a standby.
    async fn has_primary(&self) -> bool {
        let (config, timeout) = (self.options.config(), self.options.host_timeout());
        match self.options.tls() {
            Ok(Some(tls)) => has_primary(&config, timeout, tls).await,
            Ok(None) => has_primary(&config, timeout, NoTls).await,
            Err(_) => false,
        }
    }

    /// Returns the address, without the password.
    pub fn options(&self) -> &DatabaseOptions {
        &self.options
    }
}
