//! The seam for a second store: what the host asks of people's durable data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;

use rostro_common::person::{ContractId, PersonId, Sample};

use crate::groups::{GroupId, GroupIndex, GroupsError};
use crate::ledger::{
    ArchiveNumber, ArchiveOrigin, ChangeNumber, DeletionReason, ImportWatch, Tombstones,
};
use crate::{GalleryError, Problem};

/// Stores people and groups. Each method that writes makes one durable change and returns its
/// [`ChangeNumber`]. Calls block.
///
/// The caller serialises the changes of one person; those of different people may overlap.
pub trait Store: Send + Sync + fmt::Debug {
    /// Sets the contract of samples that state none, as the replaced service wrote them, and the
    /// length of its embeddings if that is known. Only the first contract counts.
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

    /// Returns the samples in force of one person, of every contract; none for an unknown person.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn read(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, GalleryError>;

    /// Looks for changes that other programs made since the last look. Damaged files that stay as
    /// they are are quarantined. Each reported person has a change of the returned number.
    ///
    /// # Errors
    ///
    /// If the store as a whole cannot be read.
    fn rescan(&self) -> Result<StoreChanges, GalleryError>;

    /// Returns true if another program wrote a person's file, and [`Self::rescan`] did not report
    /// it yet.
    fn has_unseen_files(&self, id: &PersonId) -> bool;

    /// Counts the files that cannot be used by reasons, which are words for metrics.
    fn left_alone(&self) -> BTreeMap<&'static str, usize>;

    /// Quarantines a damaged file, so that no enrolment overwrites it and no start finds it again;
    /// the problem then says where it is. Files that are not damaged, changed lately, or cannot be
    /// moved stay.
    fn quarantine(&self, problem: Problem) -> Problem;

    /// Stores samples in place of all samples of a person, of every contract. Those of the first
    /// one's contract go into the person's own file, whose path is returned; those of other
    /// contracts count only if they have the first one's enrolment.
    ///
    /// From the moment that the own file is written nothing older is in force, whatever a crash
    /// leaves of the rest.
    ///
    /// # Errors
    ///
    /// If the store cannot be written; the person is as before then, or has the samples of the
    /// first one's contract alone.
    fn replace(&self, id: &PersonId, samples: &[Sample]) -> Result<Written, GalleryError>;

    /// Stores samples of one contract in place of the person's samples of that contract, and keeps
    /// those of all others. They belong to the enrolment that is stored.
    ///
    /// # Errors
    ///
    /// If the store cannot be written; the person is then as before.
    fn put(
        &self,
        id: &PersonId,
        samples: &[Sample],
        location: SampleLocation,
    ) -> Result<Written, GalleryError>;

    /// Stores many people with few waits for the disk, each in place of all samples of the person,
    /// of every contract.
    fn replace_all(&self, people: &[ByContract<'_>]) -> BatchWritten;

    /// Removes a person: their groups, their samples, damaged files in quarantine included. Leaves
    /// a tombstone, also of a person who is not stored: an older archive may have them.
    ///
    /// # Errors
    ///
    /// If a group or the store cannot be written; some of the person may be left then.
    fn delete_person(&self, id: &PersonId) -> Result<Deletion, StoreError>;

    /// Returns the groups as the last change left them.
    fn groups(&self) -> &GroupIndex;

    /// Adds people to a group, and makes the group if it does not exist.
    ///
    /// # Errors
    ///
    /// If the group cannot be written; nothing is changed then, unless it is
    /// [`GroupsError::Unsynced`].
    fn add_to_group(&self, group: &GroupId, ids: &[PersonId]) -> Result<GroupChange, GroupsError>;

    /// Removes a person from a group; none if the group does not exist.
    ///
    /// # Errors
    ///
    /// If the group cannot be written; nothing is changed then, unless it is
    /// [`GroupsError::Unsynced`].
    fn remove_from_group(
        &self,
        group: &GroupId,
        id: &PersonId,
    ) -> Result<Option<GroupChange>, GroupsError>;

    /// Deletes a group, and no person in it.
    ///
    /// # Errors
    ///
    /// If the group cannot be removed; nothing is changed then, unless it is
    /// [`GroupsError::Unsynced`].
    fn delete_group(&self, group: &GroupId) -> Result<GroupChange, GroupsError>;

    /// Returns the id of the gallery, and a number up to which every deletion has ended, for an
    /// archive that begins now; none where no archive can be numbered.
    fn archive_number(&self) -> Option<ArchiveNumber>;

    /// Returns every tombstone, for an archive.
    fn tombstones(&self) -> Tombstones;

    /// Adopts the tombstones of an archive. Returns the reasons for those that are left out.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    fn merge_tombstones(&self, others: &Tombstones) -> io::Result<Vec<&'static str>>;

    /// Returns the origin of an archive without its number if this store never gave that number:
    /// the store was restored from a copy then. `adopts` raises the change number above it.
    ///
    /// # Errors
    ///
    /// The second part is the reason why a number is not adopted.
    fn check_origin(
        &self,
        origin: ArchiveOrigin,
        adopts: bool,
    ) -> (ArchiveOrigin, Result<(), &'static str>);

    /// Begins an import: [`Self::deleted_since`] and [`Self::is_written_during_import`] report changes
    /// from now on until the returned guard is dropped.
    fn watch_import(&self) -> ImportWatch;

    /// Returns true if a person was written since the running import began.
    fn is_written_during_import(&self, id: &PersonId) -> bool;

    /// Returns the reason to leave a person out of an import: a deletion since the archive was
    /// made, or since the import began.
    fn deleted_since(&self, id: &PersonId, origin: &ArchiveOrigin) -> Option<DeletionReason>;
}

/// Whether a change that took effect survives a crash of the machine.
#[derive(Debug)]
pub enum Durability {
    /// It does.
    Synced,
    /// The file system cannot sync folders, so that a crash may undo the change.
    Unsupported,
    /// The disk failed after the change, and a crash may undo it.
    Failed(GalleryError),
}

impl Durability {
    /// Returns the worse of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Failed(error), _) | (_, Self::Failed(error)) => Self::Failed(error),
            (Self::Unsupported, _) | (_, Self::Unsupported) => Self::Unsupported,
            (Self::Synced, Self::Synced) => Self::Synced,
        }
    }

    /// Returns true if the change survives a crash.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        matches!(self, Self::Synced)
    }

    /// Returns true if the change survives a crash, and false where the file system cannot tell.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Unsynced`] if the disk failed after the change.
    pub fn into_result(self) -> Result<bool, GalleryError> {
        match self {
            Self::Synced => Ok(true),
            Self::Unsupported => Ok(false),
            Self::Failed(error) => Err(error),
        }
    }
}

impl From<bool> for Durability {
    /// True for a change that survives a crash, false where the file system cannot sync folders.
    fn from(is_durable: bool) -> Self {
        if is_durable {
            Self::Synced
        } else {
            Self::Unsupported
        }
    }
}

/// A person's samples that were written.
#[derive(Debug)]
pub struct Written {
    /// The change.
    pub number: ChangeNumber,
    /// The person's own file.
    pub path: PathBuf,
    /// Whether the change survives a crash.
    pub durability: Durability,
}

/// The outcome of a batch of people.
#[derive(Debug)]
pub struct BatchWritten {
    /// The outcome of each person, in their order.
    pub outcomes: Vec<BatchOutcome>,
    /// Whether the changes survive a crash.
    pub durability: Durability,
    /// The error after which the rest was skipped.
    pub failure: Option<GalleryError>,
}

/// The outcome of one person of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// Stored, as this change.
    Stored(ChangeNumber),
    /// The samples make a file of this many bytes, which is more than is read again. The person is
    /// as before.
    TooLarge(usize),
    /// The store failed before it came to this person, who is as before.
    Skipped,
}

/// The outcome of a deletion.
#[derive(Debug)]
pub struct Deletion {
    /// The change.
    pub number: ChangeNumber,
    /// Whether anything was stored of the person.
    pub was_there: bool,
    /// Files that have the person's name and belong to another person. They stay.
    pub left_alone: Vec<Problem>,
    /// Whether the deletion survives a crash.
    pub durability: Durability,
    /// Whether the tombstone is durable.
    pub has_tombstone: bool,
}

/// The outcome of a change to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupChange {
    /// The change; none if everything is as before.
    pub number: Option<ChangeNumber>,
    /// False where the file system cannot sync folders, so that a crash of the machine may undo the
    /// change.
    pub durable: bool,
}

impl GroupChange {
    /// Returns true if anything differs from before.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.number.is_some()
    }
}

/// The file that samples of one contract go into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleLocation {
    /// The person's own file, which readers of the gallery see. Samples of another contract that
    /// are there move out of it.
    Own,
    /// A file next to the own one, unless the own file has no samples of another contract.
    Other,
}

/// A person with their samples by contract. Readers of the folder see those of the first contract.
pub type ByContract<'a> = (&'a PersonId, &'a [(ContractId, Vec<Sample>)]);

/// The contents of a gallery.
#[derive(Debug, Default)]
pub struct GalleryContents {
    /// Every person who could be read, in the order of their ids.
    pub people: Vec<PersonRecord>,
    /// Files that cannot be used.
    pub problems: Vec<Problem>,
    /// Number of files of other contracts than a person's last that may be older than the person's
    /// last enrolment, and so are not in force.
    pub unknown_age: usize,
    /// True for the first load, which records what was seen of each file.
    pub(crate) is_first: bool,
}

/// Changes by other programs since the last look.
#[derive(Debug)]
pub struct StoreChanges {
    /// The number of these changes.
    pub number: ChangeNumber,
    /// People whose files were written.
    pub people: BTreeSet<PersonId>,
    /// Damaged files that stayed as they are.
    pub problems: Vec<Problem>,
    /// Number of groups that were read anew.
    pub groups: Result<usize, GroupsError>,
}

/// A stored person.
#[derive(Debug)]
pub struct PersonRecord {
    /// Their id.
    pub id: PersonId,
    /// Their samples.
    pub samples: Vec<Sample>,
    /// Their file.
    pub path: PathBuf,
}

/// Why a change that concerns people and groups failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The people cannot be read or written.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The groups cannot be read or written.
    #[error(transparent)]
    Groups(#[from] GroupsError),
}
