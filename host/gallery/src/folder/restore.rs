//! Quarantining damaged files, and restoring those that are whole: they were quarantined while they
//! were being copied.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::PersonId;

use super::CsvGallery;
use crate::csv_file::{self, SampleFileError};
use crate::error::{Problem, remedy};
use crate::{file_names, quarantine};

/// A file in quarantine.
#[derive(Debug)]
pub struct QuarantinedFile {
    /// Path in the quarantine.
    pub path: PathBuf,
    /// Id and number of photos of a whole file.
    pub person: Result<(PersonId, usize), SampleFileError>,
    /// Path to restore it to; none if the file is damaged, or the person already has a file there.
    pub target: Option<PathBuf>,
    /// Time of the last change.
    modified: Option<SystemTime>,
}

impl CsvGallery {
    /// Quarantines a damaged file, see [`crate::Store::quarantine`].
    pub fn quarantine(&self, problem: Problem) -> Problem {
        if !self.is_writer || !problem.cause.is_damaged() {
            return problem;
        }
        if !self.watched.has_settled(&problem.path) {
            return Problem {
                is_recent: true,
                ..problem
            };
        }
        let id = file_names::id_of(&problem.path).ok();
        let _lock = id.as_ref().map(|id| self.lock_person(id));
        // The person may have been enrolled again since the file was read.
        let is_damaged = self
            .read_samples(&problem.path)
            .is_err_and(|cause| cause.is_damaged());
        if !is_damaged {
            return problem;
        }
        match quarantine::add(&self.folder, &problem.path) {
            Ok(to) => {
                self.record_removal(&problem.path);
                Problem {
                    quarantined: Some(to),
                    ..problem
                }
            }
            Err(error) => {
                tracing::warn!(
                    "a damaged file in {} cannot be quarantined: {error}{}",
                    self.folder.display(),
                    remedy(&error)
                );
                problem
            }
        }
    }

    /// Returns the files in quarantine, latest first, because only the first of several with one
    /// target is restored.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn quarantined_files(&self) -> io::Result<Vec<QuarantinedFile>> {
        let mut files: Vec<QuarantinedFile> = quarantine::files(&self.folder)?
            .into_iter()
            .map(|path| self.examine(path))
            .collect();
        files.sort_by_key(|file| Reverse(file.modified));
        Ok(files)
    }

    fn examine(&self, path: PathBuf) -> QuarantinedFile {
        let modified = path
            .symlink_metadata()
            .and_then(|about| about.modified())
            .ok();
        let id = file_names::id_of(&quarantine::original_name(&path));
        // A file of two columns without a final line break was quarantined because it is cut off.
        let read = id.and_then(|id| match csv_file::read(&path)? {
            samples
                if samples.iter().all(|sample| sample.contract.is_none())
                    && csv_file::ends_within_line(&path)? =>
            {
                Err(SampleFileError::CutOff)
            }
            samples => Ok((id, samples)),
        });
        let (id, samples) = match read {
            Ok(read) => read,
            Err(cause) => {
                return QuarantinedFile {
                    path,
                    person: Err(cause),
                    target: None,
                    modified,
                };
            }
        };
        let target = quarantine::contract_of(&path).map_or_else(
            || self.path_of(&id),
            |contract| self.contract_path(&contract, &id),
        );
        let is_free = target
            .parent()
            .is_some_and(|folder| self.files_of(folder, &id).is_empty());
        QuarantinedFile {
            path,
            person: Ok((id, samples.len())),
            target: is_free.then_some(target),
            modified,
        }
    }

    /// Moves a whole file back to its target. Returns false without a target.
    ///
    /// # Errors
    ///
    /// If the file cannot be moved.
    pub fn restore(&self, file: &QuarantinedFile) -> io::Result<bool> {
        let Some(target) = &file.target else {
            return Ok(false);
        };
        let Ok((id, _)) = &file.person else {
            return Ok(false);
        };
        let _lock = self.lock_person(id);
        // Two files in quarantine may belong to one person.
        if target.symlink_metadata().is_ok() {
            return Ok(false);
        }
        let folder = target.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        fs::rename(&file.path, target)?;
        let changed = folder
            .ancestors()
            .take_while(|folder| folder.starts_with(&self.folder));
        for folder in changed.chain(file.path.parent()) {
            sync_folder(folder)?;
        }
        Ok(true)
    }
}
