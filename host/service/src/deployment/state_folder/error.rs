//! The error of the state folder.

use std::io;
use std::path::{Path, PathBuf};

use rostro_gallery::DatabaseFailure;

/// Reason why the state folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be used.
    #[error("cannot {action} the state folder {folder}: {cause}; name a folder that this process may write with --state", folder = folder.display())]
    Folder {
        /// The action that failed.
        action: &'static str,
        /// The folder.
        folder: PathBuf,
        /// The operating system's error.
        #[source]
        cause: io::Error,
    },
    /// Another node wrote the record at the same time.
    #[error("another node changed the revisions at the same time; try again")]
    Conflict,
    /// The database of the nodes cannot be used.
    #[error("cannot {action} the database: {cause}")]
    Database {
        /// The action that failed.
        action: &'static str,
        /// The error of the database.
        #[source]
        cause: DatabaseFailure,
    },
    /// The process is stopping.
    #[error("the service is stopping, and nothing was changed; ask again once it runs")]
    Stopping,
    /// Other users may write into the folder.
    #[error(
        "cannot keep state in {folder}: others may write into it; take that from them with `chmod go-w {folder}`, or, where something undoes \
         that (Kubernetes' fsGroup, a volume of mode 777), name a folder in it that does not exist yet, which is made for this user alone: \
         {flag} {folder}/rostro",
        folder = folder.display()
    )]
    Open {
        /// The folder.
        folder: PathBuf,
        /// The flag that names it.
        flag: &'static str,
    },
    /// The file system ignores permissions.
    #[error(
        "cannot keep state in {folder}: its file system ignores permissions (as WSL's /mnt/c and some network shares do), so others may write \
         into it; name a folder on another file system with {flag}",
        folder = folder.display()
    )]
    NoPermissions {
        /// The folder.
        folder: PathBuf,
        /// The flag that names it.
        flag: &'static str,
    },
    /// Another process uses the folder.
    #[error(
        "the state folder {folder} is used by another running service; give each its own with --state, or wait for the other to stop with \
         --wait-for-lock SECONDS (in Kubernetes, where it waits for this one, use `strategy: Recreate`)",
        folder = folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The record is damaged, or has an unknown form.
    #[error(
        "{file} is not a record of revisions: {cause}; move it away to start with the configured pipeline alone",
        file = file.display()
    )]
    Record {
        /// The record.
        file: PathBuf,
        /// The defect.
        cause: String,
    },
}

impl StateError {
    /// Converts the error of a store. The actions are what failed in a database, and in a folder.
    pub(super) fn of_store(
        (in_database, in_folder): (&'static str, &'static str),
        folder: &Path,
        cause: io::Error,
    ) -> Self {
        match cause.downcast::<DatabaseFailure>() {
            Ok(cause) => Self::Database {
                action: in_database,
                cause,
            },
            Err(cause) => Self::Folder {
                action: in_folder,
                folder: folder.to_owned(),
                cause,
            },
        }
    }
}
