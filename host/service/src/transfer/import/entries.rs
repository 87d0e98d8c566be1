//! Reading the entries of an archive.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use rostro_common::ids::{ContractId, PersonId};
use rostro_common::sample::Sample;
use rostro_gallery::groups::{self, GroupId};
use rostro_gallery::ledger::{ArchiveOrigin, Tombstones};
use rostro_gallery::{MAX_PERSON_BYTES, parse_samples};

use super::{Import, ImportOptions, ImportedPerson, TIME_LIMIT, TIME_LIMIT_PER_GIB};
use crate::Service;
use crate::ServiceError;
use crate::deployment::{Actor, ReadyRevision};
use crate::enroll::MOST_PHOTOS;
use crate::people::{PeopleError, Replacement};
use crate::transfer::contents::Contents;
use crate::transfer::{
    ArchiveEntry, ArchiveError, ArchiveFile, ImportReport, origin, parse_entry_name,
};

impl<'s> Import<'s> {
    /// Lists the entries of the archive, and reads its origin and tombstones.
    pub(super) fn open(
        service: &'s Service,
        archive: ArchiveFile,
        options: ImportOptions,
        actor: &'s Actor,
    ) -> Result<Self, ArchiveError> {
        let gib = u32::try_from(archive.length() >> 30).unwrap_or(u32::MAX);
        let deadline = Instant::now() + TIME_LIMIT + TIME_LIMIT_PER_GIB.saturating_mul(gib);
        let (mut contents, mut report) = (Contents::open(archive)?, ImportReport::default());
        let (mut people, mut groups) = (
            BTreeMap::<PersonId, Vec<(usize, ContractId)>>::new(),
            Vec::new(),
        );
        let (mut archive_origin, mut tombstones) = (None, Tombstones::default());
        for index in 0..contents.len() {
            let Some(name) = contents.name(index) else {
                continue;
            };
            let result = parse_entry_name(&name).and_then(|entry| match entry {
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
                    .read(index, origin::MAX_BYTES)
                    .and_then(|bytes| origin::read(&bytes))
                    .map(|read| archive_origin = Some(read)),
                ArchiveEntry::Tombstones(gallery) => contents
                    .read(index, origin::MAX_TOMBSTONE_BYTES)
                    .and_then(|bytes| origin::read_tombstones(bytes, gallery, &mut tombstones)),
                ArchiveEntry::OmittedFiles => {
                    Err("the export lacks files that could not be read".to_owned())
                }
                ArchiveEntry::Folder => Ok(()),
            });
            if let Err(reason) = result {
                report.omit(&name, reason);
            }
        }
        let (scope, deleted) = (service.executor.scope(deadline), HashSet::new());
        Ok(Self {
            service,
            actor,
            contents,
            options,
            origin: archive_origin,
            tombstones,
            people,
            groups,
            deadline,
            scope,
            report,
            deleted,
        })
    }

    /// Reads a person of the archive; none without a usable entry.
    pub(super) fn prepare(
        &mut self,
        active: &ReadyRevision,
        id: &PersonId,
        entries: &[(usize, ContractId)],
    ) -> Result<Option<ImportedPerson>, ArchiveError> {
        let mut contracts: Vec<(ContractId, Vec<Sample>)> = Vec::new();
        let (mut templates, mut written_at) = (None, i64::MAX);
        for (index, contract) in entries {
            let read = self
                .contents
                .read(*index, MAX_PERSON_BYTES)
                .and_then(|bytes| parse_contract_samples(&bytes, contract, active));
            let made = match read {
                Ok(samples) if active.revision.contract().id == *contract => {
                    match active.view.templates_of(&samples, &self.deadline.into()) {
                        Ok(made) => {
                            templates = made;
                            // Other readers of the folder see the active contract.
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
                Err(reason) => Err(reason),
            };
            if let Err(reason) = made {
                self.report
                    .omit(&format!("people/{contract}/{id}.csv"), reason);
            }
            if self.origin.is_none() {
                written_at = written_at.min(self.contents.written_at(*index));
            }
        }
        if contracts.is_empty() {
            return Ok(None);
        }
        let origin = self.origin.unwrap_or(ArchiveOrigin {
            gallery: None,
            number: None,
            began: written_at,
        });
        separate_enrolments(&mut contracts);
        Ok(Some(ImportedPerson {
            person: Replacement {
                id: id.clone(),
                contracts,
                templates,
            },
            origin,
        }))
    }

    /// Reads the existing members of a group. Memberships from before a deletion are omitted.
    pub(super) fn members(
        &mut self,
        group: &GroupId,
        index: usize,
        can_join: &dyn Fn(&Self, &PersonId) -> bool,
    ) -> Vec<PersonId> {
        let name = format!("groups/{group}");
        let read = self.contents.read(index, groups::MAX_FILE_BYTES as u64);
        let text = match read
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not text".to_owned()))
        {
            Ok(text) => text,
            Err(reason) => {
                self.report.omit(&name, reason);
                return Vec::new();
            }
        };
        let origin = self.origin.unwrap_or_else(|| ArchiveOrigin {
            gallery: None,
            number: None,
            began: self.contents.written_at(index),
        });
        let mut members = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.parse::<PersonId>() {
                // Already recorded with the person.
                Ok(id) if self.deleted_since(&id, &origin).is_some() => {}
                Ok(id) if can_join(self, &id) => members.push(id),
                Ok(_) => self.report.omit(
                    &name,
                    "a line is the id of a person who is not stored".to_owned(),
                ),
                Err(_) => self.report.omit(&name, "a line is not an id".to_owned()),
            }
        }
        members
    }
}

/// Parses and checks samples of one contract.
fn parse_contract_samples(
    bytes: &[u8],
    contract: &ContractId,
    active: &ReadyRevision,
) -> Result<Vec<Sample>, String> {
    let samples = parse_samples(bytes).map_err(|error| error.to_string())?;
    if samples
        .iter()
        .any(|sample| sample.contract.as_ref() != Some(contract))
    {
        return Err("a row has another contract than its folder".to_owned());
    }
    if samples.len() > MOST_PHOTOS {
        return Err(format!(
            "it has {} photos; at most {MOST_PHOTOS} are kept for a person",
            samples.len()
        ));
    }
    let contract_in_use = active.revision.contract();
    if contract_in_use.id == *contract
        && samples
            .iter()
            .any(|sample| sample.embedding.len() != contract_in_use.dimension)
    {
        return Err(format!(
            "an embedding does not have the length {} of its contract",
            contract_in_use.dimension
        ));
    }
    Ok(samples)
}

/// Removes enrolments unless all contracts have the same one, as in archives of programs before
/// enrolment ids. Then only the first contract's samples are matched, because the others may be an
/// older person's under the same id.
fn separate_enrolments(contracts: &mut [(ContractId, Vec<Sample>)]) {
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
