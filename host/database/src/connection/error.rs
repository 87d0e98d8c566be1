//! Errors of a database, each with its remedy.

use std::io;
use std::path::PathBuf;

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

use super::options::DatabaseOptions;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The address is invalid. The message does not repeat it, because it may have a password.
    #[error("the address of the database is invalid: {0}; write it as postgresql://USER@HOST/NAME")]
    Address(String),
    /// The file with the address cannot be read.
    #[error("cannot read the address of the database from {path}: {cause}; name another file with --database-url-file", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Cause.
        cause: io::Error,
    },
    /// The authorities cannot be used.
    #[error("cannot use the authorities in {}: {_1}; name a PEM file with sslrootcert", _0.display())]
    Authorities(PathBuf, String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS for the database: {0}")]
    Tls(String),
    /// The thread of the connections cannot be started.
    #[error("cannot connect to a database: {0}")]
    Runtime(io::Error),
    /// No connection can be made.
    #[error("cannot connect to the database {address}: {cause}; {remedy}")]
    Connect {
        /// Address without the password.
        address: String,
        /// Cause.
        cause: String,
        /// What to do.
        remedy: &'static str,
        /// Whether a retry may succeed.
        is_transient: bool,
    },
    /// A statement failed.
    #[error("the database refused a statement: {cause}{}", remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default())]
    Statement {
        /// Message and code of the server, without values.
        cause: String,
        /// What to do.
        remedy: Option<&'static str>,
        /// Whether a retry may succeed.
        is_transient: bool,
    },
    /// There is no schema of this program.
    #[error("the database has no tables of Rostro; make them with `rostro database migrate`")]
    NoSchema,
    /// The schema is older than this program needs.
    #[error(
        "the schema of the database has version {found}, and this program needs {needed}; run `rostro database migrate`"
    )]
    OldSchema {
        /// Version in the database.
        found: u32,
        /// Version of this program.
        needed: u32,
    },
    /// The schema is newer than this program knows.
    #[error(
        "the schema of the database has version {found}, and this program knows {known} and the next; upgrade the program"
    )]
    NewSchema {
        /// Version in the database.
        found: u32,
        /// Version of this program.
        known: u32,
    },
    /// The schema was not made by this program.
    #[error("the schema `rostro` of the database is another program's: {0}; name another database")]
    ForeignSchema(String),
    /// Another service writes the database.
    #[error(
        "another service uses this database; stop it first, or wait for it with --wait-for-lock SECONDS"
    )]
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
        folder: PathBuf,
    },
    /// The gallery's folder has people of its own.
    #[error("the gallery {} has {people} people that are not in the database, whose files would be removed; import them with `rostro database import`, and name an empty folder with --gallery", folder.display())]
    FolderInUse {
        /// The folder.
        folder: PathBuf,
        /// Number of people.
        people: usize,
    },
}

impl DatabaseError {
    /// Returns true if a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Connect {
                is_transient: true,
                ..
            } | Self::Statement {
                is_transient: true,
                ..
            }
        )
    }

    /// Converts an error of the pool.
    pub(super) fn of_pool(error: PoolError, options: &DatabaseOptions) -> Self {
        let address = options.to_string();
        let connect = |cause: String, remedy, is_transient| Self::Connect {
            address,
            cause,
            remedy,
            is_transient,
        };
        match error {
            PoolError::Backend(error) => {
                let (remedy, is_transient) = connect_remedy(&error);
                connect(cause(&error), remedy, is_transient)
            }
            PoolError::Timeout(TimeoutType::Wait) => connect(
                "all connections of this service are in use".to_owned(),
                "retry later",
                true,
            ),
            error => connect(
                error.to_string(),
                "check that the server runs and that its host and port are right",
                true,
            ),
        }
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        let (remedy, is_transient) = match error.code() {
            // The connection ended.
            None => (None, true),
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => (
                Some(
                    "give the service's role its rights with `rostro database migrate --grant-to ROLE`",
                ),
                false,
            ),
            Some(code) if *code == SqlState::DISK_FULL => {
                (Some("make room on the server's disk"), true)
            }
            Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => (
                Some("the server is a standby; name the one that accepts writes, too"),
                true,
            ),
            Some(code) if *code == SqlState::UNDEFINED_TABLE => {
                (
                    // A schema without the right to use it looks like a missing one.
                    Some(
                        "run `rostro database migrate`, with --grant-to ROLE for the service's role",
                    ),
                    false,
                )
            }
            Some(code) => (None, is_transient_code(code)),
        };
        Self::Statement {
            cause: cause(&error),
            remedy,
            is_transient,
        }
    }
}

/// Returns the server's message with its code, or the cause of a broken connection.
fn cause(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => std::error::Error::source(error)
            .map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
    }
}

/// Returns what to do about a connection that cannot be made, and whether a retry may succeed.
fn connect_remedy(error: &tokio_postgres::Error) -> (&'static str, bool) {
    match error.code() {
        Some(code)
            if *code == SqlState::INVALID_PASSWORD
                || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
        {
            (
                "check its user and password, and the server's pg_hba.conf",
                false,
            )
        }
        Some(code) if *code == SqlState::INVALID_CATALOG_NAME => (
            "make the database with `createdb`, or name another one",
            false,
        ),
        Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => {
            ("raise max_connections of the server", true)
        }
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            ("grant CONNECT on the database to its user", false)
        }
        _ => (
            "check that the server runs, accepts writes, and that host, port and certificate are right",
            true,
        ),
    }
}

/// Returns true for a shutdown of the server, a failover, or a lack of its resources.
fn is_transient_code(code: &SqlState) -> bool {
    ["08", "40", "53", "57", "58"]
        .iter()
        .any(|class| code.code().starts_with(class))
}
