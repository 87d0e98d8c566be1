//! The durable store of each person's samples.
//!
//! [`Gallery`] is what the rest of the host knows; a folder of CSV files is its embedded default.

pub mod csv_file;
mod folder;
pub mod groups;
pub mod ledger;
mod names;
pub mod quarantine;
pub(crate) mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rostro_common::ids::{ContractId, PersonId};
use rostro_common::sample::Sample;

pub use csv_file::{
    LARGEST as LARGEST_PERSON, REASONS, SampleFileError, parse as parse_samples,
    write as write_samples,
};
pub use folder::{CsvGallery, QuarantinedFile};

/// Stores samples. Calls block.
pub trait Gallery: Send + Sync {
    /// Says of what contract the samples are that have none, as the replaced service wrote them,
    /// and how long its embeddings are if that is known. The first contract is heeded.
    fn adopt_legacy(&self, contract: &ContractId, dimension: Option<usize>);

    /// Returns the stored people, and the files that could not be read. Only the first call changes
    /// what [`Self::rescan`] reports: later ones may be for one view of several.
    ///
    /// # Errors
    ///
    /// If the store as a whole cannot be read; one bad entry is a [`Problem`] instead.
    fn load(&self) -> Result<GalleryContents, GalleryError>;

    /// Returns the ids of all stored people, in order, and the files that belong to no person or
    /// are not in use. Reads no samples: a gallery can be larger than memory.
    ///
    /// # Errors
    ///
    /// If the store as a whole cannot be read.
    fn ids(&self) -> Result<(BTreeSet<PersonId>, Vec<Problem>), GalleryError>;

    /// Looks for files that other programs wrote since they were read last. Damaged files that stay
    /// as they are are set aside.
    ///
    /// # Errors
    ///
    /// If the store as a whole cannot be read.
    fn rescan(&self) -> Result<GalleryChanges, GalleryError>;

    /// Returns true if another program wrote a person's file, and [`Self::rescan`] did not
    /// report it yet.
    fn has_unseen_files(&self, id: &PersonId) -> bool;

    /// Returns whether the last write survives a crash of the machine: false where the file system
    /// cannot sync folders.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Unsynced`] if the disk failed after the write.
    fn is_durable(&self) -> Result<bool, GalleryError>;

    /// Counts the files that cannot be used by reasons, which are words for metrics.
    fn left_alone(&self) -> BTreeMap<&'static str, usize>;

    /// Sets aside what is damaged, so that no enrolment overwrites it and no start finds it again;
    /// the problem says where it is then. What is not damaged, changed lately, or cannot be moved,
    /// is left alone.
    fn set_aside(&self, problem: Problem) -> Problem;

    /// Stores samples in place of all that was stored of a person, of every contract. Those of the
    /// first one's contract go into the person's own file, whose path is returned; those of other
    /// contracts count only if they have the first one's enrolment.
    ///
    /// From the moment that the own file is written nothing older is in force, whatever a crash
    /// leaves of the rest.
    ///
    /// # Errors
    ///
    /// If the store cannot be written; the person is as before then, or has the samples of the
    /// first one's contract alone.
    fn replace(&self, id: &PersonId, samples: &[Sample]) -> Result<PathBuf, GalleryError>;

    /// Stores samples of one contract in place of the person's samples of that contract, and keeps
    /// those of all others. They belong to the enrolment that is stored. Returns the path of the
    /// own file.
    ///
    /// # Errors
    ///
    /// If the store cannot be written; the person is then as before.
    fn put(
        &self,
        id: &PersonId,
        samples: &[Sample],
        place: SampleLocation,
    ) -> Result<PathBuf, GalleryError>;

    /// Stores many people with few waits for the disk, each in place of all that was stored of the
    /// person, of every contract. Returns what became of each, in their order.
    ///
    /// # Errors
    ///
    /// If the store cannot be written; those who are not [`BatchOutcome::Stored`] are then as before.
    fn replace_all(
        &self,
        people: &[ByContract<'_>],
    ) -> (Vec<BatchOutcome>, Result<(), GalleryError>);

    /// What is in force of one person, of every contract; nothing if there is no such person.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn read(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, GalleryError>;

    /// Removes all that is stored of a person, damaged files that were set aside included.
    ///
    /// # Errors
    ///
    /// If the store cannot be written; some of it may be left then.
    fn remove(&self, id: &PersonId) -> Result<Removal, GalleryError>;
}

/// The outcome of a removal.
#[derive(Debug)]
pub struct Removal {
    /// Whether anything was stored of the person.
    pub was_there: bool,
    /// Files that have the person's name and are somebody else's, which stay.
    pub left_alone: Vec<Problem>,
    /// False where the file system cannot sync folders, so that a crash of the machine may undo the
    /// removal.
    pub durable: bool,
    /// The error of the disk after everything was removed, if there was one: a crash may undo the
    /// removal.
    pub unsynced: Option<GalleryError>,
    /// Whether the ledger has a durable tombstone of it. The gallery itself keeps none.
    pub has_tombstone: bool,
}

/// Where samples of one contract are put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleLocation {
    /// Into the person's own file, which readers of the gallery see. Samples of another contract
    /// that are there move out of it.
    Own,
    /// Next to the samples in the own file, unless that has none of another contract.
    Other,
}

/// A person with their samples by contract. Readers of the folder see those of the first contract.
pub type ByContract<'a> = (&'a PersonId, &'a [(ContractId, Vec<Sample>)]);

/// What became of a person of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// Stored durably.
    Stored,
    /// The samples make a file of this many bytes, which is more than is read again. The person is
    /// as before.
    TooLarge(usize),
    /// The store failed before it came to this person, who is as before.
    Skipped,
}

/// What is in a gallery.
#[derive(Debug, Default)]
pub struct GalleryContents {
    /// Everybody who could be read, in the order of their ids.
    pub people: Vec<PersonRecord>,
    /// Files that cannot be used.
    pub problems: Vec<Problem>,
    /// Files of other contracts than a person's last that may be older than the person's last
    /// enrolment, and so are not in force.
    pub unknown_age: usize,
    /// Whether it is the first, which records what was seen of each file.
    is_first: bool,
}

/// What changed in a gallery since the last look.
#[derive(Debug, Default)]
pub struct GalleryChanges {
    /// People whose files were written by another program.
    pub people: BTreeSet<PersonId>,
    /// Damaged files that nobody completed.
    pub problems: Vec<Problem>,
}

/// A person who is stored.
#[derive(Debug)]
pub struct PersonRecord {
    /// Who.
    pub id: PersonId,
    /// What was enrolled.
    pub samples: Vec<Sample>,
    /// Where it is.
    pub path: PathBuf,
}

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
