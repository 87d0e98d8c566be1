//! Error of the start.

use std::io;
use std::path::{Path, PathBuf};

use rostro_sessions::SessionStoreError;

/// Reason why the delivery cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// A file of the state folder cannot be used.
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
    /// The file of a receiver has another format.
    #[error(
        "cannot use {path}: {problem}; move it away, and the receiver is treated as a new one",
        path = .path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// The sessions cannot be read.
    #[error(transparent)]
    Sessions(#[from] SessionStoreError),
    /// The operating system refuses another thread, or a thread's timer.
    #[error("cannot start the thread of receiver {name}: {cause}")]
    Thread {
        /// Name of the receiver.
        name: String,
        /// Cause.
        #[source]
        cause: io::Error,
    },
}

impl DeliveryError {
    /// Returns a function that adds the action and the path to an error of a file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io {
            action,
            path: path.to_owned(),
            cause,
        }
    }
}
