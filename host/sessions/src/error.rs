//! Errors of the store of sessions.

use std::io;
use std::path::{Path, PathBuf};

use crate::ids::SessionId;
use crate::session::SessionError;

/// Reason why the store refuses an operation or cannot do it.
#[derive(Debug, thiserror::Error)]
pub enum SessionStoreError {
    /// No session has the id.
    #[error("no session has the id {0}; it may have been deleted")]
    Unknown(SessionId),
    /// The owner has as many open sessions as are allowed.
    #[error("cannot create a session: {limit} are open; end one first")]
    TooManySessions {
        /// Maximum number of open sessions of an owner.
        limit: usize,
    },
    /// The owner has as many sessions as are kept.
    #[error("cannot create a session: {limit} are kept; delete ended ones first")]
    TooManyKept {
        /// Maximum number of sessions of an owner, open and ended.
        limit: usize,
    },
    /// The person was deleted while the request ran.
    #[error("cannot correct the attendance: the person was deleted meanwhile")]
    PersonRemoved,
    /// The deleted people cannot be read.
    #[error("cannot read which people were deleted: {0}")]
    Tombstones(#[source] io::Error),
    /// The session refuses the operation.
    #[error(transparent)]
    Refused(#[from] SessionError),
    /// Another node has the session.
    #[error("the node {node} has the session {id}")]
    Elsewhere {
        /// The session.
        id: SessionId,
        /// Name of the node.
        node: String,
        /// Address at which callers reach the node; none if its operator configured none.
        address: Option<String>,
    },
    /// This node lost the session to another one while the request ran.
    #[error("another node took the session {0} over; send the request again")]
    Moved(SessionId),
    /// A deletion of a person must be applied first.
    #[error("a person is being deleted; send the request again")]
    Deleting,
    /// This node has no lease, without which it may have no sessions.
    #[error("this node has no lease")]
    NoLease,
    /// The database failed.
    #[error("cannot use the sessions in the database: {cause}")]
    Database {
        /// Cause.
        cause: Box<dyn std::error::Error + Send + Sync>,
        /// True if a retry may succeed.
        is_transient: bool,
    },
    /// A file cannot be used.
    #[error("cannot {action} {path}: {cause}", path = .path.display())]
    Io {
        /// Attempted action.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
}

impl SessionStoreError {
    /// Returns the stable code of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown_session",
            Self::TooManySessions { .. } | Self::TooManyKept { .. } => "too_many_sessions",
            Self::PersonRemoved => "person_removed",
            Self::Refused(error) => error.code(),
            Self::Elsewhere { .. } => "session_elsewhere",
            Self::Moved(_) => "session_moved",
            Self::Deleting => "deletion_running",
            Self::NoLease => "lease_lost",
            Self::Database {
                is_transient: true, ..
            } => "database_unavailable",
            Self::Tombstones(_) | Self::Io { .. } | Self::Database { .. } => "sessions_failed",
        }
    }

    /// Returns a function that adds the action and the path to an error of a file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io {
            action,
            path: path.to_owned(),
            cause,
        }
    }
}
