//! Store in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::{ContractId, PersonId};
use rostro_common::sample::Sample;

use crate::groups::{GroupId, GroupIndex, GroupWrite, Groups, GroupsError};
use crate::ledger::{
    ArchiveNumber, ArchiveOrigin, DeletionReason, ImportWatch, Ledger, Tombstones,
};
use crate::templates::no_templates;
use crate::{
    AuditAppend, BatchOutcome, BatchWrite, CsvGallery, Deletion, Durability, GalleryContents,
    GalleryError, GroupChange, KeptTemplates, PersonSamples, PersonWrite, Problem, RevisionsError,
    RevisionsWrite, SampleLocation, SharedChange, StateFiles, Store, StoreChanges, StoreError,
};

/// Marker in a folder of files that follow a database, see `rostro-database`.
pub const DATABASE_MARKER: &str = ".database";

/// Store in a folder: CSV files, groups and the ledger.
#[derive(Debug)]
pub struct FolderStore {
    people: CsvGallery,
    groups: Groups,
    ledger: Arc<Ledger>,
    /// None without a state folder, as in a trial.
    state: Option<StateFiles>,
}

impl FolderStore {
    /// Locks a folder for this process, and opens it for writing. If another process has the lock,
    /// waits for it until `scope` ends.
    ///
    /// # Errors
    ///
    /// If another process has the lock, or the folder cannot be used.
    pub fn open_locked(folder: &Path, scope: &CancelScope) -> Result<Self, StoreError> {
        let people = CsvGallery::open_locked(folder, scope)?;
        if folder.join(DATABASE_MARKER).exists() {
            return Err(GalleryError::OfDatabase {
                folder: folder.to_owned(),
            }
            .into());
        }
        Ok(Self {
            people,
            groups: Groups::open(folder)?,
            ledger: Arc::new(Ledger::open(folder)),
            state: None,
        })
    }

    /// Opens a folder that another process may be writing. Deletions leave no tombstones.
    ///
    /// # Errors
    ///
    /// If the groups cannot be read.
    pub fn open_unlocked(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            people: CsvGallery::open_unlocked(folder),
            groups: Groups::open_unlocked(folder)?,
            ledger: Arc::new(Ledger::none()),
            state: None,
        })
    }

    /// Adds the files of a state folder.
    #[must_use]
    pub fn with_state(self, state: StateFiles) -> Self {
        Self {
            state: Some(state),
            ..self
        }
    }

    fn state(&self) -> io::Result<&StateFiles> {
        self.state.as_ref().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                "the store was opened without a state folder",
            )
        })
    }

    /// Removes the kept templates before a person's samples are replaced or deleted.
    fn remove_templates(&self) -> Result<(), GalleryError> {
        match &self.state {
            Some(state) => state.remove_templates(),
            None => Ok(()),
        }
    }

    /// Returns the CSV files of the people.
    pub fn files(&self) -> &CsvGallery {
        &self.people
    }

    fn number_change(&self, change: GroupWrite) -> GroupChange {
        GroupChange {
            number: change.changed.then(|| self.ledger.advance()),
            durable: change.durable,
        }
    }

    /// Removes a person from every group.
    fn remove_from_groups(&self, id: &PersonId) -> Result<Durability, GroupsError> {
        match self.groups.remove_everywhere(id) {
            Ok(true) => Ok(Durability::Synced),
            Ok(false) => Ok(Durability::Unsupported),
            // The person is no longer in the groups, so that the deletion continues.
            Err(GroupsError::Unsynced { folder, cause }) => {
                Ok(Durability::Failed(GalleryError::Unsynced { folder, cause }))
            }
            Err(error) => Err(error),
        }
    }
}

impl Store for FolderStore {
    fn adopt_legacy(&self, contract: &ContractId, dimension: Option<usize>) {
        self.people.adopt_legacy(contract, dimension);
    }

    fn load(&self, cores: &Cores) -> Result<GalleryContents, GalleryError> {
        self.people.load(cores)
    }

    fn kept_templates(&self, key: Sha256Digest) -> KeptTemplates {
        match &self.state {
            Some(state) => state.kept_templates(key),
            None => no_templates(),
        }
    }

    fn keep_templates(&self, key: Sha256Digest, templates: &KeptTemplates) {
        if let Some(state) = &self.state {
            state.keep_templates(key, templates);
        }
    }

    fn ids(&self) -> Result<(BTreeSet<PersonId>, Vec<Problem>), GalleryError> {
        self.people.ids()
    }

    fn read(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, GalleryError> {
        self.people.read(id)
    }

    fn rescan(&self) -> Result<StoreChanges, GalleryError> {
        let groups = self.groups.rescan();
        let found = self.people.rescan()?;
        for id in &found.people {
            self.ledger.record_write(id);
        }
        // A failure is only logged, because returning it would lose the changes that were found.
        if !found.people.is_empty()
            && let Err(error) = self.remove_templates()
        {
            tracing::warn!("{error}");
        }
        // Rescans are frequent, and most find nothing.
        let number = match found.people.is_empty() {
            true => self.ledger.latest(),
            false => self.ledger.advance(),
        };
        Ok(StoreChanges {
            number,
            people: found.people,
            deleted: BTreeSet::new(),
            problems: found.problems,
            groups,
            revisions: false,
        })
    }

    fn has_unseen_files(&self, id: &PersonId) -> bool {
        self.people.has_unseen(id)
    }

    fn left_alone(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = self.people.left_alone();
        let groups = self.groups.left_alone();
        if groups > 0 {
            counts.insert("group", groups);
        }
        counts
    }

    fn quarantine(&self, problem: Problem) -> Problem {
        self.people.quarantine(problem)
    }

    fn replace(&self, id: &PersonId, samples: &[Sample]) -> Result<PersonWrite, GalleryError> {
        self.remove_templates()?;
        self.ledger.record_write(id);
        let (path, durability) = self.people.replace(id, samples)?;
        Ok(PersonWrite {
            number: self.ledger.advance(),
            path,
            durability,
        })
    }

    fn put(
        &self,
        id: &PersonId,
        samples: &[Sample],
        location: SampleLocation,
    ) -> Result<PersonWrite, GalleryError> {
        self.ledger.record_write(id);
        let (path, durability) = self.people.put(id, samples, location)?;
        Ok(PersonWrite {
            number: self.ledger.advance(),
            path,
            durability,
        })
    }

    fn replace_all(&self, people: &[PersonSamples<'_>]) -> BatchWrite {
        if let Err(failure) = self.remove_templates() {
            return BatchWrite {
                outcomes: vec![BatchOutcome::Skipped; people.len()],
                durability: Durability::Synced,
                failure: Some(failure),
            };
        }
        self.people.replace_all(people, || self.ledger.advance())
    }

    fn delete_person(&self, id: &PersonId) -> Result<Deletion, StoreError> {
        self.remove_templates()?;
        // First, so that a request that repeats a failed deletion still finds the person.
        let groups = self.remove_from_groups(id)?;
        let running = self.ledger.begin_deletion(id);
        let removed = self.people.remove(id)?;
        Ok(Deletion {
            number: running.number,
            was_there: removed.was_there,
            left_alone: removed.left_alone,
            durability: removed.durability.and(groups),
            has_tombstone: running.has_tombstone,
            shared: SharedChange::default(),
        })
    }

    fn groups(&self) -> &GroupIndex {
        self.groups.index()
    }

    fn add_to_group(&self, group: &GroupId, ids: &[PersonId]) -> Result<GroupChange, GroupsError> {
        let change = self.groups.add_all(group, ids)?;
        Ok(self.number_change(change))
    }

    fn remove_from_group(
        &self,
        group: &GroupId,
        id: &PersonId,
    ) -> Result<Option<GroupChange>, GroupsError> {
        let change = self.groups.remove(group, id)?;
        Ok(change.map(|change| self.number_change(change)))
    }

    fn delete_group(&self, group: &GroupId) -> Result<GroupChange, GroupsError> {
        Ok(self.number_change(self.groups.delete(group)?))
    }

    fn archive_number(&self) -> Option<ArchiveNumber> {
        self.ledger.archive_number()
    }

    fn tombstones(&self) -> io::Result<Tombstones> {
        Ok(self.ledger.tombstones())
    }

    fn merge_tombstones(&self, others: &Tombstones) -> io::Result<Vec<&'static str>> {
        self.ledger.merge(others)
    }

    fn check_origin(
        &self,
        origin: ArchiveOrigin,
        adopts: bool,
    ) -> (ArchiveOrigin, Result<(), &'static str>) {
        self.ledger.check_origin(origin, adopts)
    }

    fn watch_import(&self) -> ImportWatch {
        self.ledger.watch_import()
    }

    fn is_written_during_import(&self, id: &PersonId) -> bool {
        self.ledger.is_written_during_import(id)
    }

    fn read_revisions(&self) -> io::Result<Option<Vec<u8>>> {
        self.state()?.read_revisions()
    }

    fn write_revisions(&self, write: &RevisionsWrite<'_>) -> Result<SharedChange, RevisionsError> {
        self.state()?.write_revisions(write.record)?;
        self.ledger.advance_if_open();
        Ok(SharedChange::default())
    }

    fn append_audit(&self, lines: &[u8]) -> io::Result<AuditAppend<'_>> {
        let file = self.state()?.append_audit(lines)?;
        let number = self.ledger.advance_if_open();
        Ok(AuditAppend::new(number, move || file.sync_data()))
    }

    fn reopen_audit(&self) -> io::Result<()> {
        self.state()?.reopen_audit()
    }

    fn remove_audit_before(&self, cutoff: Timestamp) -> io::Result<u64> {
        self.state()?.remove_audit_before(cutoff)
    }

    fn deleted_since(&self, id: &PersonId, origin: &ArchiveOrigin) -> Option<DeletionReason> {
        self.ledger.deleted_since(id, origin)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn store(folder: &Path) -> FolderStore {
        FolderStore::open_locked(folder, &Instant::now().into()).unwrap()
    }

    fn id(text: &str) -> PersonId {
        text.parse().unwrap()
    }

    fn sample() -> Sample {
        Sample {
            embedding: vec![1.0, 0.5],
            raw: None,
            contract: None,
            det_score: None,
            enrolment: None,
        }
    }

    #[test]
    fn numbers_rise_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let first = store(folder.path());
        let mut numbers = vec![
            first.replace(&id("alice"), &[sample()]).unwrap().number,
            first
                .add_to_group(&"maths".parse().unwrap(), &[id("alice")])
                .unwrap()
                .number
                .unwrap(),
            first.delete_person(&id("alice")).unwrap().number,
        ];
        drop(first);
        let second = store(folder.path());
        numbers.push(second.replace(&id("bob"), &[sample()]).unwrap().number);
        assert!(
            numbers
                .iter()
                .zip(numbers.iter().skip(1))
                .all(|(a, b)| a < b),
            "{numbers:?}"
        );
    }

    /// Kept templates are gone before a person's samples are, and stay when only others are added.
    #[test]
    fn replaced_samples_remove_templates() {
        let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = store(folder.path()).with_state(StateFiles::open(state.path()).unwrap());
        let key = Sha256Digest::of(b"key");
        let keep = || {
            let mut templates = no_templates();
            templates.insert(Sha256Digest::of(b"samples"), vec![vec![1.0]]);
            store.keep_templates(key, &templates);
            assert_eq!(store.kept_templates(key), templates);
        };
        let is_kept = || store.kept_templates(key) != no_templates();
        keep();
        store
            .put(&id("alice"), &[sample()], SampleLocation::Own)
            .unwrap();
        assert!(is_kept());
        store.replace(&id("alice"), &[sample()]).unwrap();
        assert!(!is_kept());
        keep();
        store.replace_all(&[(&id("bob"), &[sample()])]);
        assert!(!is_kept());
        keep();
        store.delete_person(&id("alice")).unwrap();
        assert!(!is_kept());
    }

    /// Nothing is deleted if the kept templates cannot be removed.
    #[test]
    fn unremovable_templates_refuse_deletion() {
        let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = store(folder.path()).with_state(StateFiles::open(state.path()).unwrap());
        store.replace(&id("alice"), &[sample()]).unwrap();
        let store = FolderStore {
            state: Some(StateFiles::open(state.path()).unwrap()),
            ..store
        };
        // A folder cannot be removed as a file.
        std::fs::create_dir(state.path().join("templates")).unwrap();
        let error = store.delete_person(&id("alice")).unwrap_err().to_string();
        assert!(
            error.contains("cannot remove the kept templates"),
            "{error}"
        );
        assert!(store.read(&id("alice")).unwrap().is_some());
        std::fs::remove_dir(state.path().join("templates")).unwrap();
        assert!(store.delete_person(&id("alice")).unwrap().was_there);
    }

    #[test]
    fn rescan_without_changes_takes_no_number() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let number = store.rescan().unwrap().number;
        assert_eq!(store.rescan().unwrap().number, number);
        assert!(!folder.path().join(".ledger").exists());
    }

    #[test]
    fn archive_number_excludes_running_deletion() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        store.replace(&id("alice"), &[sample()]).unwrap();
        let number = || store.archive_number().unwrap().number.unwrap();
        let before = number();
        let running = store.ledger.begin_deletion(&id("alice"));
        store.replace(&id("bob"), &[sample()]).unwrap();
        assert_eq!(number(), before, "alice may still be read");
        let deletion = running.number;
        drop(running);
        assert!(number() > deletion.0);
    }

    /// A write does not wait for the disk writes of another person.
    #[test]
    fn writes_of_people_are_independent() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        // A write of this person hangs on the disk.
        let _writing = store.people.lock_person(&id("alice"));
        std::thread::scope(|threads| {
            let write = threads.spawn(|| store.replace(&id("bob"), &[sample()]).is_ok());
            assert!(write.join().unwrap());
        });
    }

    #[test]
    fn enrolment_does_not_wait_for_tombstone() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        store.replace(&id("alice"), &[sample()]).unwrap();
        let _deletion = store.ledger.hold_lock();
        std::thread::scope(|threads| {
            let write = threads.spawn(|| store.replace(&id("bob"), &[sample()]).is_ok());
            assert!(write.join().unwrap());
        });
    }
}
