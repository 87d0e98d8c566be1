//! Interface of the durable store of people and groups.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::{ContractId, PersonId};
use rostro_common::keyed_hash::HashKey;
use rostro_common::sample::Sample;

use crate::fleet::FleetStatus;
use crate::groups::{GroupId, GroupIndex, GroupsError};
use crate::ledger::{
    ArchiveNumber, ArchiveOrigin, ChangeNumber, DeletionReason, ImportWatch, Tombstones,
};
use crate::{GalleryError, KeptTemplates, Problem};

/// Stores people, groups, the record of revisions and the audit log. Each method that writes makes
/// one durable change and returns its [`ChangeNumber`]. Calls block.
///
/// The caller serialises the changes of one person; those of different people may overlap.
pub trait Store: Send + Sync + fmt::Debug {
    /// Sets the contract of samples that name none, as the replaced service wrote them, and the
    /// length of its embeddings if that is known. Only the first contract counts.
    fn adopt_legacy(&self, contract: &ContractId, dimension: Option<usize>);

    /// Reads the stored people on this thread and on idle `cores`. Returns them, and the unreadable
    /// files. Only the first call resets the changes that [`Self::rescan`] reports, because later
    /// calls may fill one view of several.
    ///
    /// # Errors
    ///
    /// If the store as a whole cannot be read. A single unreadable entry is a [`Problem`] instead.
    fn load(&self, cores: &Cores) -> Result<GalleryContents, GalleryError>;

    /// Reads the stored people for a view with templates of a dimension under `key`. A store that keeps
    /// templates with the people returns them, and no samples of these people.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    fn load_for(
        &self,
        _key: Sha256Digest,
        _dimension: usize,
        cores: &Cores,
    ) -> Result<GalleryContents, GalleryError> {
        self.load(cores)
    }

    /// Returns the templates that [`Self::keep_templates`] kept under `key`. Those of people who were
    /// replaced or deleted since are missing, and others may be. To be called before [`Self::load`].
    fn kept_templates(&self, key: Sha256Digest) -> KeptTemplates;

    /// Keeps the templates of a view for later starts: [`Self::kept_templates`] with those that were
    /// made since. `key` identifies how they were made. A failure only makes the next start slower,
    /// and is logged.
    fn keep_templates(&self, key: Sha256Digest, templates: &KeptTemplates);

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

    /// Finds changes that other programs made since the last rescan. Damaged files that stayed the
    /// same are quarantined. Each reported person has a change of the returned number.
    ///
    /// # Errors
    ///
    /// If the store as a whole cannot be read.
    fn rescan(&self) -> Result<StoreChanges, GalleryError>;

    /// Brings this node's own files of a person up to date with samples that another node stored,
    /// none for a person who is not stored. The caller holds the person's lock.
    ///
    /// # Errors
    ///
    /// If a file of a person who is not stored cannot be removed.
    fn follow(&self, _id: &PersonId, _samples: Option<&[Sample]>) -> Result<(), GalleryError> {
        Ok(())
    }

    /// Removes this node from the fleet, because it answers nothing any more.
    fn leave(&self) {}

    /// Records that the views have every change that the last [`Self::rescan`] found.
    fn acknowledge_rescan(&self) {}

    /// Records that the views have a change of this process.
    fn acknowledge(&self, _number: ChangeNumber) {}

    /// Blocks until another program may have made a change, at most for `period`.
    fn wait_for_changes(&self, period: Duration) {
        std::thread::sleep(period);
    }

    /// Returns the lease under which this node may answer from its views; none if it has no lease
    /// now. A store of one process is always leased.
    fn lease(&self) -> Option<Lease> {
        Some(Lease::default())
    }

    /// Returns the time since the last renewal of the lease if an operator allows this node to answer
    /// from its views without one; none otherwise.
    fn stale_age(&self) -> Option<Duration> {
        None
    }

    /// Returns the state of this node's part in a fleet; none for a store of one process.
    fn fleet_status(&self) -> Option<FleetStatus> {
        None
    }

    /// Waits until this node has its first lease.
    ///
    /// # Errors
    ///
    /// If this node has none when `scope` ends.
    fn join(&self, _scope: &CancelScope) -> Result<(), GalleryError> {
        Ok(())
    }

    /// Waits until every node has applied a change, so that none answers from before it.
    ///
    /// # Errors
    ///
    /// [`PendingChange`]: the change was made, and nodes may answer from before it.
    fn wait_applied(
        &self,
        _change: &SharedChange,
        _deadline: Instant,
    ) -> Result<(), PendingChange> {
        Ok(())
    }

    /// Returns true if another program wrote a person's file and [`Self::rescan`] has not reported
    /// it yet.
    fn has_unseen_files(&self, id: &PersonId) -> bool;

    /// Counts the unusable files by reason, as words for metrics.
    fn left_alone(&self) -> BTreeMap<&'static str, usize>;

    /// Quarantines a damaged file, so that no enrolment overwrites it and no start reports it
    /// again. The returned problem has its path there. Files that are not damaged, changed
    /// recently, or cannot be moved stay.
    fn quarantine(&self, problem: Problem) -> Problem;

    /// Replaces all samples of a person, of every contract, and returns the path of the person's
    /// own file. Samples of the first one's contract go into that file. Those of other contracts
    /// count only if they have the same enrolment.
    ///
    /// Once the own file is written, no older samples are in force, even if a crash prevents the
    /// other writes.
    ///
    /// # Errors
    ///
    /// If the store cannot be written. The person then is unchanged, or has only the samples of the
    /// first one's contract.
    fn replace(&self, id: &PersonId, samples: &[Sample]) -> Result<PersonWrite, GalleryError>;

    /// Replaces a person's samples of one contract, and keeps those of all others. The samples join
    /// the stored enrolment.
    ///
    /// # Errors
    ///
    /// If the store cannot be written. The person is then unchanged.
    fn put(
        &self,
        id: &PersonId,
        samples: &[Sample],
        location: SampleLocation,
    ) -> Result<PersonWrite, GalleryError>;

    /// Stores many people with few waits for the disk. All samples of each, of every contract, are
    /// replaced.
    fn replace_all(&self, people: &[PersonSamples<'_>]) -> BatchWrite;

    /// Removes a person: their memberships, their samples, and their files in quarantine. Leaves a
    /// tombstone even if the person is not stored, because an older archive may have them.
    ///
    /// # Errors
    ///
    /// If a group or the store cannot be written. Parts of the person may then be left.
    fn delete_person(&self, id: &PersonId) -> Result<Deletion, StoreError>;

    /// Returns the groups after the last change.
    fn groups(&self) -> &GroupIndex;

    /// Adds people to a group, which is created if it does not exist, also without members. The
    /// caller holds the people's locks, or removes those again who were deleted meanwhile.
    ///
    /// # Errors
    ///
    /// If the group cannot be written. Nothing is changed then, unless the error is
    /// [`GroupsError::Unsynced`].
    fn add_to_group(&self, group: &GroupId, ids: &[PersonId]) -> Result<GroupChange, GroupsError>;

    /// Removes a person from a group. Returns none if the group does not exist.
    ///
    /// # Errors
    ///
    /// If the group cannot be written. Nothing is changed then, unless the error is
    /// [`GroupsError::Unsynced`].
    fn remove_from_group(
        &self,
        group: &GroupId,
        id: &PersonId,
    ) -> Result<Option<GroupChange>, GroupsError>;

    /// Deletes a group, but none of its members.
    ///
    /// # Errors
    ///
    /// If the group cannot be removed. Nothing is changed then, unless the error is
    /// [`GroupsError::Unsynced`].
    fn delete_group(&self, group: &GroupId) -> Result<GroupChange, GroupsError>;

    /// Returns the id of the gallery, and a number up to which every deletion has finished. Both
    /// are for an archive that begins now; none if archives cannot be numbered.
    fn archive_number(&self) -> Option<ArchiveNumber>;

    /// Returns every tombstone, for an archive.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn tombstones(&self) -> io::Result<Tombstones>;

    /// Adopts the tombstones of an archive. Returns the reasons for the omitted ones.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    fn merge_tombstones(&self, others: &Tombstones) -> io::Result<Vec<&'static str>>;

    /// Returns the origin of an archive, without its number if this store never issued that number,
    /// because the store was then restored from a copy. `adopts` raises the change number above it.
    ///
    /// # Errors
    ///
    /// The second part is the reason for not adopting a number.
    fn check_origin(
        &self,
        origin: ArchiveOrigin,
        adopts: bool,
    ) -> (ArchiveOrigin, Result<(), &'static str>);

    /// Begins an import. [`Self::deleted_since`] and [`Self::is_written_during_import`] report
    /// changes until the returned guard is dropped.
    fn watch_import(&self) -> ImportWatch;

    /// Returns true if a person was written since the running import began.
    fn is_written_during_import(&self, id: &PersonId) -> bool;

    /// Returns the record of revisions; none before the first was written.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn read_revisions(&self) -> io::Result<Option<Vec<u8>>>;

    /// Replaces the record of revisions that [`Self::read_revisions`] returned last, or that this
    /// process wrote last.
    ///
    /// # Errors
    ///
    /// [`RevisionsError`]; the former record stays then.
    fn write_revisions(&self, write: &RevisionsWrite<'_>) -> Result<SharedChange, RevisionsError>;

    /// Returns true if other nodes use the store, so that they may write the record of revisions.
    fn is_shared(&self) -> bool {
        false
    }

    /// Returns the change that made the record of revisions as this process knows it.
    fn revisions_change(&self) -> SharedChange {
        SharedChange::default()
    }

    /// Reads a component that another node may have kept; none if the store has no components.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or its bytes do not have the digest.
    fn read_component(&self, _digest: Sha256Digest) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Keeps a component for other nodes.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn keep_component(&self, _digest: Sha256Digest, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Tells other nodes which revisions this one has staged, and why it cannot serve others.
    fn report_revisions(&self, _revisions: BTreeMap<Sha256Digest, Result<(), String>>) {}

    /// Tells other nodes of the requests of this one; at once if they must know soon, or if its
    /// readiness changed.
    fn report_health(&self, _health: NodeHealth, _is_urgent: bool) {}

    /// Returns what the other live nodes reported, as of this node's last renewal.
    fn others_health(&self) -> Vec<NodeHealth> {
        Vec::new()
    }

    /// Returns what every live node has staged; empty in a store of one process.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn nodes(&self) -> Result<Vec<NodeRevisions>, GalleryError> {
        Ok(Vec::new())
    }

    /// Appends whole lines to the audit log, in the order of the calls. They are durable after
    /// [`AuditAppend::wait`].
    ///
    /// # Errors
    ///
    /// If they cannot be written as a whole.
    fn append_audit(&self, lines: &[u8]) -> io::Result<AuditAppend<'_>>;

    /// Opens the audit log anew, after log rotation.
    ///
    /// # Errors
    ///
    /// If it cannot be written; the next line tries again.
    fn reopen_audit(&self) -> io::Result<()>;

    /// Removes lines of the audit log from before a time. Returns their number of bytes.
    ///
    /// # Errors
    ///
    /// If the log cannot be changed; it is unchanged then.
    fn remove_audit_before(&self, cutoff: Timestamp) -> io::Result<u64>;

    /// Returns the keys of people in the audit log that all nodes use, oldest first; none if this
    /// process keeps its keys by itself.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn audit_keys(&self) -> io::Result<Option<Vec<AuditKey>>> {
        Ok(None)
    }

    /// Adds a key of people for all nodes, unless another node added one after `newest`.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn add_audit_key(&self, _key: &AuditKey, _newest: Option<Timestamp>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns a name of a person for the log, which must not have the id; none for a store whose
    /// errors name files.
    fn log_name(&self, _id: &PersonId) -> Option<String> {
        None
    }

    /// Writes back keys of people that are missing in the database or differ there. Returns their
    /// number.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    fn restore_audit_keys(&self, _keys: &[AuditKey]) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes the keys of people that were made at these times.
    ///
    /// # Errors
    ///
    /// If they cannot be removed.
    fn remove_audit_keys(&self, _made: &[Timestamp]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns the reason to omit a person from an import: a deletion since the archive was made,
    /// or since the import began.
    fn deleted_since(&self, id: &PersonId, origin: &ArchiveOrigin) -> Option<DeletionReason>;
}

/// Permission of a node to answer from its views. A request takes it before it takes a view, and is
/// answered only if the store still returns an equal one after the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease(pub u64);

/// A record of revisions to write.
#[derive(Clone, Copy, Debug)]
pub struct RevisionsWrite<'w> {
    /// The record.
    pub record: &'w [u8],
    /// Components that its revisions need.
    pub components: &'w [Sha256Digest],
}

/// Why a record of revisions is not written.
#[derive(Debug, thiserror::Error)]
pub enum RevisionsError {
    /// Another node wrote it since this one read it.
    #[error("another node changed the revisions at the same time; try again")]
    Conflict,
    /// It cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Revisions on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRevisions {
    /// Name of the node.
    pub node: String,
    /// True for this process. What it wrote may be older than what it knows.
    pub is_own: bool,
    /// Revisions that it has staged, and those that it cannot serve, with the reason.
    pub revisions: BTreeMap<Sha256Digest, Result<(), String>>,
}

/// What a live node reports of its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeHealth {
    /// Whether a balancer may send it requests.
    pub is_ready: bool,
    /// A text of the caller; empty before the first report.
    pub report: String,
}

/// A durable change that other nodes must apply before it is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedChange {
    /// Number of the change.
    pub number: ChangeNumber,
    /// Epoch of the number; none in a store of one process.
    pub epoch: Option<Arc<str>>,
}

/// A change that some nodes may not have applied.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the change was made, but {cause}: {reason}")]
pub struct PendingChange {
    /// Why it is not promised.
    pub cause: PendingCause,
    /// What was waited for.
    pub reason: String,
    /// Names of the nodes that have not applied it.
    pub nodes: Vec<String>,
}

/// Why a change is not promised to be in force on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PendingCause {
    /// Nodes had not applied it at the deadline.
    #[error("was not applied everywhere before the deadline")]
    Deadline,
    /// Nodes may answer without a lease.
    #[error("nodes without a lease may answer from before it")]
    StaleReaders,
}

/// Whether a completed change survives a crash of the machine.
#[derive(Debug)]
pub enum Durability {
    /// The change survives a crash.
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

    /// Returns true if the change survives a crash, and false if the file system cannot sync
    /// folders.
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
    /// Converts the result of a sync: false if the file system cannot sync folders.
    fn from(is_durable: bool) -> Self {
        if is_durable {
            Self::Synced
        } else {
            Self::Unsupported
        }
    }
}

/// Result of writing a person's samples.
#[derive(Debug)]
pub struct PersonWrite {
    /// Number of the change.
    pub number: ChangeNumber,
    /// The person's own file.
    pub path: PathBuf,
    /// Whether the change survives a crash.
    pub durability: Durability,
}

/// Result of writing a batch of people.
#[derive(Debug)]
pub struct BatchWrite {
    /// Outcome of each person, in the order of the batch.
    pub outcomes: Vec<BatchOutcome>,
    /// Whether the changes survive a crash.
    pub durability: Durability,
    /// Error after which the rest was skipped.
    pub failure: Option<GalleryError>,
}

/// Outcome of one person of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// Stored with this change number.
    Stored(ChangeNumber),
    /// The samples make a file of this many bytes, above the reader's limit. The person is
    /// unchanged.
    TooLarge(usize),
    /// Not written, because another node stored an id that differs only in case.
    IdTaken,
    /// Not written, because the store failed earlier. The person is unchanged.
    Skipped,
}

/// Result of a deletion.
#[derive(Debug)]
pub struct Deletion {
    /// Number of the change.
    pub number: ChangeNumber,
    /// Whether anything was stored of the person.
    pub was_there: bool,
    /// Files with the person's name that are not a person's. They stay.
    pub left_alone: Vec<Problem>,
    /// Whether the deletion survives a crash.
    pub durability: Durability,
    /// Whether the tombstone is durable.
    pub has_tombstone: bool,
    /// The change that other nodes must apply.
    pub shared: SharedChange,
}

/// Result of a change to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupChange {
    /// Number of the change; none if nothing changed.
    pub number: Option<ChangeNumber>,
    /// False if the file system cannot sync folders, so that a crash of the machine may undo the
    /// change.
    pub durable: bool,
}

impl GroupChange {
    /// Returns true if the group changed.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.number.is_some()
    }
}

/// File for samples of one contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleLocation {
    /// The person's own file, which other readers of the gallery see. Samples of another contract
    /// move out of it.
    Own,
    /// A file next to the own one. The own file is used if it has no samples of another contract.
    Other,
}

/// A person with all their samples. Readers of the folder see those of the first one's contract.
pub type PersonSamples<'a> = (&'a PersonId, &'a [Sample]);

/// Contents of a gallery.
#[derive(Debug, Default)]
pub struct GalleryContents {
    /// Every readable person, ordered by id.
    pub people: Vec<PersonRecord>,
    /// Unusable files.
    pub problems: Vec<Problem>,
    /// Number of files of other contracts that may be older than their person's last enrolment, and
    /// so are not in force.
    pub unknown_age: usize,
    /// True for the first load, which records the state of each file.
    pub(crate) is_first: bool,
}

/// Changes by other programs since the last rescan.
#[derive(Debug)]
pub struct StoreChanges {
    /// Number of these changes.
    pub number: ChangeNumber,
    /// People with changed files.
    pub people: BTreeSet<PersonId>,
    /// People who are no longer stored.
    pub deleted: BTreeSet<PersonId>,
    /// Damaged files that stayed the same.
    pub problems: Vec<Problem>,
    /// Number of groups that were reloaded.
    pub groups: Result<usize, GroupsError>,
    /// Whether another node may have written the record of revisions.
    pub revisions: bool,
}

impl Default for StoreChanges {
    fn default() -> Self {
        Self {
            number: ChangeNumber::default(),
            people: BTreeSet::new(),
            deleted: BTreeSet::new(),
            problems: Vec::new(),
            groups: Ok(0),
            revisions: false,
        }
    }
}

/// A stored person.
#[derive(Debug)]
pub struct PersonRecord {
    /// Id.
    pub id: PersonId,
    /// Samples.
    pub samples: Vec<Sample>,
    /// Templates that the store has of them, none of which are those of a person without samples of
    /// the contract.
    pub templates: Option<Vec<Vec<f32>>>,
    /// The person's own file, or another if they have none.
    pub path: PathBuf,
}

/// Why a change of people and groups failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The people cannot be read or written.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The groups cannot be read or written.
    #[error(transparent)]
    Groups(#[from] GroupsError),
}

/// A key of the hashes that stand for people in the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditKey {
    /// Time at which it was made.
    pub made: Timestamp,
    /// The key.
    pub key: HashKey,
}

/// Lines that were appended to the audit log. The caller releases its locks before it waits.
pub struct AuditAppend<'s> {
    number: ChangeNumber,
    wait: Box<dyn FnOnce() -> io::Result<()> + 's>,
}

impl<'s> AuditAppend<'s> {
    /// Creates the append of lines that are durable after `wait`.
    pub fn new(number: ChangeNumber, wait: impl FnOnce() -> io::Result<()> + 's) -> Self {
        Self {
            number,
            wait: Box::new(wait),
        }
    }

    /// Waits until the lines are durable.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub fn wait(self) -> io::Result<ChangeNumber> {
        (self.wait)()?;
        Ok(self.number)
    }
}

impl fmt::Debug for AuditAppend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditAppend")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
