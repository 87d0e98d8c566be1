//! Samples of other contracts than a person's own file has, in a folder for each contract.
//!
//! Other readers of the gallery see only the own file. A file of another contract is in force if
//! its rows have the enrolment of the own file. Replacing the own file puts the others out of force
//! in the same step. So neither a crash nor a program without enrolments can leave an older person
//! under the id. Rows that may or may not belong to the own file's enrolment have an *unknown age*.

mod trust;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use rostro_common::cores::Cores;
use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::{ContractId, EnrolmentId, PersonId};
use rostro_common::parallel;
use rostro_common::sample::Sample;

use super::{CsvGallery, read_person};
use crate::csv_file;
use crate::enrolment::{
    enrolment_of, group_by_contract, has_unknown_age, in_force, is_stale, with_enrolment,
};
use crate::file_names::{self, OTHER_CONTRACTS};
use crate::file_watch::Fingerprint;
use crate::store::{Durability, GalleryContents, PersonRecord, SampleLocation};

impl CsvGallery {
    /// Replaces all samples of a person. The caller holds the lock.
    pub(super) fn replace_contracts(
        &self,
        id: &PersonId,
        samples: &[Sample],
    ) -> io::Result<(PathBuf, Durability)> {
        let path = self.path_of(id);
        let old_samples = self.read_own_or_quarantine(id)?;
        let old_files = self.contract_files_of(id)?;
        let mut groups = group_by_contract(samples);
        if let Some((_, own)) = groups.first_mut()
            && enrolment_of(own).is_none()
            && !old_files.is_empty()
        {
            // A new enrolment marks the former files as older, even if a crash prevents their
            // removal.
            *own = with_enrolment(own, &EnrolmentId::unique());
        }
        let Some(((_, own), others)) = groups.split_first() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let is_kept = |contract: &ContractId| {
            others
                .iter()
                .any(|(kept, _)| kept.as_ref() == Some(contract))
        };
        let is_same =
            enrolment_of(own).is_some() && enrolment_of(own) == enrolment_of(&old_samples);
        if is_same {
            // The archive is imported again: the new own file would put these files in force.
            self.remove_contract_files(
                old_files.iter().filter(|(contract, _)| !is_kept(contract)),
            )?;
        }
        let mut durability = self.write(&path, own)?;
        for (contract, samples) in others {
            if let Some(contract) = contract {
                durability = durability.and(self.write_contract(contract, id, samples)?);
            }
        }
        if !is_same
            && let Err(error) = self
                .remove_contract_files(old_files.iter().filter(|(contract, _)| !is_kept(contract)))
        {
            tracing::warn!(
                "older samples of a person in {} cannot be removed; they are not matched: {error}",
                self.folder.display()
            );
        }
        Ok((path, durability))
    }

    /// Adds samples of one contract next to those of others. The caller holds the lock.
    pub(super) fn put_contract(
        &self,
        id: &PersonId,
        samples: &[Sample],
        location: SampleLocation,
    ) -> io::Result<(PathBuf, Durability)> {
        let path = self.path_of(id);
        let old_samples = self.read_own_or_quarantine(id)?;
        let contract = samples.first().and_then(|sample| sample.contract.clone());
        let is_only = old_samples.iter().all(|sample| sample.contract == contract);
        let Some(contract) = contract.filter(|_| !is_only) else {
            let samples = enrolment_of(&old_samples).map_or_else(
                || samples.to_vec(),
                |enrolment| with_enrolment(samples, enrolment),
            );
            let durability = self.write(&path, &samples)?;
            return Ok((path, durability));
        };
        let known = enrolment_of(&old_samples).cloned();
        let enrolment = known.clone().unwrap_or_else(EnrolmentId::unique);
        if location == SampleLocation::Other {
            let mut durability = Durability::Synced;
            if known.is_none() {
                durability = self.write(&path, &with_enrolment(&old_samples, &enrolment))?;
            }
            let other = self.write_contract(
                &contract,
                id,
                &self.append_unknown_age(&contract, id, with_enrolment(samples, &enrolment)),
            )?;
            return Ok((path, durability.and(other)));
        }
        // The samples are in force through the own file until it is written, and through its
        // enrolment afterwards.
        let mut durability = Durability::Synced;
        for (other, kept) in group_by_contract(&old_samples) {
            if let Some(other) = other.filter(|other| *other != contract) {
                durability = durability.and(self.write_contract(
                    &other,
                    id,
                    &self.append_unknown_age(&other, id, with_enrolment(&kept, &enrolment)),
                )?);
            }
        }
        durability = durability.and(self.write(&path, &with_enrolment(samples, &enrolment))?);
        let older = self.contract_file(&contract, id);
        if csv_file::read(&older)
            .is_ok_and(|older| older.iter().all(|sample| sample.enrolment.is_some()))
        {
            // The own file supersedes it, so that it is not matched even if it cannot be removed.
            let _ = fs::remove_file(&older);
        }
        Ok((path, durability))
    }

    /// Appends the rows of unknown age in the contract's file, because adding samples must not
    /// remove any.
    fn append_unknown_age(
        &self,
        contract: &ContractId,
        id: &PersonId,
        mut samples: Vec<Sample>,
    ) -> Vec<Sample> {
        let stored = csv_file::read(&self.contract_file(contract, id)).unwrap_or_default();
        let length = samples.first().map_or(0, |sample| sample.embedding.len());
        samples.extend(
            stored
                .into_iter()
                .filter(|sample| sample.enrolment.is_none() && sample.embedding.len() == length),
        );
        samples
    }

    /// Adds the samples of other contracts to people with a readable own file. Reads on this thread
    /// and on idle `cores`.
    pub(super) fn load_contracts(
        &self,
        loaded: &mut GalleryContents,
        cores: &Cores,
    ) -> io::Result<()> {
        let mut unowned: BTreeMap<PersonId, PathBuf> = BTreeMap::new();
        // The own file alone decides which samples are in force.
        let mut in_force_samples: Vec<(usize, Vec<Sample>)> = Vec::new();
        let files = self.contract_files()?;
        let read = |(_, path): &(_, PathBuf)| (Fingerprint::at(path), read_person(path));
        let read = parallel::map(cores, &files, read);
        for ((contract, path), (fingerprint, samples)) in files.into_iter().zip(read) {
            let (id, samples) = match samples {
                Ok(read) => read,
                Err(cause) => {
                    self.record_problem(loaded, path, fingerprint, cause);
                    continue;
                }
            };
            self.record_valid(loaded, &path, fingerprint);
            let index = loaded
                .people
                .binary_search_by(|person| person.id.cmp(&id))
                .ok();
            let Some((index, own)) =
                index.and_then(|index| Some((index, loaded.people.get(index)?)))
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
            in_force_samples.push((index, in_force(&own.samples, &contract, samples)));
        }
        for (index, samples) in in_force_samples {
            if let Some(person) = loaded.people.get_mut(index) {
                person.samples.extend(samples);
            }
        }
        // Listed so that they can be deleted, but not matched.
        loaded
            .people
            .extend(unowned.into_iter().map(|(id, path)| PersonRecord {
                id,
                samples: Vec::new(),
                templates: None,
                path,
            }));
        loaded.people.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(())
    }

    /// Removes a file that a crash left of an earlier enrolment. It reads both files again, because
    /// they may have been written since.
    fn remove_stale(&self, id: &PersonId, contract: &ContractId) {
        if !self.is_writer {
            return;
        }
        let _lock = self.lock_person(id);
        let path = self.contract_file(contract, id);
        let (Ok(own), Ok(samples)) = (csv_file::read(&self.own_file(id)), csv_file::read(&path))
        else {
            return;
        };
        if !is_stale(&own, &samples) {
            return;
        }
        match fs::remove_file(&path) {
            Ok(()) => self.record_removal(&path),
            Err(error) => {
                tracing::warn!(
                    "older samples of a person in {} cannot be removed; they are not matched: {error}",
                    self.folder.display()
                );
            }
        }
    }

    /// Returns the canonical path of a person's samples of another contract.
    pub(super) fn contract_path(&self, contract: &ContractId, id: &PersonId) -> PathBuf {
        self.folder
            .join(OTHER_CONTRACTS)
            .join(contract.to_string())
            .join(file_names::canonical(id))
    }

    /// Returns the current or future file of a person's samples of another contract.
    pub(super) fn contract_file(&self, contract: &ContractId, id: &PersonId) -> PathBuf {
        let path = self.contract_path(contract, id);
        path.parent()
            .and_then(|folder| self.file_in_use(folder, id))
            .unwrap_or(path)
    }

    /// Writes samples of another contract than the own file's.
    pub(super) fn write_contract(
        &self,
        contract: &ContractId,
        id: &PersonId,
        samples: &[Sample],
    ) -> io::Result<Durability> {
        let to = self.contract_path(contract, id);
        fs::create_dir_all(to.parent().unwrap_or(&self.folder))?;
        self.read_or_quarantine(&to)?;
        let written = self.write(&to, samples)?;
        // The folders may be new.
        let durability = [&self.folder.join(OTHER_CONTRACTS), &self.folder]
            .map(|folder| self.durability(sync_folder(folder)))
            .into_iter()
            .fold(written, Durability::and);
        Ok(durability)
    }

    /// Removes files of other contracts. Damaged ones are quarantined.
    pub(super) fn remove_contract_files<'f>(
        &self,
        files: impl Iterator<Item = &'f (ContractId, PathBuf)>,
    ) -> io::Result<()> {
        for (_, path) in files {
            match self
                .read_or_quarantine(path)
                .and_then(|_| fs::remove_file(path))
            {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.record_removal(path),
            }
        }
        Ok(())
    }

    /// Returns the files of other contracts, each with its contract.
    pub(super) fn contract_files(&self) -> io::Result<Vec<(ContractId, PathBuf)>> {
        let mut files = Vec::new();
        for (contract, folder) in self.contract_folders()? {
            for file in fs::read_dir(&folder)? {
                let path = file?.path();
                if file_names::has_ending(&path) {
                    files.push((contract.clone(), path));
                }
            }
        }
        Ok(files)
    }

    /// Returns a person's files of other contracts, each with its contract.
    pub(super) fn contract_files_of(
        &self,
        id: &PersonId,
    ) -> io::Result<Vec<(ContractId, PathBuf)>> {
        let folders = self.contract_folders()?.into_iter();
        let files = |(contract, folder): (ContractId, PathBuf)| {
            self.files_of(&folder, id)
                .into_iter()
                .map(move |path| (contract.clone(), path))
        };
        Ok(folders.flat_map(files).collect())
    }

    /// Returns the folders of other contracts. Other entries next to them are ignored.
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
