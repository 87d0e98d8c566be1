//! Errors of a database, each with its remedy.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use rustls::CertificateError;
use tokio_postgres::error::SqlState;

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
    /// A server that is not a standby accepts no writes.
    #[error(
        "cannot use the database {0}: its server is not a standby, and accepts no writes; set default_transaction_read_only = off for the server, the database and the role"
    )]
    ReadOnly(String),
    /// A pooler gives the session of one client to another one.
    #[error(
        "cannot use the database: a pooler shares its sessions between clients; set pool_mode = session in PgBouncer, or name the server itself"
    )]
    SharedSessions,
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
    /// The role may not read and write every table.
    #[error(
        "the role {role} lacks rights on the tables of Rostro: {missing}; give them with `rostro database migrate --grant-to {role}`"
    )]
    Rights {
        /// The role.
        role: String,
        /// The rights, each with its table.
        missing: String,
    },
    /// A command uses the database alone, or a service does and a command needs it alone.
    #[error(
        "a service or a command uses this database; stop it first, or wait for it with --wait-for-lock SECONDS"
    )]
    InUse,
    /// The node has no lease.
    #[error(
        "this node could not join the fleet in time; the log says why, and a higher --wait-for-lock waits longer"
    )]
    NotJoined,
    /// Live nodes have other settings.
    #[error("this node differs from {nodes}; {}", different_remedy(*is_lease))]
    DifferentSettings {
        /// The nodes with their differences.
        nodes: String,
        /// Whether the length of the lease differs, which is never allowed.
        is_lease: bool,
    },
    /// No live node has a name.
    #[error(
        "no node `{name}` has a lease in this database; {}",
        known_nodes(known)
    )]
    UnknownNode {
        /// The name.
        name: String,
        /// Names of the live nodes.
        known: Vec<String>,
    },
    /// The database did not answer.
    #[error("the database did not answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// Another server has replaced the one that this node follows.
    #[error("another server has replaced the database; retry when this node has loaded it")]
    OtherEpoch,
    /// A new id differs only in case from a stored one.
    #[error("another person is stored under this id with other upper and lower case")]
    IdTaken,
    /// A row cannot be used.
    #[error("{0} in the database is damaged; restore the database from a backup")]
    Damaged(&'static str),
    /// An archive was made by another gallery.
    #[error("the archive is of another gallery; name an export of this database")]
    OtherGallery,
    /// The gallery's folder belongs to another database.
    #[error("the gallery {} belongs to another database; name another folder with --gallery", folder.display())]
    OtherDatabase {
        /// The folder.
        folder: PathBuf,
    },
    /// The database is older than the files of this node.
    #[error("the database has changes up to {number}, and the files in {} are of change {seen}: it was restored from an older backup, and files of later people would be removed; name an empty folder with --gallery", folder.display())]
    OlderDatabase {
        /// The folder.
        folder: PathBuf,
        /// Number of the latest change in the database.
        number: u64,
        /// Number when the files were used last.
        seen: u64,
    },
    /// The gallery's folder has people of its own.
    #[error("the gallery {} has {people} people that are not in the database, and would lose their files; import them with `rostro database import`, and name an empty folder with --gallery", folder.display())]
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
            Self::Silent(_)
                | Self::OtherEpoch
                | Self::ReadOnly(_)
                | Self::Connect {
                    is_transient: true,
                    ..
                }
                | Self::Statement {
                    is_transient: true,
                    ..
                }
        )
    }

    /// Converts an error of the pool. `address` is without the password.
    pub(super) fn of_pool(error: PoolError, address: String) -> Self {
        let connect = |cause: String, remedy, is_transient| Self::Connect {
            address,
            cause,
            remedy,
            is_transient,
        };
        match error {
            // Older servers do not know a setting of the session.
            PoolError::PostCreateHook(HookError::Backend(error))
                if error.code() == Some(&SqlState::UNDEFINED_OBJECT) =>
            {
                connect(cause(&error), "use PostgreSQL 14 or later", false)
            }
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                let (remedy, is_transient) = connect_remedy(&error);
                connect(cause(&error), remedy, is_transient)
            }
            PoolError::Timeout(TimeoutType::Wait) => connect(
                "all connections of this service are in use".to_owned(),
                "retry later",
                true,
            ),
            PoolError::Timeout(_) => connect("it does not answer".to_owned(), UNREACHABLE, true),
            error => connect(error.to_string(), UNREACHABLE, true),
        }
    }

    /// Converts an error of a statement.
    pub(crate) fn of_statement(error: &tokio_postgres::Error) -> Self {
        let (remedy, is_transient) = match error.code() {
            // Anything but a lost connection is a defect of the statement or its answer.
            None => (None, is_lost(error)),
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => (Some(GRANT), false),
            Some(code) if *code == SqlState::DISK_FULL => {
                (Some("make room on the server's disk"), true)
            }
            Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => (
                Some(
                    "name the server that accepts writes, too, if this one is a standby (`SELECT pg_is_in_recovery()`), or else set default_transaction_read_only = off",
                ),
                true,
            ),
            // A schema without USAGE is not searched either.
            Some(code) if *code == SqlState::UNDEFINED_TABLE => (
                Some("run `rostro database migrate`, with --grant-to ROLE for the service's role"),
                false,
            ),
            Some(code) => (None, is_transient_code(code)),
        };
        Self::Statement {
            cause: cause(error),
            remedy,
            is_transient,
        }
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::of_statement(&error)
    }
}

/// What to do about a right that a service lacks.
const GRANT: &str =
    "give the service's role its rights with `rostro database migrate --grant-to ROLE`";

/// What to do about nodes with different settings.
fn different_remedy(is_lease: bool) -> &'static str {
    match is_lease {
        true => {
            "give all nodes the same settings; --lease must be equal even with --allow-different"
        }
        false => "give all nodes the same settings, or pass --allow-different",
    }
}

fn known_nodes(known: &[String]) -> String {
    match known {
        [] => "it has no nodes".to_owned(),
        known => format!("its nodes are {}", known.join(", ")),
    }
}

/// What to do about a server that does not answer.
const UNREACHABLE: &str = "check that the server runs and that its host and port are right";

/// Returns the server's message with its code, or the cause of a broken connection. It has neither
/// the details of the server, which quote rows, nor parameters.
fn cause(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => std::error::Error::source(error)
            .map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
    }
}

/// Returns what to do about a connection that cannot be made, and whether a retry may succeed.
fn connect_remedy(error: &tokio_postgres::Error) -> (&'static str, bool) {
    let Some(code) = error.code() else {
        return unfinished_remedy(error);
    };
    if [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
    ]
    .contains(code)
    {
        return (LOGIN, false);
    }
    match code {
        code if *code == SqlState::INVALID_CATALOG_NAME => (
            "make the database with `createdb`, or name another one",
            false,
        ),
        code if *code == SqlState::TOO_MANY_CONNECTIONS => {
            ("raise max_connections of the server", true)
        }
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            ("grant CONNECT on the database to its user", false)
        }
        code if *code == SqlState::CANNOT_CONNECT_NOW => ("retry later", true),
        code => (UNREACHABLE, is_transient_code(code)),
    }
}

/// What to do about a refused user or password.
const LOGIN: &str = "check its user and password, and the server's pg_hba.conf";

/// Returns the remedy for a connection that ended before the server could say why.
fn unfinished_remedy(error: &tokio_postgres::Error) -> (&'static str, bool) {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    // tokio-postgres tells the stages of a connection apart in the text alone.
    let stage = error.to_string();
    if stage.contains("TLS") {
        let tls = io.and_then(io::Error::get_ref);
        let tls = tls.and_then(|error| error.downcast_ref::<rustls::Error>());
        return match tls {
            Some(rustls::Error::InvalidCertificate(error)) => (certificate_remedy(error), false),
            Some(_) => (
                "check the certificate and the TLS versions of the server",
                false,
            ),
            None => ("give the server a certificate (`ssl = on`)", false),
        };
    }
    if stage.contains("configuration") || stage.contains("authentication") {
        return (LOGIN, false);
    }
    match refuses_writes(error) {
        true => (
            "the server is a standby; name the one that accepts writes, too",
            true,
        ),
        false => (UNREACHABLE, true),
    }
}

/// Returns true if the server answered, and accepts no writes.
fn refuses_writes(error: &tokio_postgres::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    // The library makes this error itself.
    io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied && io.raw_os_error().is_none())
}

/// Returns true if no server of a pool accepts writes.
pub(super) fn pool_refuses_writes(error: &PoolError) -> bool {
    matches!(error, PoolError::Backend(error) if refuses_writes(error))
}

/// Returns the remedy for a certificate that is not trusted.
fn certificate_remedy(error: &CertificateError) -> &'static str {
    match error {
        // A new authority may have the name of an old one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no trusted authority signed its certificate: name the authority's with sslrootcert=FILE in the address"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate has another name: use a name of the certificate in the address"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: renew it"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: compare the clocks of both machines"
        }
        _ => "give the server another certificate",
    }
}

/// Returns true if a connection ended or broke.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    let is_malformed = |io: &io::Error| {
        matches!(
            io.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
        )
    };
    error.is_closed() || io.is_some_and(|io| !is_malformed(io))
}

/// Returns true for a shutdown of the server, a failover, or a lack of its resources.
fn is_transient_code(code: &SqlState) -> bool {
    ["08", "40", "53", "55", "57", "58"]
        .iter()
        .any(|class| code.code().starts_with(class))
}
