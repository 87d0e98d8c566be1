//! The store in a database.
//!
//! | module | content |
//! | --- | --- |
//! | `damage` | rows that cannot be used |
//! | `restore` | what follows the restore of a backup |
//! | `templates` | what policies made of samples, for all nodes |
//! | `samples` | rows of samples, and which of a person's are in force |
//! | `people` | reads and writes of people |
//! | `load` | all people, with stored templates |
//! | `groups` | groups and their members |
//! | `audit` | the audit log of all nodes |
//! | `revisions` | the record of revisions, and their components |
//! | `tombstones` | deletions, for imports of archives |
//! | `known` | people who may be in the views of this node |
//! | `files` | the CSV files of this node, which follow the database |
//! | `numbers` | numbers of changes, with a row for each |
//! | `feed` | what other nodes changed |
//!
//! Several nodes write a database. Each change takes a number in its transaction, and the nodes
//! follow the numbers ([`crate::fleet`]). A command has the database alone.

mod audit;
mod damage;
mod feed;
mod files;
mod groups;
mod known;
mod load;
mod numbers;
mod people;
mod restore;
mod revisions;
mod samples;
mod templates;
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
use rostro_gallery::groups::{GroupId, GroupIndex, GroupsError, Members};
use rostro_gallery::ledger::{
    ArchiveNumber, ArchiveOrigin, DeletionReason, ImportWatch, Tombstones,
};
use rostro_gallery::{
    AuditAppend, AuditKey, BatchWrite, ChangeNumber, CsvGallery, DatabaseFailure, Deletion,
    FleetStatus, GalleryContents, GalleryError, GroupChange, KeptTemplates, Lease, NodeHealth,
    NodeRevisions, PendingChange, PersonSamples, PersonWrite, Problem, RevisionsError,
    RevisionsWrite, SampleLocation, SharedChange, Store, StoreChanges, StoreError, UnsentLines,
};
use rostro_sessions::shared::SharedSessions;

use crate::connection::{BackgroundTask, Database, DatabaseError, StatementKind};
use crate::fleet::settings::NodeSettings;
use crate::fleet::{Epoch, Fleet, FleetOptions, Position, WRITER_LOCK};
use crate::sessions::PostgresSessions;
use feed::FoundChanges;
use known::KnownPeople;
use load::StoredTemplates;
use numbers::OwnChanges;
use revisions::revisions_text;
use templates::TemplateKeys;

pub(crate) use audit::insert_command_lines;
pub use audit::{AuditLineOf, append_audit_lines, read_audit_keys, read_audit_lines};
pub use damage::{DamagedRow, find_damage};
pub use restore::{Restored, begin_epoch};
pub use revisions::{StoredRevisions, find_components};

/// Time to wait at least for the lock, because the server needs a moment to notice the end of a
/// service.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// Store of people and groups in a database.
///
/// The CSV files of people in `--gallery`, which callers read, are written after each change. Its
/// state folder has lines of the audit log only while the database cannot take them.
#[derive(Debug)]
pub struct PostgresStore {
    database: Database,
    /// Connection of a command, which has the database alone.
    _lock: Option<Object>,
    /// Id of the gallery.
    gallery: Uuid,
    /// Key of the hashes in its tombstones.
    tombstone_key: HashKey,
    /// None in a command, which leaves nothing on its machine.
    node: Option<Node>,
    fleet: Arc<Fleet>,
    /// Renews the lease of a node that joined.
    renewing: OnceLock<BackgroundTask>,
    groups: GroupIndex,
    /// Serialises changes of groups with their index.
    changing_groups: Mutex<()>,
    /// Whether the first load was made, from which this node follows the changes.
    is_loaded: AtomicBool,
    /// People who may be in the views of this node.
    known: Mutex<KnownPeople>,
    /// Changes that were found and are not applied to the views.
    found: Mutex<Option<FoundChanges>>,
    own: Mutex<OwnChanges>,
    /// Change that made the record of revisions as this node knows it.
    record: Mutex<SharedChange>,
    /// Number of the latest change that this node knows.
    latest: AtomicU64,
    /// Whether waiting lines of the audit log are being sent.
    is_sending: Arc<AtomicBool>,
    /// Whether that failed last, which is logged once.
    has_failed_to_send: Arc<AtomicBool>,
    /// Keys of templates that this node uses.
    template_keys: Mutex<TemplateKeys>,
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
    /// Lines of the audit log that the database has not taken yet.
    pub unsent: Arc<UnsentLines>,
}

impl PostgresStore {
    /// Opens the store of a node, which joins the fleet with [`Store::join`].
    ///
    /// # Errors
    ///
    /// If the files are another gallery's, or if the database cannot be used.
    pub fn open_node(
        database: Database,
        node: Node,
        options: FleetOptions,
    ) -> Result<Self, StoreError> {
        let opened = Opened::read(&database)?;
        let number = opened.position.number;
        let marker = files::check_owner(&node.files, opened.gallery)?;
        if let Some(marker) = marker.filter(|marker| marker.number > number) {
            return Err(failure(DatabaseError::OlderDatabase {
                folder: node.files.folder().to_owned(),
                number,
                seen: marker.number,
            })
            .into());
        }
        files::mark(&node.files, opened.gallery, number)?;
        let fleet = Fleet::new(database.clone(), options);
        Ok(Self::new(database, opened, Some(node), fleet, None))
    }

    /// Opens the store for a command, which has the database alone. While a service uses it, waits
    /// until `scope` ends.
    ///
    /// # Errors
    ///
    /// If a service uses the database, or if it cannot be used.
    pub fn open_alone(database: Database, scope: &CancelScope) -> Result<Self, StoreError> {
        let lock = database.wait(lock_alone(&database, scope));
        let lock = lock.map_err(failure)?;
        let opened = Opened::read(&database)?;
        let options = FleetOptions {
            node: "command".to_owned(),
            lease: MIN_WAIT,
            settings: NodeSettings::default(),
            allows_different: false,
            address: None,
        };
        let fleet = Fleet::new(database.clone(), options);
        // The lock of a node ends with its connection, and its lease does not.
        database.wait(fleet.outlast_leases()).map_err(failure)?;
        Ok(Self::new(database, opened, None, fleet, Some(lock)))
    }

    fn new(
        database: Database,
        opened: Opened,
        node: Option<Node>,
        fleet: Arc<Fleet>,
        lock: Option<Object>,
    ) -> Self {
        let latest = AtomicU64::new(opened.position.number);
        fleet.position().set(opened.position);
        Self {
            database,
            _lock: lock,
            gallery: opened.gallery,
            tombstone_key: opened.tombstone_key,
            node,
            fleet,
            renewing: OnceLock::new(),
            groups: GroupIndex::new(opened.groups),
            changing_groups: Mutex::default(),
            is_loaded: AtomicBool::new(false),
            known: Mutex::default(),
            found: Mutex::default(),
            own: Mutex::default(),
            record: Mutex::default(),
            latest,
            is_sending: Arc::default(),
            has_failed_to_send: Arc::default(),
            template_keys: Mutex::default(),
            legacy: OnceLock::new(),
            import: Arc::default(),
        }
    }

    /// Returns the sessions of all nodes, as this node sees them.
    #[must_use]
    pub fn sessions(&self) -> Arc<dyn SharedSessions> {
        let fleet = Arc::clone(&self.fleet);
        Arc::new(PostgresSessions::new(self.database.clone(), fleet))
    }

    /// Runs a change in a transaction. The change takes its number last, so that changes wait for
    /// each other only briefly.
    fn change<T>(
        &self,
        change: impl AsyncFnOnce(&Transaction<'_>, &Epoch) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let epoch = self.epoch()?;
        self.database.count(StatementKind::Change);
        self.database.wait(async {
            let mut client = self.database.client().await?;
            let transaction = client.transaction().await?;
            let result = change(&transaction, &epoch).await?;
            transaction.commit().await?;
            Ok(result)
        })
    }

    /// Reads all people, those with stored templates without samples.
    fn load_with(&self, stored: Option<StoredTemplates>) -> Result<GalleryContents, GalleryError> {
        let people = self.load_people(stored)?;
        // Once, before the service serves: later, people may be enrolled meanwhile.
        if !self.is_loaded.swap(true, Ordering::SeqCst) {
            self.remove_files_of_others(people.iter().map(|person| &person.id))?;
        }
        let mut contents = GalleryContents::default();
        contents.people = people;
        Ok(contents)
    }

    /// Runs a query on a connection of its own.
    fn read_with<T>(
        &self,
        read: impl AsyncFnOnce(&Object) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        self.database.count(StatementKind::Read);
        self.database.wait(async {
            let client = self.database.client().await?;
            read(&client).await
        })
    }

    fn lock_record(&self) -> MutexGuard<'_, SharedChange> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a committed change of this node.
    fn record_own(&self, change: &Position) -> ChangeNumber {
        self.lock_own().commit(change);
        self.record_latest(change.number)
    }

    fn record_latest(&self, number: u64) -> ChangeNumber {
        self.latest.fetch_max(number, Ordering::Relaxed);
        ChangeNumber(number)
    }
}

/// What a store knows of its database from the beginning.
struct Opened {
    gallery: Uuid,
    tombstone_key: HashKey,
    position: Position,
    groups: BTreeMap<GroupId, Members>,
}

impl Opened {
    fn read(database: &Database) -> Result<Self, GalleryError> {
        let read = database.wait(async {
            let mut client = database.client().await?;
            let row = client.query_opt("SELECT id FROM gallery", &[]).await?;
            let row = row.ok_or(DatabaseError::Damaged("the row of the gallery"))?;
            let gallery = row.get(0);
            let position = feed::latest_position(&client).await?;
            Ok(Self {
                gallery,
                tombstone_key: tombstones::key_of(&client, gallery).await?,
                position,
                groups: groups::load(&feed::snapshot(&mut client).await?).await?,
            })
        });
        read.map_err(failure)
    }
}

/// Locks the database for a command, on a connection that holds the lock.
async fn lock_alone(database: &Database, scope: &CancelScope) -> Result<Object, DatabaseError> {
    let lock = database.client().await?;
    let begun = Instant::now();
    loop {
        let row = lock
            .query_one("SELECT pg_try_advisory_lock($1)", &[&WRITER_LOCK])
            .await?;
        if row.get(0) {
            return Ok(lock);
        }
        if scope.is_expired() && (scope.is_cancelled() || begun.elapsed() > MIN_WAIT) {
            return Err(DatabaseError::InUse);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
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
    match error {
        DatabaseError::IdTaken => GalleryError::IdTaken,
        error => GalleryError::Database(database_failure(error)),
    }
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
        self.load_with(None)
    }

    fn load_for(
        &self,
        key: Sha256Digest,
        dimension: usize,
        _cores: &Cores,
    ) -> Result<GalleryContents, GalleryError> {
        self.load_with(Some(StoredTemplates { key, dimension }))
    }

    fn kept_templates(&self, _key: Sha256Digest) -> KeptTemplates {
        self.no_templates()
    }

    fn keep_templates(&self, key: Sha256Digest, templates: &KeptTemplates) {
        self.write_templates(key, templates);
    }

    fn ids(&self) -> Result<(BTreeSet<PersonId>, Vec<Problem>), GalleryError> {
        Ok((self.read_ids()?, Vec::new()))
    }

    fn read(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, GalleryError> {
        self.read_person(id)
    }

    /// Finds changes of other nodes, and those of this one that failed at the commit although it took
    /// effect. Files that others write into the folder do not count.
    fn rescan(&self) -> Result<StoreChanges, GalleryError> {
        self.send_unsent_lines();
        self.touch_template_keys();
        self.find_changes()
    }

    fn follow(&self, id: &PersonId, samples: Option<&[Sample]>) -> Result<(), GalleryError> {
        self.follow_file(id, samples)
    }

    fn acknowledge_rescan(&self) {
        self.acknowledge_found();
    }

    fn acknowledge(&self, number: ChangeNumber) {
        self.lock_own().apply(number.0);
    }

    fn wait_for_changes(&self, period: Duration) {
        self.fleet.wait_for_changes(period);
    }

    fn lease(&self) -> Option<Lease> {
        self.fleet.membership().lease()
    }

    fn stale_age(&self) -> Option<Duration> {
        self.fleet.stale_age()
    }

    fn fleet_status(&self) -> Option<FleetStatus> {
        let node = self.node.as_ref()?;
        Some(self.fleet.status(node.unsent.bytes()))
    }

    fn join(&self, scope: &CancelScope) -> Result<(), GalleryError> {
        self.renewing.get_or_init(|| self.fleet.start());
        while self.lease().is_none() {
            if let Some(reason) = self.fleet.take_refusal() {
                return Err(failure(reason));
            }
            if scope.is_expired() {
                return Err(failure(DatabaseError::NotJoined));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn leave(&self) {
        // The others wait for this node's lease to end otherwise.
        if let Err(error) = self.database.wait(self.fleet.leave()) {
            tracing::warn!("cannot remove the lease of this node: {error}");
        }
    }

    fn wait_applied(&self, change: &SharedChange, deadline: Instant) -> Result<(), PendingChange> {
        self.fleet.wait_applied(change, deadline)
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

    fn tombstones(&self) -> io::Result<Tombstones> {
        self.read_tombstones().map_err(io::Error::other)
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
        self.read_record()
    }

    fn write_revisions(&self, write: &RevisionsWrite<'_>) -> Result<SharedChange, RevisionsError> {
        self.write_record(write)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn revisions_change(&self) -> SharedChange {
        self.record_change()
    }

    fn read_component(&self, digest: Sha256Digest) -> io::Result<Option<Vec<u8>>> {
        self.read_component_row(digest)
    }

    fn keep_component(&self, digest: Sha256Digest, bytes: &[u8]) -> io::Result<()> {
        self.keep_component_row(digest, bytes)
    }

    fn report_revisions(&self, revisions: BTreeMap<Sha256Digest, Result<(), String>>) {
        self.fleet.report_revisions(revisions_text(&revisions));
    }

    fn report_health(&self, health: NodeHealth, is_urgent: bool) {
        self.fleet.report_health(health, is_urgent);
    }

    fn others_health(&self) -> Vec<NodeHealth> {
        self.fleet.others_health()
    }

    fn nodes(&self) -> Result<Vec<NodeRevisions>, GalleryError> {
        self.read_nodes()
    }

    fn append_audit(&self, lines: &[u8]) -> io::Result<AuditAppend<'_>> {
        let number = ChangeNumber(self.latest.load(Ordering::Relaxed));
        Ok(self.append_lines(number, lines))
    }

    fn reopen_audit(&self) -> io::Result<()> {
        // The file of lines that wait is not rotated.
        Ok(())
    }

    fn remove_audit_before(&self, cutoff: Timestamp) -> io::Result<u64> {
        self.remove_lines(cutoff).map_err(io::Error::other)
    }

    fn audit_keys(&self) -> io::Result<Option<Vec<AuditKey>>> {
        self.read_keys().map(Some).map_err(io::Error::other)
    }

    fn add_audit_key(&self, key: &AuditKey, newest: Option<Timestamp>) -> io::Result<()> {
        self.add_key(key, newest).map_err(io::Error::other)
    }

    fn log_name(&self, id: &PersonId) -> Option<String> {
        let key = self.lock_known().key_of(id);
        Some(key.map_or_else(|| "a person".to_owned(), |key| format!("person {key}")))
    }

    fn restore_audit_keys(&self, keys: &[AuditKey]) -> io::Result<u64> {
        self.restore_keys(keys).map_err(io::Error::other)
    }

    fn remove_audit_keys(&self, made: &[Timestamp]) -> io::Result<()> {
        self.remove_keys(made).map_err(io::Error::other)
    }

    fn deleted_since(&self, id: &PersonId, origin: &ArchiveOrigin) -> Option<DeletionReason> {
        self.deletion_since(id, origin)
    }
}
