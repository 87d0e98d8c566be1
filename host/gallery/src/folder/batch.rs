//! Writes many people: their files are written, synced together and renamed, and then the folders
//! are synced.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rostro_common::fs::atomic::AtomicFile;
use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::{ContractId, EnrolmentId, PersonId};

use super::CsvGallery;
use crate::csv_file;
use crate::enrolment::{enrolment_of, group_by_contract, with_enrolment};
use crate::error::GalleryError;
use crate::file_names::OTHER_CONTRACTS;
use crate::ledger::ChangeNumber;
use crate::store::{BatchOutcome, BatchWrite, Durability, PersonSamples};

/// Number of files above which the whole disk is synced, which is one wait instead of one for each
/// file.
#[cfg(target_os = "linux")]
const MAX_SINGLE_SYNCS: usize = 8;

/// Replaces all samples of people, and numbers each with `number` once stored.
pub(super) fn write(
    gallery: &CsvGallery,
    people: &[PersonSamples<'_>],
    number: impl Fn() -> ChangeNumber,
) -> BatchWrite {
    let mut written = BatchWrite {
        outcomes: vec![BatchOutcome::Skipped; people.len()],
        durability: Durability::Synced,
        failure: None,
    };
    let staged = match stage(gallery, people) {
        Ok(staged) => staged,
        Err(cause) => {
            written.failure = Some(failed(gallery, cause));
            return written;
        }
    };
    let mut changed = BTreeSet::from([gallery.folder.clone()]);
    for (((id, _), files), outcome) in people.iter().zip(staged).zip(&mut written.outcomes) {
        let files = match files {
            StagedPerson::Files(files) => files,
            StagedPerson::TooLarge(size) => {
                *outcome = BatchOutcome::TooLarge(size);
                continue;
            }
        };
        // Locks one person at a time, because enrolments continue meanwhile.
        let _lock = gallery.lock_person(id);
        if let Err(cause) = install(gallery, id, files, &mut changed) {
            written.failure = Some(failed(gallery, cause));
            break;
        }
        *outcome = BatchOutcome::Stored(number());
    }
    // The renames took effect: a failure here is not a failure to write.
    written.durability = changed
        .iter()
        .map(|folder| gallery.durability(sync_folder(folder)))
        .fold(Durability::Synced, Durability::and);
    written
}

fn failed(gallery: &CsvGallery, cause: io::Error) -> GalleryError {
    GalleryError::Write {
        folder: gallery.folder.clone(),
        cause,
    }
}

/// Files of one person, under temporary names.
enum StagedPerson {
    Files(Vec<AtomicFile>),
    /// The largest file has this many bytes, above the reader's limit.
    TooLarge(usize),
}

/// Writes the files of all people under temporary names, and syncs them together.
fn stage(gallery: &CsvGallery, people: &[PersonSamples<'_>]) -> io::Result<Vec<StagedPerson>> {
    let staged: Vec<StagedPerson> = people
        .iter()
        .map(|person| prepare(gallery, *person))
        .collect::<io::Result<_>>()?;
    let files = staged.iter().flat_map(|person| match person {
        StagedPerson::Files(files) => files.as_slice(),
        StagedPerson::TooLarge(_) => &[],
    });
    sync(&gallery.folder, files.map(AtomicFile::as_file))?;
    Ok(staged)
}

/// Writes a person's files, one for each contract.
fn prepare(gallery: &CsvGallery, (id, samples): PersonSamples<'_>) -> io::Result<StagedPerson> {
    // A new enrolment marks the former files as older, even if a crash prevents their removal.
    let has_older_files = !gallery.contract_files_of(id)?.is_empty();
    let mut files = Vec::new();
    for (index, (contract, samples)) in group_by_contract(samples).iter().enumerate() {
        // Only the first group may have no contract.
        let other = contract.as_ref().filter(|_| index > 0);
        let is_own = other.is_none();
        let mut text = Vec::new();
        match is_own && has_older_files && enrolment_of(samples).is_none() {
            true => csv_file::write(&with_enrolment(samples, &EnrolmentId::unique()), &mut text)?,
            false => csv_file::write(samples, &mut text)?,
        }
        if text.len() as u64 > csv_file::MAX_BYTES {
            return Ok(StagedPerson::TooLarge(text.len()));
        }
        let path = match other {
            Some(contract) => gallery.contract_path(contract, id),
            None => gallery.path_of(id),
        };
        let mut file = gallery.new_file(&path)?;
        file.write_all(&text)?;
        files.push(file);
    }
    Ok(StagedPerson::Files(files))
}

/// Renames a person's files into place, and removes those of contracts without samples. The caller
/// holds the person's lock.
fn install(
    gallery: &CsvGallery,
    id: &PersonId,
    files: Vec<AtomicFile>,
    changed: &mut BTreeSet<PathBuf>,
) -> io::Result<()> {
    let mut old_files: Vec<(ContractId, PathBuf)> = gallery.contract_files_of(id)?;
    old_files.retain(|(_, path)| !files.iter().any(|file| file.path() == path));
    // First, because an own file of the same enrolment would put them in force.
    gallery.remove_contract_files(old_files.iter())?;
    changed.extend(
        old_files
            .iter()
            .filter_map(|(_, path)| path.parent().map(Path::to_owned)),
    );
    for file in files {
        let path = file.path().to_owned();
        let folder = path.parent().unwrap_or(&gallery.folder);
        if folder == gallery.folder {
            gallery.read_own_or_quarantine(id)?;
        } else {
            fs::create_dir_all(folder)?;
            gallery.read_or_quarantine(&path)?;
            changed.extend([folder.to_owned(), gallery.folder.join(OTHER_CONTRACTS)]);
        }
        let old_path = gallery.file_under_other_name(&path);
        file.rename_synced()?;
        gallery.record_write(&path);
        if let Some(old_path) = old_path {
            gallery.remove_old_file(&old_path, &path);
        }
    }
    Ok(())
}

/// Waits until files are on the disk.
fn sync<'f>(folder: &Path, files: impl Iterator<Item = &'f File> + Clone) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if files.clone().count() > MAX_SINGLE_SYNCS {
        match rustix::fs::syncfs(File::open(folder)?) {
            Ok(()) => return Ok(()),
            // Some file systems lack this call.
            Err(
                rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP,
            ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = folder;
    for file in files {
        file.sync_all()?;
    }
    Ok(())
}
