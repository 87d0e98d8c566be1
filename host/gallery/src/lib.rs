//! People and groups on disk.
//!
//! [`Store`] is the seam: the rest of the host knows nothing else. [`FolderStore`] implements it on
//! a folder, and combines three parts that each own some of its files:
//!
//! - [`CsvGallery`]: a CSV file of samples for each person and embedding contract;
//! - [`groups`]: a file of members for each group;
//! - [`ledger`]: the change number, and the tombstones of deleted people.
//!
//! Writes are atomic: a temporary file is written, synced and renamed, and its folder is synced.
//! Damaged files are quarantined, never deleted.

pub mod csv_file;
mod folder;
mod folder_store;
pub mod groups;
pub mod ledger;
mod names;
pub mod quarantine;
mod store;
pub(crate) mod watched;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use csv_file::{
    LARGEST as LARGEST_PERSON, REASONS, SampleFileError, parse as parse_samples,
    write as write_samples,
};
pub use folder::{CsvGallery, QuarantinedFile};
pub use folder_store::FolderStore;
pub use store::{
    BatchOutcome, BatchWritten, ByContract, ChangeNumber, Deletion, Durability, GalleryContents,
    GroupChange, PersonRecord, SampleLocation, Store, StoreChanges, StoreError, Written,
};

/// A file that cannot be used as a person's.
#[derive(Debug)]
pub struct Problem {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub cause: SampleFileError,
    /// Where it was moved, unless it was left alone.
    pub aside: Option<PathBuf>,
    /// True for a damaged file that changed lately: it may be in the middle of being copied, and is
    /// looked at again.
    pub is_recent: bool,
}

impl Problem {
    /// A file that is left as it is.
    pub fn new(path: PathBuf, cause: SampleFileError) -> Self {
        Self {
            path,
            cause,
            aside: None,
            is_recent: false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.aside {
            Some(aside) => write!(f, "set aside as {}: ", aside.display())?,
            None if self.is_recent => f.write_str(
                "left alone for a minute, because it may be in the middle of being copied: ",
            )?,
            None => f.write_str("left alone: ")?,
        }
        write!(f, "{}: {}", self.path.display(), self.cause)
    }
}

/// Why a gallery cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    /// The folder cannot be made, read or written.
    #[error("cannot {action} the gallery {folder}: {cause}; name a folder that this process may write with --gallery", folder = folder.display())]
    Folder {
        /// What was tried.
        action: &'static str,
        /// Where.
        folder: PathBuf,
        /// Why it failed.
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
    /// A person's file cannot be read. Its name is the person's, so that it is not said.
    #[error("a person's file in the gallery {folder} cannot be used: {cause}", folder = folder.display())]
    Damaged {
        /// Where.
        folder: PathBuf,
        /// Why.
        cause: SampleFileError,
    },
    /// A person's samples would make a file larger than any that is read.
    #[error("the samples make a file of {size} bytes, and at most {most} are read again", most = csv_file::LARGEST)]
    TooLarge {
        /// How large.
        size: usize,
    },
    /// The change took effect, and the disk failed afterwards.
    #[error("cannot sync the gallery {folder}, which was changed: {cause}; a crash may undo the change", folder = folder.display())]
    Unsynced {
        /// Where.
        folder: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// A person's file cannot be written. Its name is the person's, so that it is not said.
    #[error("cannot write a person's file into the gallery {folder}: {cause}{}", remedy(cause), folder = folder.display())]
    Write {
        /// Where.
        folder: PathBuf,
        /// Why.
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

/// How an operator mends what keeps a file from being written, as the end of a message that named
/// the folder.
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
