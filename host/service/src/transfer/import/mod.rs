//! Import of an archive.
//!
//! People are stored in batches. No lock is held for long, because templates are made before
//! the locks of a batch are taken. A person that another request changes is stored alone.

mod entries;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use rostro_common::cancel::CancelScope;
use rostro_common::ids::{CaseKeys, ContractId, PersonId};
use rostro_gallery::groups::{GroupId, GroupsError};
use rostro_gallery::ledger::{ArchiveOrigin, DeletionReason, Tombstones};
use rostro_gallery::{BatchOutcome, MAX_PERSON_BYTES};

use super::contents::Contents;
use super::{ArchiveError, ArchiveFile, ImportPermit, ImportReport, origin};
use crate::audit::{Action, ActionOutcome};
use crate::deployment::{Actor, ReadyRevision};
use crate::people::{PeopleError, Replacement};
use crate::{Service, ServiceError};

/// Number of people that are stored with one wait for the disk.
const BATCH_SIZE: usize = 256;

/// Time limit of an import, and its extension for each GiB of the archive.
const TIME_LIMIT: Duration = Duration::from_secs(600);
const TIME_LIMIT_PER_GIB: Duration = Duration::from_secs(1800);

/// Options of an import.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportOptions {
    /// Restores people that were deleted after the archive was made.
    pub restore: bool,
    /// Removes people that the archive lacks.
    pub replace: bool,
    /// Changes nothing.
    pub dry_run: bool,
}

/// Running import.
struct Import<'s> {
    service: &'s Service,
    actor: &'s Actor,
    contents: Contents<ArchiveFile>,
    options: ImportOptions,
    /// Contents of `gallery.json`; none if it is missing, as in older archives, or unusable.
    origin: Option<ArchiveOrigin>,
    tombstones: Tombstones,
    people: BTreeMap<PersonId, Vec<(usize, ContractId)>>,
    groups: Vec<(GroupId, usize)>,
    deadline: Instant,
    /// Scope that ends at the deadline, or when the process stops.
    scope: CancelScope,
    report: ImportReport,
    /// Ids of the people in `report.deleted`.
    deleted: HashSet<PersonId>,
}

/// Person of the archive, ready to be stored.
struct ImportedPerson {
    person: Replacement,
    origin: ArchiveOrigin,
}

impl Service {
    /// Stores every person of an archive in place of the stored samples, and adds members to
    /// groups. Other people stay, unless [`ImportOptions::replace`] is set. Unusable entries, and
    /// people that were deleted after the archive was made, are omitted and named.
    ///
    /// # Errors
    ///
    /// If the file is not an archive, or the gallery cannot be written. People before the failure
    /// are stored then.
    pub fn import(
        &self,
        archive: ArchiveFile,
        options: ImportOptions,
        actor: &Actor,
        _permit: &ImportPermit,
    ) -> Result<ImportReport, ArchiveError> {
        // A dry run changes nothing, and is not logged.
        let log_outcome = |ending| {
            if !options.dry_run {
                self.deployment
                    .record_gallery(actor, Action::Import, ending)
            }
        };
        log_outcome(ActionOutcome::Begun);
        let report = Import::open(self, archive, options, actor).and_then(Import::run);
        log_outcome(if report.is_ok() {
            ActionOutcome::Done
        } else {
            ActionOutcome::Failed
        });
        report
    }
}

impl<'s> Import<'s> {
    /// Fails if the import reached its deadline, or the process is stopping.
    fn check_scope(&self) -> Result<(), ArchiveError> {
        if self.scope.is_cancelled() {
            return Err(ArchiveError::Stopping);
        }
        if self.scope.is_expired() {
            Err(ArchiveError::Late)
        } else {
            Ok(())
        }
    }

    fn run(mut self) -> Result<ImportReport, ArchiveError> {
        let store = self.service.people.store();
        if self.options.replace && self.origin.is_none_or(|origin| origin.number.is_none()) {
            return Err(ArchiveError::NotNumbered);
        }
        if let Some(origin) = self.origin {
            let (origin, adopted) = store.check_origin(origin, !self.options.dry_run);
            self.origin = Some(origin);
            if let Err(reason) = adopted {
                self.report.omit(origin::NAME, reason.to_owned());
            }
        }
        if self.options.replace || self.options.dry_run {
            self.check_archive()?;
        }
        let missing_people = if self.options.replace {
            self.missing_people()?
        } else {
            Vec::new()
        };
        if self.options.dry_run {
            missing_people
                .iter()
                .for_each(|id| self.report.removed.add(id));
            return Ok(self.report);
        }
        for reason in store
            .merge_tombstones(&self.tombstones)
            .map_err(ArchiveError::Ledger)?
        {
            self.report.omit(super::TOMBSTONE_FOLDER, reason.to_owned());
        }
        self.store_people()?;
        self.store_groups()?;
        for id in missing_people {
            self.check_scope()?;
            let lock = self
                .service
                .people
                .locks()
                .wait(&id, self.deadline)
                .map_err(ServiceError::from)?;
            // Checked under the lock: an enrolment comes before this check, or after the removal.
            if !store.is_written_during_import(&id)
                && self.service.delete(lock, self.actor)?.was_there
            {
                self.report.removed.add(&id);
            }
        }
        Ok(self.report)
    }

    /// Returns the people that the archive lacks, except those enrolled since the import began,
    /// which is before the upload.
    fn missing_people(&self) -> Result<Vec<PersonId>, ServiceError> {
        let people = self
            .service
            .people_after(None, usize::MAX)?
            .into_iter()
            .map(|(id, _)| id);
        let people = people
            .filter(|id| {
                !self.people.contains_key(id)
                    && !self.service.people.store().is_written_during_import(id)
            })
            .collect();
        Ok(people)
    }

    /// Reads the whole archive without changing anything. Counts the changes, or fails if the
    /// archive may not remove people.
    fn check_archive(&mut self) -> Result<(), ArchiveError> {
        let active = self.service.deployment.active();
        let people = std::mem::take(&mut self.people);
        for (id, entries) in &people {
            self.check_scope()?;
            if let Some(prepared) = self.prepare(&active, id, entries)?
                && self.can_store(&prepared)
            {
                self.report.people += 1;
            }
        }
        self.people = people;
        for (group, index) in self.groups.clone() {
            let members = self.members(&group, index, &|import, id| {
                import.people.contains_key(id) || import.is_stored(id)
            });
            self.report.groups += usize::from(!members.is_empty());
        }
        let unusable = self.report.left_out_count - self.report.deleted.count;
        if self.options.replace && unusable > 0 {
            return Err(ArchiveError::Unusable(Box::new(std::mem::take(
                &mut self.report,
            ))));
        }
        if !self.options.dry_run {
            // The import itself counts again.
            self.report = ImportReport::default();
            self.deleted.clear();
        }
        Ok(())
    }

    fn store_people(&mut self) -> Result<(), ArchiveError> {
        let mut people = std::mem::take(&mut self.people).into_iter();
        loop {
            let active = self.service.deployment.active();
            let mut batch = Vec::new();
            let mut is_last = true;
            for (id, entries) in people.by_ref() {
                self.check_scope()?;
                batch.extend(self.prepare(&active, &id, &entries)?);
                if batch.len() >= BATCH_SIZE {
                    is_last = false;
                    break;
                }
            }
            self.store_batch(batch, &active)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Stores prepared people. The free locks are held together; people locked by other requests
    /// are stored alone.
    fn store_batch(
        &mut self,
        batch: Vec<ImportedPerson>,
        active: &ReadyRevision,
    ) -> Result<(), ArchiveError> {
        let (mut ready, mut locks, mut busy) = (Vec::new(), Vec::new(), Vec::new());
        let mut ids = CaseKeys::default();
        for prepared in batch {
            // Stored after the other one, so that the error reports the id as taken.
            if ids.is_taken(&prepared.person.id) {
                busy.push(prepared);
                continue;
            }
            ids.insert(&prepared.person.id);
            match self.service.people.locks().try_take(&prepared.person.id) {
                Some(lock) => {
                    // Checked under the lock: a deletion comes before this check, or after the
                    // write.
                    if self.can_store(&prepared) {
                        locks.push(lock);
                        ready.push(prepared.person);
                    }
                }
                None => busy.push(prepared),
            }
        }
        self.write(&ready, active)?;
        drop(locks);
        for prepared in busy {
            let _lock = self
                .service
                .people
                .locks()
                .wait(&prepared.person.id, self.deadline)
                .map_err(ServiceError::from)?;
            if self.can_store(&prepared) {
                self.write(&[prepared.person], active)?;
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        people: &[Replacement],
        active: &ReadyRevision,
    ) -> Result<(), ArchiveError> {
        if people.is_empty() {
            return Ok(());
        }
        let written = self.service.people.replace_all(people, &active.view);
        let stored = people
            .iter()
            .zip(&written.outcomes)
            .filter(|(_, outcome)| matches!(outcome, BatchOutcome::Stored(_)))
            .map(|(person, _)| &person.id);
        self.service.deployment.record_people(
            self.actor,
            Action::ImportPerson,
            ActionOutcome::Done,
            stored,
        );
        for (person, outcome) in people.iter().zip(written.outcomes) {
            match outcome {
                BatchOutcome::Stored(_) => self.report.people += 1,
                BatchOutcome::TooLarge(size) => {
                    let reason = format!(
                        "the samples make a file of {size} bytes; at most {MAX_PERSON_BYTES} are read again"
                    );
                    self.report.omit(&entry_name(person), reason);
                }
                BatchOutcome::IdTaken => {
                    let reason = PeopleError::IdTaken.to_string();
                    self.report.omit(&entry_name(person), reason);
                }
                BatchOutcome::Skipped => {}
            }
        }
        let durable = written.durability.into_result();
        if let Some(failure) = written.failure {
            return Err(ServiceError::from(failure).into());
        }
        self.report.durable &= durable
            .map_err(PeopleError::from)
            .map_err(ServiceError::from)?;
        Ok(())
    }

    /// Returns true if a person may be stored, and otherwise records the reason.
    fn can_store(&mut self, ImportedPerson { person, origin }: &ImportedPerson) -> bool {
        if let Some(deleted) = self.deleted_since(&person.id, origin) {
            if self.deleted.insert(person.id.clone()) {
                self.report.deleted.add(&person.id);
                let reason = match deleted {
                    DeletionReason::SinceArchive => {
                        "the person was deleted after the archive was made; pass deleted=restore to restore them"
                    }
                    DeletionReason::SinceImport => {
                        "the person was deleted while the import was running"
                    }
                };
                self.report.omit(&entry_name(person), reason.to_owned());
            }
            return false;
        }
        // An id that differs from a stored one only in case.
        let checked = self.service.people.check_new(&person.id);
        if let Err(error) = &checked {
            self.report.omit(&entry_name(person), error.to_string());
        }
        checked.is_ok()
    }

    fn deleted_since(&self, id: &PersonId, origin: &ArchiveOrigin) -> Option<DeletionReason> {
        match self.service.people.store().deleted_since(id, origin) {
            // A deletion during the import wins in any case.
            Some(DeletionReason::SinceImport) => Some(DeletionReason::SinceImport),
            _ if self.options.restore => None,
            Some(DeletionReason::SinceArchive) => Some(DeletionReason::SinceArchive),
            None => self
                .tombstones
                .is_deleted_since(id, origin)
                .then_some(DeletionReason::SinceArchive),
        }
    }

    fn is_stored(&self, id: &PersonId) -> bool {
        self.service.deployment.active().view.knows(id).is_some()
    }

    fn store_groups(&mut self) -> Result<(), ArchiveError> {
        for (group, index) in std::mem::take(&mut self.groups) {
            self.check_scope()?;
            let members = self.members(&group, index, &Self::is_stored);
            if members.is_empty() {
                continue;
            }
            let store = self.service.people.store();
            match store.add_to_group(&group, &members) {
                Ok(_) => {}
                Err(
                    error @ (GroupsError::TooMany
                    | GroupsError::TooLarge
                    | GroupsError::Damaged
                    | GroupsError::NameTaken),
                ) => {
                    self.report
                        .omit(&format!("groups/{group}"), error.to_string());
                    continue;
                }
                Err(error) => return Err(group_error(error)),
            }
            self.service.deployment.record_people(
                self.actor,
                Action::AddToGroup,
                ActionOutcome::Done,
                &members,
            );
            // A member who was deleted meanwhile must not stay.
            for id in members.iter().filter(|id| !self.is_stored(id)) {
                store.remove_from_group(&group, id).map_err(group_error)?;
            }
            self.report.groups += 1;
        }
        Ok(())
    }
}

fn group_error(error: GroupsError) -> ArchiveError {
    ServiceError::from(PeopleError::from(error)).into()
}

/// Returns the name of a person's first entry.
fn entry_name(person: &Replacement) -> String {
    let contract = person
        .contracts
        .first()
        .map(|(contract, _)| contract.to_string())
        .unwrap_or_default();
    format!("people/{contract}/{}.csv", person.id)
}
