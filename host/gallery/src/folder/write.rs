//! Writing and removing a person's files.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rostro_common::fs::atomic::{AtomicFile, FileAccess};
use rostro_common::fs::durable::sync_folder;
use rostro_common::fs::identity;
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;

use super::{CsvGallery, batch};
use crate::csv_file::{self, SampleFileError};
use crate::error::{GalleryError, Problem, remedy};
use crate::ledger::ChangeNumber;
use crate::store::{BatchWrite, Durability, PersonSamples, SampleLocation};
use crate::{enrolment, file_names, quarantine};

impl CsvGallery {
    /// Returns the samples in a person's own file before it is replaced. A file of the canonical
    /// name that is not a person's is quarantined.
    pub(super) fn read_own_or_quarantine(&self, id: &PersonId) -> io::Result<Vec<Sample>> {
        let (own, canonical) = (self.own_file(id), self.path_of(id));
        if own == canonical {
            return self.read_or_quarantine(&own);
        }
        self.read_or_quarantine(&canonical)?;
        Ok(self.read_samples(&own).unwrap_or_default())
    }

    /// Returns the person's current file if a file of this path does not exist yet, and the person
    /// has one under another name.
    pub(super) fn file_under_other_name(&self, path: &Path) -> Option<PathBuf> {
        if path.symlink_metadata().is_ok() {
            return None;
        }
        let id = file_names::id_of(path).ok()?;
        self.file_in_use(path.parent()?, &id)
            .filter(|used| self.read_samples(used).is_ok())
    }

    /// Removes the former file of a person, unless both names are one file.
    pub(super) fn remove_old_file(&self, old: &Path, new: &Path) {
        let file_identity = |path: &Path| path.symlink_metadata().ok().as_ref().and_then(identity);
        if file_identity(old).is_some_and(|file| Some(file) == file_identity(new)) {
            return;
        }
        self.record_removal(old);
        let removed =
            fs::remove_file(old).and_then(|()| sync_folder(old.parent().unwrap_or(&self.folder)));
        if let Err(error) = removed {
            tracing::warn!(
                "an older file of a person in {} cannot be removed: {error}{}",
                self.folder.display(),
                remedy(&error)
            );
        }
    }

    /// Returns the samples in a file before it is replaced or removed. A file that is not valid is
    /// quarantined, and has no samples.
    pub(super) fn read_or_quarantine(&self, path: &Path) -> io::Result<Vec<Sample>> {
        match self.read_samples(path) {
            Ok(samples) => Ok(samples),
            Err(cause) if cause.has_content() => {
                let to = quarantine::add(&self.folder, path)?;
                self.record_removal(path);
                tracing::warn!(
                    "{}",
                    Problem {
                        quarantined: Some(to),
                        ..Problem::new(path.to_owned(), cause)
                    }
                    .to_string()
                    .escape_debug()
                );
                Ok(Vec::new())
            }
            Err(SampleFileError::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
                Err(error)
            }
            // A missing file, or a path that is not a regular file, has no samples.
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Creates a temporary file and removes it again, because permissions do not tell whether a
    /// folder is writable (root, read-only mounts).
    pub(super) fn check_writable(&self) -> io::Result<()> {
        self.new_file(&self.folder).map(drop)
    }

    /// Creates a temporary file in the gallery's folder, where a start removes those that a crash
    /// left. The umask applies, because other users may have to read the gallery.
    pub(super) fn new_file(&self, path: &Path) -> io::Result<AtomicFile> {
        AtomicFile::create_in(&self.folder, path, FileAccess::Umask)
    }

    /// Returns the durability of a change from the result of syncing its folders.
    pub(super) fn durability(&self, synced: io::Result<bool>) -> Durability {
        match synced {
            Ok(true) => Durability::Synced,
            Ok(false) => Durability::Unsupported,
            Err(cause) => Durability::Failed(GalleryError::Unsynced {
                folder: self.folder.clone(),
                cause,
            }),
        }
    }

    /// Writes samples to `path` atomically.
    pub(super) fn write(&self, path: &Path, samples: &[Sample]) -> io::Result<Durability> {
        let mut file = self.new_file(path)?;
        let mut text = Vec::new();
        csv_file::write(samples, &mut text)?;
        file.write_all(&text)?;
        let old_path = self.file_under_other_name(path);
        file.commit()?;
        self.record_write(path);
        // The rename took effect, so a failure to sync the folder is not a failure to write.
        let durability = self.durability(sync_folder(path.parent().unwrap_or(&self.folder)));
        if let Some(old_path) = old_path {
            self.remove_old_file(&old_path, path);
        }
        Ok(durability)
    }

    /// Replaces all samples of a person, see [`crate::Store::replace`]. Returns the own file.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written.
    pub fn replace(
        &self,
        id: &PersonId,
        samples: &[Sample],
    ) -> Result<(PathBuf, Durability), GalleryError> {
        for (_, samples) in enrolment::group_by_contract(samples) {
            check_size(&samples)?;
        }
        let _lock = self.lock_person(id);
        self.replace_contracts(id, samples)
            .map_err(|cause| GalleryError::Write {
                folder: self.folder.clone(),
                cause,
            })
    }

    /// Stores samples of one contract, see [`crate::Store::put`]. Returns the own file.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written.
    pub fn put(
        &self,
        id: &PersonId,
        samples: &[Sample],
        location: SampleLocation,
    ) -> Result<(PathBuf, Durability), GalleryError> {
        check_size(samples)?;
        let _lock = self.lock_person(id);
        self.put_contract(id, samples, location)
            .map_err(|cause| GalleryError::Write {
                folder: self.folder.clone(),
                cause,
            })
    }

    /// Stores many people, see [`crate::Store::replace_all`], and numbers each with `number`.
    pub fn replace_all(
        &self,
        people: &[PersonSamples<'_>],
        number: impl Fn() -> ChangeNumber,
    ) -> BatchWrite {
        batch::write(self, people, number)
    }

    /// Removes all samples of a person, files in quarantine included.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written. Some files may then be left.
    pub fn remove(&self, id: &PersonId) -> Result<Removal, GalleryError> {
        let _lock = self.lock_person(id);
        let failed = |cause| GalleryError::Write {
            folder: self.folder.clone(),
            cause,
        };
        let mut left_alone = Vec::new();
        let mut own = Vec::new();
        let damaged = quarantine::files_of(&self.folder, id)
            .map_err(failed)?
            .into_iter();
        let others = self
            .contract_files_of(id)
            .map_err(failed)?
            .into_iter()
            .map(|(_, path)| path);
        // The own files are removed last, so that the person still exists if a request repeats a
        // failed deletion.
        for path in damaged.chain(others).chain(self.files_of(&self.folder, id)) {
            match csv_file::read(&path) {
                Err(cause) if cause.is_foreign() => left_alone.push(Problem::new(path, cause)),
                _ => own.push(path),
            }
        }
        let mut was_there = false;
        // The gallery's folder is always synced, because an earlier attempt may have removed the
        // files and failed to sync.
        let mut changed = BTreeSet::from([self.folder.clone()]);
        for path in own {
            match fs::remove_file(&path) {
                Ok(()) => {
                    was_there = true;
                    self.record_removal(&path);
                    changed.insert(path.parent().unwrap_or(&self.folder).to_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        self.irregular_names().remove(id);
        // A deleted person must not come back after a crash.
        let durability = changed
            .iter()
            .map(|folder| self.durability(sync_folder(folder)))
            .fold(Durability::Synced, Durability::and);
        Ok(Removal {
            was_there,
            left_alone,
            durability,
        })
    }
}

/// Result of removing a person's samples.
#[derive(Debug)]
pub struct Removal {
    /// Whether anything was stored of the person.
    pub was_there: bool,
    /// Files with the person's name that are not a person's. They stay.
    pub left_alone: Vec<Problem>,
    /// Whether the removal survives a crash.
    pub durability: Durability,
}

/// Refuses samples that make a file above the reader's limit.
fn check_size(samples: &[Sample]) -> Result<(), GalleryError> {
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = csv_file::write(samples, &mut text);
    if text.len() as u64 > csv_file::MAX_BYTES {
        Err(GalleryError::TooLarge { size: text.len() })
    } else {
        Ok(())
    }
}
