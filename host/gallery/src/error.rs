//! Errors of the gallery.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::csv_file::{self, SampleFileError};

/// A file that cannot be used as a person's.
#[derive(Debug)]
pub struct Problem {
    /// Path of the file.
    pub path: PathBuf,
    /// Cause.
    pub cause: SampleFileError,
    /// Path in the quarantine, if the file was moved there.
    pub quarantined: Option<PathBuf>,
    /// True for a damaged file that changed recently. It may still be being copied, and is read
    /// again later.
    pub is_recent: bool,
}

impl Problem {
    /// Creates the problem of a file that stays where it is.
    pub fn new(path: PathBuf, cause: SampleFileError) -> Self {
        Self {
            path,
            cause,
            quarantined: None,
            is_recent: false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.quarantined {
            Some(to) => write!(f, "quarantined as {}: ", to.display())?,
            None if self.is_recent => f.write_str(
                "left alone for a minute, because it may be in the middle of being copied: ",
            )?,
            None => f.write_str("left alone: ")?,
        }
        write!(f, "{}: {}", self.path.display(), self.cause)
    }
}

/// Error of a store in a database.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct DatabaseFailure {
    /// Whether a retry may succeed.
    pub is_transient: bool,
    /// Cause.
    #[source]
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

/// Why a gallery cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    /// The folder cannot be made, read or written.
    #[error("cannot {action} the gallery {folder}: {cause}; name a folder that this process may write with --gallery", folder = folder.display())]
    Folder {
        /// Attempted action.
        action: &'static str,
        /// The folder.
        folder: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// Another process writes the folder.
    #[error(
        "the gallery {folder} is used by another running service; give each its own with --gallery, stop the other one, or wait for it with \
         --wait-for-lock SECONDS (in Kubernetes, where the old one waits for the new one, use `strategy: Recreate`)",
        folder = folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A person's file cannot be read. The message omits the file's name, which is the person's.
    #[error("a person's file in the gallery {folder} cannot be used: {cause}", folder = folder.display())]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// Cause.
        cause: SampleFileError,
    },
    /// A person's samples would make a file larger than the reader accepts.
    #[error("the samples make a file of {size} bytes; at most {most} are read again", most = csv_file::MAX_BYTES)]
    TooLarge {
        /// Size in bytes.
        size: usize,
    },
    /// The change took effect, and the disk failed afterwards.
    #[error("cannot sync the gallery {folder}, which was changed: {cause}; a crash may undo the change", folder = folder.display())]
    Unsynced {
        /// The folder.
        folder: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// Kept templates, which contain those of the person, cannot be removed. Nothing was changed.
    #[error("cannot remove the kept templates {path}: {cause}; remove the file", path = path.display())]
    Templates {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// The folder has copies of people who are in a database.
    #[error("the people of the gallery {folder} are in a database, and files here would be removed at its next start; name it with --database, or another folder with --gallery", folder = folder.display())]
    OfDatabase {
        /// The folder.
        folder: PathBuf,
    },
    /// A new id differs only in case from one that another node stored.
    #[error(
        "another person is stored under this id with other upper and lower case; choose another id"
    )]
    IdTaken,
    /// The database cannot be used. Nothing was changed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
    /// A person's file cannot be written. The message omits the file's name, which is the person's.
    #[error("cannot write a person's file into the gallery {folder}: {cause}{}", remedy(cause), folder = folder.display())]
    Write {
        /// The folder.
        folder: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
}

impl GalleryError {
    /// Wraps an error of an action on the folder.
    pub fn folder(action: &'static str, folder: &Path) -> impl FnOnce(io::Error) -> Self {
        let folder = folder.to_owned();
        move |cause| Self::Folder {
            action,
            folder,
            cause,
        }
    }
}

/// Returns the remedy for an error of writing, as the end of a message that named the folder.
pub(crate) fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on its disk",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount it so that it can be written, or name another folder with --gallery"
        }
        io::ErrorKind::PermissionDenied => "; let the service's user write there",
        _ => "",
    }
}
