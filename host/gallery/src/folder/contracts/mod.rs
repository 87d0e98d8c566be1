//! Samples of other contracts than those in a person's own file, a folder for each contract.
//!
//! Readers of the gallery see the own file alone. A file of another contract is in force if its
//! rows name the enrolment that the own file names: whatever replaces the own file puts them out of
//! force in the same step, so neither a crash nor a program that knows no enrolments can leave an
//! older person under the id. Rows that cannot be told to belong to the own file are of *unknown
//! age*.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::{ContractId, EnrolmentId, PersonId};
use rostro_common::sample::Sample;

use super::super::watched::Fingerprint;
use super::super::{GalleryContents, GalleryError, PersonRecord, SampleLocation, names};
use super::{CsvGallery, csv_file, person};

/// The folder of the contracts' folders.
pub(crate) const OTHER_CONTRACTS: &str = ".contracts";

/// Returns the enrolment that all samples of an own file name; none if they differ or name none.
pub(super) fn enrolment_of(own: &[Sample]) -> Option<&EnrolmentId> {
    let first = own.first()?.enrolment.as_ref()?;
    own.iter()
        .all(|sample| sample.enrolment.as_ref() == Some(first))
        .then_some(first)
}

/// Returns true if the own file has samples of the contract, which are newer than any other file's.
fn has_contract(own: &[Sample], contract: &ContractId) -> bool {
    own.iter()
        .any(|sample| sample.contract.as_ref() == Some(contract))
}

/// Returns those of another file's samples that count next to the person's own.
pub(super) fn in_force(own: &[Sample], contract: &ContractId, samples: Vec<Sample>) -> Vec<Sample> {
    let enrolment = enrolment_of(own).filter(|_| !has_contract(own, contract));
    let counts = |sample: &Sample| {
        sample.contract.as_ref() == Some(contract)
            && enrolment.is_some()
            && sample.enrolment.as_ref() == enrolment
    };
    samples.into_iter().filter(counts).collect()
}

/// Returns true if some samples of another file may or may not be older than the person's own.
fn has_unknown_age(own: &[Sample], contract: &ContractId, samples: &[Sample]) -> bool {
    let is_unknown = |sample: &Sample| sample.enrolment.is_none() || enrolment_of(own).is_none();
    !has_contract(own, contract)
        && samples
            .iter()
            .filter(|sample| sample.contract.as_ref() == Some(contract))
            .any(is_unknown)
}

/// Returns true if another file is left of an enrolment before the person's own: both name one, and
/// not the same.
fn is_stale(own: &[Sample], samples: &[Sample]) -> bool {
    let Some(enrolment) = enrolment_of(own) else {
        return false;
    };
    samples.iter().all(|sample| {
        sample
            .enrolment
            .as_ref()
            .is_some_and(|other| other != enrolment)
    })
}

/// Returns the samples by contract, in the order in which the contracts appear. Samples without one
/// count as the first one's.
pub(super) fn by_contract(samples: &[Sample]) -> Vec<(Option<ContractId>, Vec<Sample>)> {
    let mut groups: Vec<(Option<ContractId>, Vec<Sample>)> = Vec::new();
    for sample in samples {
        let place = groups
            .iter()
            .position(|(contract, _)| sample.contract.is_none() || *contract == sample.contract);
        match place.and_then(|place| groups.get_mut(place)) {
            Some((_, group)) => group.push(sample.clone()),
            None => groups.push((sample.contract.clone(), vec![sample.clone()])),
        }
    }
    groups
}

/// Returns the samples as samples of an enrolment.
pub(super) fn of_enrolment(samples: &[Sample], enrolment: &EnrolmentId) -> Vec<Sample> {
    samples
        .iter()
        .map(|sample| Sample {
            enrolment: Some(enrolment.clone()),
            ..sample.clone()
        })
        .collect()
}

impl CsvGallery {
    /// Replaces all that is stored of a person. The lock is held.
    pub(super) fn replace_contracts(
        &self,
        id: &PersonId,
        samples: &[Sample],
    ) -> io::Result<PathBuf> {
        let path = self.path_of(id);
        let old = self.rescue_own(id)?;
        let before = self.others_of(id)?;
        let mut groups = by_contract(samples);
        if let Some((_, own)) = groups.first_mut()
            && enrolment_of(own).is_none()
            && !before.is_empty()
        {
            // Tells the files of before to be older, also if a crash keeps them from being removed.
            *own = of_enrolment(own, &EnrolmentId::unique());
        }
        let Some(((_, own), others)) = groups.split_first() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let is_kept = |contract: &ContractId| {
            others
                .iter()
                .any(|(kept, _)| kept.as_ref() == Some(contract))
        };
        let is_same = enrolment_of(own).is_some() && enrolment_of(own) == enrolment_of(&old);
        if is_same {
            // The same archive again: the own file would put these in force.
            self.remove_others(before.iter().filter(|(contract, _)| !is_kept(contract)))?;
        }
        self.write(&path, own)?;
        for (contract, samples) in others {
            if let Some(contract) = contract {
                self.write_other(contract, id, samples)?;
            }
        }
        if !is_same
            && let Err(error) =
                self.remove_others(before.iter().filter(|(contract, _)| !is_kept(contract)))
        {
            tracing::warn!(
                "older samples of a person in {} cannot be removed; they are not matched: {error}",
                self.folder.display()
            );
        }
        Ok(path)
    }

    /// Puts samples of one contract next to those of others. The lock is held.
    pub(super) fn put_contract(
        &self,
        id: &PersonId,
        samples: &[Sample],
        place: SampleLocation,
    ) -> io::Result<PathBuf> {
        let path = self.path_of(id);
        let old = self.rescue_own(id)?;
        let contract = samples.first().and_then(|sample| sample.contract.clone());
        let is_only = old.iter().all(|sample| sample.contract == contract);
        let Some(contract) = contract.filter(|_| !is_only) else {
            let samples = enrolment_of(&old).map_or_else(
                || samples.to_vec(),
                |enrolment| of_enrolment(samples, enrolment),
            );
            self.write(&path, &samples)?;
            return Ok(path);
        };
        let known = enrolment_of(&old).cloned();
        let enrolment = known.clone().unwrap_or_else(EnrolmentId::unique);
        if place == SampleLocation::Other {
            if known.is_none() {
                self.write(&path, &of_enrolment(&old, &enrolment))?;
            }
            self.write_other(
                &contract,
                id,
                &self.with_unknown_age(&contract, id, of_enrolment(samples, &enrolment)),
            )?;
            return Ok(path);
        }
        // In force through the own file until that is written, and through its enrolment from then
        // on.
        for (other, kept) in by_contract(&old) {
            if let Some(other) = other.filter(|other| *other != contract) {
                self.write_other(
                    &other,
                    id,
                    &self.with_unknown_age(&other, id, of_enrolment(&kept, &enrolment)),
                )?;
            }
        }
        self.write(&path, &of_enrolment(samples, &enrolment))?;
        let older = self.file_of_other(&contract, id);
        if csv_file::read(&older)
            .is_ok_and(|older| older.iter().all(|sample| sample.enrolment.is_some()))
        {
            // Superseded by the own file; it is not matched where it cannot be removed.
            let _ = fs::remove_file(&older);
        }
        Ok(path)
    }

    /// Adds the rows of unknown age that lie in the contract's file: what is added removes nothing.
    fn with_unknown_age(
        &self,
        contract: &ContractId,
        id: &PersonId,
        mut samples: Vec<Sample>,
    ) -> Vec<Sample> {
        let there = csv_file::read(&self.file_of_other(contract, id)).unwrap_or_default();
        let length = samples.first().map_or(0, |sample| sample.embedding.len());
        samples.extend(
            there
                .into_iter()
                .filter(|sample| sample.enrolment.is_none() && sample.embedding.len() == length),
        );
        samples
    }

    /// Reads the files of other contracts, next to the people whose own files were read.
    pub(super) fn load_others(&self, loaded: &mut GalleryContents) -> io::Result<()> {
        let mut unowned: BTreeMap<PersonId, PathBuf> = BTreeMap::new();
        // What is in force is judged by the own file alone.
        let mut found: Vec<(usize, Vec<Sample>)> = Vec::new();
        for (contract, path) in self.other_files()? {
            let seen = Fingerprint::at(&path);
            let (id, samples) = match person(&path) {
                Ok(read) => read,
                Err(cause) => {
                    self.note_problem(loaded, path, seen, cause);
                    continue;
                }
            };
            self.note_good(loaded, &path, seen);
            let place = loaded
                .people
                .binary_search_by(|person| person.id.cmp(&id))
                .ok();
            let Some((place, own)) =
                place.and_then(|place| Some((place, loaded.people.get(place)?)))
            else {
                loaded.unknown_age += 1;
                unowned.entry(id).or_insert(path);
                continue;
            };
            if is_stale(&own.samples, &samples) {
                self.remove_stale(&id, &contract);
                continue;
            }
            loaded.unknown_age += usize::from(has_unknown_age(&own.samples, &contract, &samples));
            found.push((place, in_force(&own.samples, &contract, samples)));
        }
        for (place, samples) in found {
            if let Some(person) = loaded.people.get_mut(place) {
                person.samples.extend(samples);
            }
        }
        // Known by nothing, and to be listed and deleted all the same.
        loaded
            .people
            .extend(unowned.into_iter().map(|(id, path)| PersonRecord {
                id,
                samples: Vec::new(),
                path,
            }));
        loaded.people.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(())
    }

    /// Removes a file that a crash left of an enrolment before the last. Both may have been written
    /// since they were read.
    fn remove_stale(&self, id: &PersonId, contract: &ContractId) {
        if !self.is_ours {
            return;
        }
        let _changing = self.changing();
        let path = self.file_of_other(contract, id);
        let (Ok(own), Ok(samples)) = (csv_file::read(&self.own_file(id)), csv_file::read(&path))
        else {
            return;
        };
        if !is_stale(&own, &samples) {
            return;
        }
        match fs::remove_file(&path) {
            Ok(()) => self.note_gone(&path),
            Err(error) => {
                tracing::warn!(
                    "older samples of a person in {} cannot be removed; they are not matched: {error}",
                    self.folder.display()
                );
            }
        }
    }

    /// Puts files of unknown age in force, on the word of the operator; returns how many. Where a
    /// person has no own file the newest other one becomes it.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be read or written; those before the failure are in force then.
    pub fn trust_contracts(&self) -> Result<usize, GalleryError> {
        let mut people: BTreeMap<PersonId, Vec<(ContractId, PathBuf)>> = BTreeMap::new();
        for (contract, path) in self
            .other_files()
            .map_err(GalleryError::folder("read", &self.folder))?
        {
            if let Ok((id, _)) = person(&path) {
                people.entry(id).or_default().push((contract, path));
            }
        }
        let mut trusted = 0;
        for (id, others) in people {
            let _changing = self.changing();
            trusted += self
                .trust_person(&id, others)
                .map_err(|cause| GalleryError::Write {
                    folder: self.folder.clone(),
                    cause,
                })?;
        }
        Ok(trusted)
    }

    fn trust_person(
        &self,
        id: &PersonId,
        mut others: Vec<(ContractId, PathBuf)>,
    ) -> io::Result<usize> {
        let path = self.path_of(id);
        let own = match csv_file::read(&self.own_file(id)) {
            Ok(own) => own,
            Err(csv_file::SampleFileError::Io(error))
                if error.kind() == io::ErrorKind::NotFound =>
            {
                let modified = |path: &PathBuf| {
                    path.metadata()
                        .and_then(|about| about.modified())
                        .unwrap_or(SystemTime::UNIX_EPOCH)
                };
                others.sort_by_key(|(_, path)| modified(path));
                let newest = others
                    .last()
                    .map(|(_, path)| csv_file::read(path).unwrap_or_default());
                newest.unwrap_or_default()
            }
            // Damaged: it is mended or set aside first.
            Err(_) => return Ok(0),
        };
        let enrolment = enrolment_of(&own)
            .cloned()
            .unwrap_or_else(EnrolmentId::unique);
        let mut trusted = 0;
        for (contract, other) in others {
            let samples = csv_file::read(&other).unwrap_or_default();
            if has_unknown_age(&own, &contract, &samples) {
                self.write_other(&contract, id, &of_enrolment(&samples, &enrolment))?;
                trusted += 1;
            }
        }
        let is_promoted = !own.is_empty() && !self.own_file(id).exists();
        if trusted > 0 || is_promoted {
            // From here on all of them are in force, or none if a crash came before.
            self.write(&path, &of_enrolment(&own, &enrolment))?;
        }
        Ok(trusted + usize::from(is_promoted))
    }

    /// Where a person's samples of another contract are written.
    pub(super) fn path_of_other(&self, contract: &ContractId, id: &PersonId) -> PathBuf {
        self.folder
            .join(OTHER_CONTRACTS)
            .join(contract.to_string())
            .join(names::canonical(id))
    }

    /// The file that a person's samples of another contract are in, or will be in.
    fn file_of_other(&self, contract: &ContractId, id: &PersonId) -> PathBuf {
        let path = self.path_of_other(contract, id);
        path.parent()
            .and_then(|folder| self.file_in_use(folder, id))
            .unwrap_or(path)
    }

    /// Writes samples of another contract than those in the own file.
    fn write_other(
        &self,
        contract: &ContractId,
        id: &PersonId,
        samples: &[Sample],
    ) -> io::Result<()> {
        let to = self.path_of_other(contract, id);
        let folder = to.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        self.rescue(&to)?;
        self.write(&to, samples)?;
        // The folders may be new.
        for folder in [folder, &self.folder.join(OTHER_CONTRACTS), &self.folder] {
            sync_folder(folder)?;
        }
        Ok(())
    }

    /// Removes files of other contracts; damaged ones are set aside.
    pub(super) fn remove_others<'f>(
        &self,
        files: impl Iterator<Item = &'f (ContractId, PathBuf)>,
    ) -> io::Result<()> {
        for (_, path) in files {
            match self.rescue(path).and_then(|_| fs::remove_file(path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.note_gone(path),
            }
        }
        Ok(())
    }

    /// The files of other contracts, each with its contract.
    pub(super) fn other_files(&self) -> io::Result<Vec<(ContractId, PathBuf)>> {
        let mut files = Vec::new();
        for (contract, folder) in self.contract_folders()? {
            for file in fs::read_dir(&folder)? {
                let path = file?.path();
                if names::has_ending(&path) {
                    files.push((contract.clone(), path));
                }
            }
        }
        Ok(files)
    }

    /// A person's files of other contracts, each with its contract.
    pub(super) fn others_of(&self, id: &PersonId) -> io::Result<Vec<(ContractId, PathBuf)>> {
        let folders = self.contract_folders()?.into_iter();
        let files = |(contract, folder): (ContractId, PathBuf)| {
            self.files_of(&folder, id)
                .into_iter()
                .map(move |path| (contract.clone(), path))
        };
        Ok(folders.flat_map(files).collect())
    }

    /// The folders of other contracts. What else lies next to them belongs to others.
    pub(super) fn contract_folders(&self) -> io::Result<Vec<(ContractId, PathBuf)>> {
        let entries = match fs::read_dir(self.folder.join(OTHER_CONTRACTS)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut folders = Vec::new();
        for entry in entries {
            let folder = entry?.path();
            let contract = folder
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.parse::<ContractId>().ok());
            if let Some(contract) = contract.filter(|_| folder.is_dir()) {
                folders.push((contract, folder));
            }
        }
        Ok(folders)
    }
}

#[cfg(test)]
mod tests;
