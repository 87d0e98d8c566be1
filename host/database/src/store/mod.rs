//! The store in a database.
//!
//! | module | content |
//! | --- | --- |
//! | `samples` | rows of samples, and which of a person's are in force |
//! | `people` | reads and writes of people |
//! | `groups` | groups and their members |
//! | `tombstones` | deletions, for imports of archives |
//! | `files` | the CSV files of this node, which follow the database |
//!
//! One service at a time writes a database: it holds an advisory lock, and every change names it as
//! the writer in the row that numbers the changes. A service that lost its connections, and with
//! them the lock, is refused once another one has taken over.

mod files;
mod groups;
mod people;
mod samples;
mod tombstones;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Transaction};
use jiff::Timestamp;
use uuid::Uuid;

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::{ContractId, PersonId};
use rostro_common::keyed_hash::HashKey;
use rostro_common::sample::Sample;
use rostro_gallery::groups::{GroupId, GroupIndex, GroupsError};
use rostro_gallery::ledger::{
    ArchiveNumber, ArchiveOrigin, DeletionReason, ImportWatch, Tombstones,
};
use rostro_gallery::{
    AuditAppend, BatchWrite, ChangeNumber, CsvGallery, DatabaseFailure, Deletion, GalleryContents,
    GalleryError, GroupChange, KeptTemplates, PersonSamples, PersonWrite, Problem, SampleLocation,
    StateFiles, Store, StoreChanges, StoreError,
};

use crate::connection::{Database, DatabaseError};

/// Time to wait at least for the lock, because the server needs a moment to notice the end of a
/// service.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// Key of the advisory lock that the writing service holds: "rostro" in ASCII.
const WRITER_LOCK: i64 = 0x726f_7374_726f;

/// Store of people and groups in a database.
///
/// The CSV files of people in `--gallery`, which callers read, are written after each change. The
/// record of revisions, the audit log and kept templates are in this node's state folder.
#[derive(Debug)]
pub struct PostgresStore {
    database: Database,
    /// Connection that holds the advisory lock.
    _lock: Object,
    /// Id of this service as the writer.
    writer: Uuid,
    /// Id of the gallery.
    gallery: Uuid,
    /// Key of the hashes in its tombstones.
    tombstone_key: HashKey,
    /// None in a command, which leaves nothing on its machine.
    node: Option<Node>,
    groups: GroupIndex,
    /// Serialises changes of groups with their index.
    changing_groups: Mutex<()>,
    /// Whether the commit of a change of groups failed, which may have taken effect all the same.
    groups_unsettled: AtomicBool,
    /// People with such a change. The next rescan reads them again.
    unsettled: Mutex<BTreeSet<PersonId>>,
    /// Whether the files of people who are not stored were removed.
    has_clean_files: AtomicBool,
    /// Number of the latest change of this service.
    latest: AtomicU64,
    /// Contract of samples that name none.
    legacy: OnceLock<ContractId>,
    /// Number at which the running import began; none without one.
    import: Arc<Mutex<Option<u64>>>,
}

/// The folders of a service that uses a database.
#[derive(Debug)]
pub struct Node {
    /// CSV files of the people, empty or of the same database.
    pub files: CsvGallery,
    /// The record of revisions, the audit log and kept templates.
    pub state: StateFiles,
}

impl PostgresStore {
    /// Opens the store, and takes over as the writer of the database. If another service writes the
    /// database, waits for it until `scope` ends. A command has no `node`.
    ///
    /// # Errors
    ///
    /// If another service writes the database, if the files are another gallery's, or if the
    /// database cannot be used.
    pub fn open(
        database: Database,
        node: Option<Node>,
        scope: &CancelScope,
    ) -> Result<Self, StoreError> {
        let gallery = database.wait(gallery_id(&database)).map_err(failure)?;
        let marker = match &node {
            Some(node) => files::check_owner(&node.files, gallery)?,
            None => None,
        };
        // New for each process, because a copied folder must not make two services one writer.
        let writer = Uuid::now_v7();
        let opened = database.wait(async {
            let taken = take_over(&database, writer, scope).await?;
            let key = tombstones::key_of(&database, gallery).await?;
            Ok((taken, key, groups::load(&database).await?))
        });
        let (taken, tombstone_key, groups) = opened.map_err(failure)?;
        if let Some(node) = &node {
            if let Some(marker) = marker
                && marker.number > taken.latest
            {
                return Err(failure(DatabaseError::OlderDatabase {
                    folder: node.files.folder().to_owned(),
                    number: taken.latest,
                    seen: marker.number,
                })
                .into());
            }
            if taken.before.is_none() || taken.before != marker.map(|marker| marker.writer) {
                // Another service wrote the database, and people may have been deleted since.
                node.state.remove_templates()?;
            }
            files::mark(&node.files, gallery, writer, taken.latest)?;
        }
        Ok(Self {
            database,
            _lock: taken.lock,
            writer,
            gallery,
            tombstone_key,
            node,
            groups: GroupIndex::new(groups),
            changing_groups: Mutex::default(),
            groups_unsettled: AtomicBool::new(false),
            unsettled: Mutex::default(),
            has_clean_files: AtomicBool::new(false),
            latest: AtomicU64::new(taken.latest),
            legacy: OnceLock::new(),
            import: Arc::default(),
        })
    }

    /// Runs a change in a transaction. The change takes its number last, so that changes wait for
    /// each other only briefly.
    fn change<T>(
        &self,
        change: impl AsyncFnOnce(&Transaction<'_>, Numbering<'_>) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        self.database.wait(async {
            let mut client = self.database.client().await?;
            let transaction = client.transaction().await?;
            let result = change(&transaction, Numbering(self)).await?;
            transaction.commit().await?;
            Ok(result)
        })
    }

    /// Runs a query on a connection of its own.
    fn read_with<T>(
        &self,
        read: impl AsyncFnOnce(&Object) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        self.database.wait(async {
            let client = self.database.client().await?;
            read(&client).await
        })
    }

    /// Converts the error of a change of people, which may have taken effect if its commit failed.
    /// The next rescan reads them again.
    fn unsettled<'p>(
        &self,
        ids: impl IntoIterator<Item = &'p PersonId>,
        error: DatabaseError,
    ) -> GalleryError {
        self.lock_unsettled().extend(ids.into_iter().cloned());
        failure(error)
    }

    fn lock_unsettled(&self) -> MutexGuard<'_, BTreeSet<PersonId>> {
        self.unsettled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out which people are stored after changes that ended in the unknown.
    fn settle(&self) -> Result<StoreChanges, GalleryError> {
        let ids = std::mem::take(&mut *self.lock_unsettled());
        let mut changes = StoreChanges {
            number: ChangeNumber(self.latest.load(Ordering::Relaxed)),
            people: BTreeSet::new(),
            deleted: BTreeSet::new(),
            problems: Vec::new(),
            groups: Ok(0),
        };
        if ids.is_empty() {
            return Ok(changes);
        }
        let read = self.latest_number().map_err(failure).and_then(|number| {
            changes.number = self.record_latest(number);
            for id in &ids {
                match self.read_person(id)? {
                    Some(_) => changes.people.insert(id.clone()),
                    None => changes.deleted.insert(id.clone()),
                };
            }
            Ok(())
        });
        if let Err(error) = read {
            self.lock_unsettled().extend(ids);
            return Err(error);
        }
        Ok(changes)
    }

    /// Removes the kept templates before a person's samples are replaced or deleted.
    fn remove_templates(&self) -> Result<(), GalleryError> {
        match &self.node {
            Some(node) => node.state.remove_templates(),
            None => Ok(()),
        }
    }

    fn state(&self) -> io::Result<&StateFiles> {
        let state = self.node.as_ref().map(|node| &node.state);
        state.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                "the store was opened without a state folder",
            )
        })
    }

    fn record_latest(&self, number: u64) -> ChangeNumber {
        self.latest.fetch_max(number, Ordering::Relaxed);
        ChangeNumber(number)
    }
}

/// The database as its writer.
struct TakenOver {
    /// Connection that holds the advisory lock.
    lock: Object,
    /// Number of the latest change.
    latest: u64,
    /// The writer before.
    before: Option<Uuid>,
}

async fn gallery_id(database: &Database) -> Result<Uuid, DatabaseError> {
    let client = database.client().await?;
    let row = client.query_opt("SELECT id FROM gallery", &[]).await?;
    let row = row.ok_or(DatabaseError::Damaged("the row of the gallery"))?;
    Ok(row.get(0))
}

/// Locks the database for this service.
async fn take_over(
    database: &Database,
    writer: Uuid,
    scope: &CancelScope,
) -> Result<TakenOver, DatabaseError> {
    let lock = database.client().await?;
    let begun = Instant::now();
    loop {
        let row = lock
            .query_one("SELECT pg_try_advisory_lock($1)", &[&WRITER_LOCK])
            .await?;
        if row.get(0) {
            break;
        }
        if scope.is_expired() && (scope.is_cancelled() || begun.elapsed() > MIN_WAIT) {
            return Err(DatabaseError::InUse);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before: Option<Uuid> = lock
        .query_one("SELECT writer FROM gallery", &[])
        .await?
        .get(0);
    let row = lock
        .query_one(
            "UPDATE gallery SET writer = $1 RETURNING counter",
            &[&writer],
        )
        .await?;
    Ok(TakenOver {
        latest: unsigned(row.get(0)),
        before,
        lock,
    })
}

/// Numbers changes in their transactions.
#[derive(Clone, Copy)]
struct Numbering<'s>(&'s PostgresStore);

impl Numbering<'_> {
    /// Takes `count` numbers and returns the last one. The row stays locked until the transaction
    /// ends, so that changes become visible in the order of their numbers.
    async fn take(self, transaction: &Transaction<'_>, count: usize) -> Result<u64, DatabaseError> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let row = transaction
            .query_opt(
                "UPDATE gallery SET counter = counter + $1 WHERE writer = $2 RETURNING counter",
                &[&count, &self.0.writer],
            )
            .await?;
        Ok(unsigned(row.ok_or(DatabaseError::TakenOver)?.get(0)))
    }
}

/// Converts a number of the database, which are never negative.
fn unsigned(number: i64) -> u64 {
    number.try_into().unwrap_or_default()
}

fn signed(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn failure(error: DatabaseError) -> GalleryError {
    GalleryError::Database(database_failure(error))
}

fn database_failure(error: DatabaseError) -> DatabaseFailure {
    DatabaseFailure {
        is_transient: error.is_transient(),
        cause: Box::new(error),
    }
}

impl Store for PostgresStore {
    fn adopt_legacy(&self, contract: &ContractId, _dimension: Option<usize>) {
        // Only the first contract counts.
        let _ = self.legacy.set(contract.clone());
    }

    fn load(&self, _cores: &Cores) -> Result<GalleryContents, GalleryError> {
        let people = self.load_people()?;
        // Once, before the service serves: later, people may be enrolled meanwhile.
        if !self.has_clean_files.swap(true, Ordering::Relaxed) {
            self.remove_files_of_others(people.iter().map(|person| &person.id))?;
        }
        let mut contents = GalleryContents::default();
        contents.people = people;
        Ok(contents)
    }

    fn kept_templates(&self, key: Sha256Digest) -> KeptTemplates {
        match &self.node {
            Some(node) => node.state.kept_templates(key),
            None => KeptTemplates::default(),
        }
    }

    fn keep_templates(&self, key: Sha256Digest, templates: &KeptTemplates) {
        if let Some(node) = &self.node {
            node.state.keep_templates(key, templates);
        }
    }

    fn ids(&self) -> Result<(BTreeSet<PersonId>, Vec<Problem>), GalleryError> {
        Ok((self.read_ids()?, Vec::new()))
    }

    fn read(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, GalleryError> {
        self.read_person(id)
    }

    /// Finds changes of this service that may have taken effect although their commit failed. Files
    /// that others write into the folder do not count.
    fn rescan(&self) -> Result<StoreChanges, GalleryError> {
        self.settle()
    }

    fn has_unseen_files(&self, _id: &PersonId) -> bool {
        false
    }

    fn left_alone(&self) -> BTreeMap<&'static str, usize> {
        BTreeMap::new()
    }

    fn quarantine(&self, problem: Problem) -> Problem {
        problem
    }

    fn replace(&self, id: &PersonId, samples: &[Sample]) -> Result<PersonWrite, GalleryError> {
        self.replace_person(id, samples)
    }

    fn put(
        &self,
        id: &PersonId,
        samples: &[Sample],
        location: SampleLocation,
    ) -> Result<PersonWrite, GalleryError> {
        self.put_samples(id, samples, location)
    }

    fn replace_all(&self, people: &[PersonSamples<'_>]) -> BatchWrite {
        self.replace_people(people)
    }

    fn delete_person(&self, id: &PersonId) -> Result<Deletion, StoreError> {
        Ok(self.delete(id)?)
    }

    fn groups(&self) -> &GroupIndex {
        &self.groups
    }

    fn add_to_group(&self, group: &GroupId, ids: &[PersonId]) -> Result<GroupChange, GroupsError> {
        self.add_members(group, ids)
    }

    fn remove_from_group(
        &self,
        group: &GroupId,
        id: &PersonId,
    ) -> Result<Option<GroupChange>, GroupsError> {
        self.remove_member(group, id)
    }

    fn delete_group(&self, group: &GroupId) -> Result<GroupChange, GroupsError> {
        self.remove_group(group)
    }

    fn archive_number(&self) -> Option<ArchiveNumber> {
        self.number_of_archive()
    }

    fn tombstones(&self) -> Tombstones {
        self.read_tombstones().unwrap_or_else(|error| {
            tracing::error!("an export has no deletions: {error}");
            Tombstones::default()
        })
    }

    fn merge_tombstones(&self, others: &Tombstones) -> io::Result<Vec<&'static str>> {
        self.adopt_tombstones(others)
    }

    fn check_origin(
        &self,
        origin: ArchiveOrigin,
        adopts: bool,
    ) -> (ArchiveOrigin, Result<(), &'static str>) {
        self.check_number(origin, adopts)
    }

    fn watch_import(&self) -> ImportWatch {
        self.begin_import()
    }

    fn is_written_during_import(&self, id: &PersonId) -> bool {
        self.is_written_since_import(id)
    }

    fn read_revisions(&self) -> io::Result<Option<Vec<u8>>> {
        self.state()?.read_revisions()
    }

    fn write_revisions(&self, record: &[u8]) -> io::Result<ChangeNumber> {
        self.state()?.write_revisions(record)?;
        Ok(ChangeNumber(self.latest.load(Ordering::Relaxed)))
    }

    fn append_audit(&self, lines: &[u8]) -> io::Result<AuditAppend> {
        let file = self.state()?.append_audit(lines)?;
        let number = ChangeNumber(self.latest.load(Ordering::Relaxed));
        Ok(AuditAppend::new(number, file))
    }

    fn reopen_audit(&self) -> io::Result<()> {
        self.state()?.reopen_audit()
    }

    fn remove_audit_before(&self, cutoff: Timestamp) -> io::Result<u64> {
        self.state()?.remove_audit_before(cutoff)
    }

    fn deleted_since(&self, id: &PersonId, origin: &ArchiveOrigin) -> Option<DeletionReason> {
        self.deletion_since(id, origin)
    }
}
