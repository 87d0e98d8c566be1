//! Taking in the archive of a gallery.
//!
//! People are stored in batches. Nothing is held for long: templates are made before the turns of a
//! batch's people are taken, and a person whom another request changes is waited for alone.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use rostro_common::cancel::CancelScope;
use rostro_common::ids::{CaseKeys, ContractId, PersonId};
use rostro_common::sample::Sample;
use rostro_gallery::groups::{self, GroupId, GroupsError};
use rostro_gallery::ledger::{ArchiveOrigin, DeletionReason, Tombstones};
use rostro_gallery::{BatchOutcome, LARGEST_PERSON, parse_samples};

use super::contents::Contents;
use super::{ArchiveEntry, ArchiveError, ArchiveFile, ImportPermit, Imported, entry, origin};
use crate::audit::{Action, ActionOutcome};
use crate::deployment::{Actor, ReadyRevision};
use crate::enroll::MOST_PHOTOS;
use crate::people::{PeopleError, Replacement};
use crate::{Service, ServiceError};

/// People who are stored with one wait for the disk.
const BATCH: usize = 256;

/// How long an import may take, and how much longer for each GiB of the archive.
const IMPORT: Duration = Duration::from_secs(600);
const IMPORT_OF_GIB: Duration = Duration::from_secs(1800);

/// What is asked of an import.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportOptions {
    /// Takes in people who were deleted after the archive was made.
    pub restore: bool,
    /// Removes people whom the archive lacks.
    pub replace: bool,
    /// Changes nothing.
    pub dry_run: bool,
}

/// An import under way.
struct Import<'s> {
    service: &'s Service,
    actor: &'s Actor,
    contents: Contents<ArchiveFile>,
    options: ImportOptions,
    /// What `gallery.json` says; nothing where there is none that can be used, as in older
    /// archives.
    made: Option<ArchiveOrigin>,
    tombstones: Tombstones,
    people: BTreeMap<PersonId, Vec<(usize, ContractId)>>,
    groups: Vec<(GroupId, usize)>,
    deadline: Instant,
    /// Ends at the deadline, or when the process stops.
    scope: CancelScope,
    imported: Imported,
    /// Who is in `imported.deleted`.
    deleted: HashSet<PersonId>,
}

/// A person of the archive, ready to be stored.
struct ImportedPerson {
    person: Replacement,
    made: ArchiveOrigin,
}

impl Service {
    /// Stores everybody of an archive, each in place of what was stored under that id, and adds to
    /// groups. Who is not in it stays, unless people are to be replaced. What cannot be used is
    /// left out and named, and so is who was deleted after the archive was made.
    ///
    /// # Errors
    ///
    /// If it is no archive, or the gallery cannot be written; those before the failure are stored
    /// then.
    pub fn import(
        &self,
        archive: ArchiveFile,
        options: ImportOptions,
        actor: &Actor,
        _turn: &ImportPermit,
    ) -> Result<Imported, ArchiveError> {
        // A dry run changes nothing, and is not recorded.
        let note = |ending| {
            if !options.dry_run {
                self.deployment.note_gallery(actor, Action::Import, ending)
            }
        };
        note(ActionOutcome::Begun);
        let imported = Import::open(self, archive, options, actor).and_then(Import::run);
        note(if imported.is_ok() {
            ActionOutcome::Done
        } else {
            ActionOutcome::Failed
        });
        imported
    }
}

impl<'s> Import<'s> {
    /// Finds out what is in the archive, and where it is from.
    fn open(
        service: &'s Service,
        archive: ArchiveFile,
        options: ImportOptions,
        actor: &'s Actor,
    ) -> Result<Self, ArchiveError> {
        let gib = u32::try_from(archive.length() >> 30).unwrap_or(u32::MAX);
        let deadline = Instant::now() + IMPORT + IMPORT_OF_GIB.saturating_mul(gib);
        let (mut contents, mut imported) = (Contents::open(archive)?, Imported::default());
        let (mut people, mut groups) = (
            BTreeMap::<PersonId, Vec<(usize, ContractId)>>::new(),
            Vec::new(),
        );
        let (mut made, mut tombstones) = (None, Tombstones::default());
        for index in 0..contents.len() {
            let Some(name) = contents.name(index) else {
                continue;
            };
            let taken = entry(&name).and_then(|entry| match entry {
                ArchiveEntry::Person(id, contract) => {
                    let entries = people.entry(id).or_default();
                    if entries.iter().any(|(_, other)| *other == contract) {
                        return Err("the person is in the archive twice".to_owned());
                    }
                    entries.push((index, contract));
                    Ok(())
                }
                ArchiveEntry::Group(group) => {
                    groups.push((group, index));
                    Ok(())
                }
                ArchiveEntry::Origin => contents
                    .read(index, origin::LARGEST)
                    .and_then(|bytes| origin::read(&bytes))
                    .map(|read| made = Some(read)),
                ArchiveEntry::Tombstones(gallery) => contents
                    .read(index, origin::LARGEST_TOMBSTONES)
                    .and_then(|bytes| origin::read_tombstones(bytes, gallery, &mut tombstones)),
                ArchiveEntry::LeftOut => {
                    Err("the export lacks files that could not be read".to_owned())
                }
                ArchiveEntry::Folder => Ok(()),
            });
            if let Err(why) = taken {
                imported.leave_out(&name, why);
            }
        }
        let (scope, deleted) = (service.executor.scope(deadline), HashSet::new());
        Ok(Self {
            service,
            actor,
            contents,
            options,
            made,
            tombstones,
            people,
            groups,
            deadline,
            scope,
            imported,
            deleted,
        })
    }

    /// Fails if the import takes too long, or the process is stopping.
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

    fn run(mut self) -> Result<Imported, ArchiveError> {
        let ledger = self.service.people.ledger();
        if self.options.replace && self.made.is_none_or(|made| made.number.is_none()) {
            return Err(ArchiveError::NotNumbered);
        }
        if let Some(made) = self.made {
            let (made, adopted) = ledger.trusted(made, !self.options.dry_run);
            self.made = Some(made);
            if let Err(why) = adopted {
                self.imported.leave_out(origin::NAME, why.to_owned());
            }
        }
        if self.options.replace || self.options.dry_run {
            self.check()?;
        }
        let lacking = if self.options.replace {
            self.lacking()
        } else {
            Vec::new()
        };
        if self.options.dry_run {
            lacking.iter().for_each(|id| self.imported.removed.add(id));
            return Ok(self.imported);
        }
        for why in ledger
            .merge(&self.tombstones)
            .map_err(ArchiveError::Ledger)?
        {
            self.imported.leave_out(super::TOMBSTONES, why.to_owned());
        }
        self.store_people()?;
        self.store_groups()?;
        for id in lacking {
            self.check_scope()?;
            let lock = self
                .service
                .people
                .locks()
                .wait(&id, self.deadline)
                .map_err(ServiceError::from)?;
            // Asked with the turn: an enrolment comes before this, or after the person is removed.
            if !ledger.is_written_meanwhile(&id)
                && self.service.delete(&lock, self.actor)?.was_there
            {
                self.imported.removed.add(&id);
            }
        }
        Ok(self.imported)
    }

    /// The people whom the archive lacks, without those who were enrolled since the import began,
    /// which is before it was uploaded.
    fn lacking(&self) -> Vec<PersonId> {
        let people = self
            .service
            .people_after(None, usize::MAX)
            .into_iter()
            .map(|(id, _)| id);
        people
            .filter(|id| {
                !self.people.contains_key(id)
                    && !self.service.people.ledger().is_written_meanwhile(id)
            })
            .collect()
    }

    /// Goes through the whole archive without changing anything: counts what would be done, or
    /// fails where nobody may be removed.
    fn check(&mut self) -> Result<(), ArchiveError> {
        let live = self.service.deployment.active();
        let people = std::mem::take(&mut self.people);
        for (id, entries) in &people {
            self.check_scope()?;
            if let Some(prepared) = self.prepare(&live, id, entries)?
                && self.is_welcome(&prepared)
            {
                self.imported.people += 1;
            }
        }
        self.people = people;
        for (group, index) in self.groups.clone() {
            let members = self.members(&group, index, &|import, id| {
                import.people.contains_key(id) || import.is_stored(id)
            });
            self.imported.groups += usize::from(!members.is_empty());
        }
        let unusable = self.imported.left_out_count - self.imported.deleted.count;
        if self.options.replace && unusable > 0 {
            return Err(ArchiveError::Unusable(Box::new(std::mem::take(
                &mut self.imported,
            ))));
        }
        if !self.options.dry_run {
            // What follows counts again.
            self.imported = Imported::default();
            self.deleted.clear();
        }
        Ok(())
    }

    fn store_people(&mut self) -> Result<(), ArchiveError> {
        let mut people = std::mem::take(&mut self.people).into_iter();
        loop {
            let live = self.service.deployment.active();
            let mut batch = Vec::new();
            let mut is_expired = true;
            for (id, entries) in people.by_ref() {
                self.check_scope()?;
                batch.extend(self.prepare(&live, &id, &entries)?);
                if batch.len() >= BATCH {
                    is_expired = false;
                    break;
                }
            }
            self.store_batch(batch, &live)?;
            if is_expired {
                return Ok(());
            }
        }
    }

    /// Stores prepared people. The turns of those whom no other request changes are held together.
    fn store_batch(
        &mut self,
        batch: Vec<ImportedPerson>,
        live: &ReadyRevision,
    ) -> Result<(), ArchiveError> {
        let (mut ready, mut held, mut busy) = (Vec::new(), Vec::new(), Vec::new());
        let mut ids = CaseKeys::default();
        for prepared in batch {
            // Stored alone, after the other is: then it is told that the id is taken.
            if ids.is_taken(&prepared.person.id) {
                busy.push(prepared);
                continue;
            }
            ids.insert(&prepared.person.id);
            match self.service.people.locks().try_take(&prepared.person.id) {
                Some(lock) => {
                    // Asked with the turn: a deletion comes before this, or after the person is
                    // written.
                    if self.is_welcome(&prepared) {
                        held.push(lock);
                        ready.push(prepared.person);
                    }
                }
                None => busy.push(prepared),
            }
        }
        self.write(&ready, live)?;
        drop(held);
        for prepared in busy {
            let _turn = self
                .service
                .people
                .locks()
                .wait(&prepared.person.id, self.deadline)
                .map_err(ServiceError::from)?;
            if self.is_welcome(&prepared) {
                self.write(&[prepared.person], live)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, people: &[Replacement], live: &ReadyRevision) -> Result<(), ArchiveError> {
        if people.is_empty() {
            return Ok(());
        }
        let (outcomes, written) = self.service.people.replace_all(people, &live.view);
        let stored = people
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| **outcome == BatchOutcome::Stored)
            .map(|(person, _)| &person.id);
        self.service.deployment.note_people(
            self.actor,
            Action::ImportPerson,
            ActionOutcome::Done,
            stored,
        );
        for (person, outcome) in people.iter().zip(outcomes) {
            match outcome {
                BatchOutcome::Stored => self.imported.people += 1,
                BatchOutcome::TooLarge(size) => {
                    let why = format!(
                        "the samples make a file of {size} bytes, and at most {LARGEST_PERSON} are read again"
                    );
                    self.imported.leave_out(&name_of(person), why);
                }
                BatchOutcome::Skipped => {}
            }
        }
        written.map_err(ServiceError::from)?;
        self.imported.durable &= self
            .service
            .people
            .is_durable()
            .map_err(ServiceError::from)?;
        Ok(())
    }

    /// Reads a person of the archive; nothing if none of the entries can be used.
    fn prepare(
        &mut self,
        live: &ReadyRevision,
        id: &PersonId,
        entries: &[(usize, ContractId)],
    ) -> Result<Option<ImportedPerson>, ArchiveError> {
        let mut contracts: Vec<(ContractId, Vec<Sample>)> = Vec::new();
        let (mut templates, mut written_at) = (None, i64::MAX);
        for (index, contract) in entries {
            let read = self
                .contents
                .read(*index, LARGEST_PERSON)
                .and_then(|bytes| samples(&bytes, contract, live));
            let made = match read {
                Ok(samples) if live.revision.contract().id == *contract => {
                    match live.view.templates_of(&samples, &self.deadline.into()) {
                        Ok(made) => {
                            templates = made;
                            // Readers of the folder see the active revision's.
                            contracts.insert(0, (contract.clone(), samples));
                            Ok(())
                        }
                        Err(PeopleError::Run(error)) if error.is_transient() => {
                            return Err(ServiceError::from(error).into());
                        }
                        Err(error) => Err(format!("no templates can be made of it: {error}")),
                    }
                }
                Ok(samples) => {
                    contracts.push((contract.clone(), samples));
                    Ok(())
                }
                Err(why) => Err(why),
            };
            if let Err(why) = made {
                self.imported
                    .leave_out(&format!("people/{contract}/{id}.csv"), why);
            }
            if self.made.is_none() {
                written_at = written_at.min(self.contents.written_at(*index));
            }
        }
        if contracts.is_empty() {
            return Ok(None);
        }
        let made = self.made.unwrap_or(ArchiveOrigin {
            gallery: None,
            number: None,
            began: written_at,
        });
        separate(&mut contracts);
        Ok(Some(ImportedPerson {
            person: Replacement {
                id: id.clone(),
                contracts,
                templates,
            },
            made,
        }))
    }

    /// Returns whether a person may be taken in, and records one who may not.
    fn is_welcome(&mut self, ImportedPerson { person, made }: &ImportedPerson) -> bool {
        if let Some(deleted) = self.deleted_since(&person.id, made) {
            if self.deleted.insert(person.id.clone()) {
                self.imported.deleted.add(&person.id);
                let why = match deleted {
                    DeletionReason::SinceArchive => {
                        "the person was deleted after the archive was made; deleted=restore takes them in"
                    }
                    DeletionReason::SinceImport => {
                        "the person was deleted while the import was under way"
                    }
                };
                self.imported.leave_out(&name_of(person), why.to_owned());
            }
            return false;
        }
        // An id that cannot be told from another.
        let taken = self.service.people.check_new(&person.id);
        if let Err(error) = &taken {
            self.imported.leave_out(&name_of(person), error.to_string());
        }
        taken.is_ok()
    }

    fn deleted_since(&self, id: &PersonId, made: &ArchiveOrigin) -> Option<DeletionReason> {
        match self.service.people.ledger().deleted_since(id, made) {
            // What is deleted while the import is under way stays so.
            Some(DeletionReason::SinceImport) => Some(DeletionReason::SinceImport),
            _ if self.options.restore => None,
            Some(DeletionReason::SinceArchive) => Some(DeletionReason::SinceArchive),
            None => self
                .tombstones
                .is_deleted_since(id, made)
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
            let groups = self.service.groups();
            let failed = |error: GroupsError| {
                ArchiveError::from(ServiceError::from(PeopleError::from(error)))
            };
            match groups.add_all(&group, &members) {
                Ok(change) => self
                    .service
                    .people
                    .ledger()
                    .note_changes(u64::from(change.changed)),
                Err(
                    error @ (GroupsError::TooMany
                    | GroupsError::TooLarge
                    | GroupsError::Damaged
                    | GroupsError::NameTaken),
                ) => {
                    self.imported
                        .leave_out(&format!("groups/{group}"), error.to_string());
                    continue;
                }
                Err(error) => return Err(failed(error)),
            }
            self.service.deployment.note_people(
                self.actor,
                Action::AddToGroup,
                ActionOutcome::Done,
                &members,
            );
            // Who was deleted meanwhile must not stay in it.
            for id in members.iter().filter(|id| !self.is_stored(id)) {
                groups.forget(id).map_err(failed)?;
            }
            self.imported.groups += usize::from(!members.is_empty());
        }
        Ok(())
    }

    /// The members that the archive has of a group, of those who are there. A membership from
    /// before a deletion does not come back.
    fn members(
        &mut self,
        group: &GroupId,
        index: usize,
        is_there: &dyn Fn(&Self, &PersonId) -> bool,
    ) -> Vec<PersonId> {
        let name = format!("groups/{group}");
        let read = self.contents.read(index, groups::LARGEST as u64);
        let text = match read
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is no text".to_owned()))
        {
            Ok(text) => text,
            Err(why) => {
                self.imported.leave_out(&name, why);
                return Vec::new();
            }
        };
        let made = self.made.unwrap_or_else(|| ArchiveOrigin {
            gallery: None,
            number: None,
            began: self.contents.written_at(index),
        });
        let mut members = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.parse::<PersonId>() {
                // Told once, with the person.
                Ok(id) if self.deleted_since(&id, &made).is_some() => {}
                Ok(id) if is_there(self, &id) => members.push(id),
                Ok(_) => self
                    .imported
                    .leave_out(&name, "a line is the id of nobody who is stored".to_owned()),
                Err(_) => self.imported.leave_out(&name, "a line is no id".to_owned()),
            }
        }
        members
    }
}

/// Reads samples of one contract.
fn samples(
    bytes: &[u8],
    contract: &ContractId,
    live: &ReadyRevision,
) -> Result<Vec<Sample>, String> {
    let samples = parse_samples(bytes).map_err(|error| error.to_string())?;
    if samples
        .iter()
        .any(|sample| sample.contract.as_ref() != Some(contract))
    {
        return Err("a row is of another contract than its folder".to_owned());
    }
    if samples.len() > MOST_PHOTOS {
        return Err(format!(
            "it has {} photos; at most {MOST_PHOTOS} are kept of a person",
            samples.len()
        ));
    }
    let active = live.revision.contract();
    if active.id == *contract
        && samples
            .iter()
            .any(|sample| sample.embedding.len() != active.dimension)
    {
        return Err(format!(
            "an embedding of another length than {}, which its contract has",
            active.dimension
        ));
    }
    Ok(samples)
}

/// Takes away enrolments unless all contracts name one and the same, as in archives of programs
/// before enrolment ids. Then only the first contract's samples are matched: the others may be an
/// older person's under the same id.
fn separate(contracts: &mut [(ContractId, Vec<Sample>)]) {
    let all = || contracts.iter().flat_map(|(_, samples)| samples);
    let enrolment = all().next().and_then(|sample| sample.enrolment.clone());
    let is_one = contracts.len() == 1
        || enrolment.is_some() && all().all(|sample| sample.enrolment == enrolment);
    if !is_one {
        contracts
            .iter_mut()
            .flat_map(|(_, samples)| samples)
            .for_each(|sample| sample.enrolment = None);
    }
}

/// The name of a person's first entry.
fn name_of(person: &Replacement) -> String {
    let contract = person
        .contracts
        .first()
        .map(|(contract, _)| contract.to_string())
        .unwrap_or_default();
    format!("people/{contract}/{}.csv", person.id)
}
