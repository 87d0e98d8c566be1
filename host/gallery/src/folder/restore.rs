//! Files that were set aside as damaged, and are whole: they were in the middle of being copied
//! then.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::PersonId;

use super::super::csv_file::{self, SampleFileError};
use super::super::{names, quarantine};
use super::CsvGallery;

/// A file that was set aside.
#[derive(Debug)]
pub struct QuarantinedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is and how many photos it has, if it is whole.
    pub person: Result<(PersonId, usize), SampleFileError>,
    /// The place that it can be restored to; none if it is damaged, or something is stored there.
    pub place: Option<PathBuf>,
    /// When it was written.
    modified: Option<SystemTime>,
}

impl CsvGallery {
    /// Returns the files that were set aside, the last written first, because of several with one
    /// place only the first is restored.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn all_set_aside(&self) -> io::Result<Vec<QuarantinedFile>> {
        let mut files: Vec<QuarantinedFile> = quarantine::all(&self.folder)?
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
        let id = names::id_of(&quarantine::original(&path));
        // Of two columns, one without the end of its last line was set aside for that.
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
                    place: None,
                    modified,
                };
            }
        };
        let place = quarantine::contract_of(&path).map_or_else(
            || self.path_of(&id),
            |contract| self.path_of_other(&contract, &id),
        );
        let is_free = place
            .parent()
            .is_some_and(|folder| self.files_of(folder, &id).is_empty());
        QuarantinedFile {
            path,
            person: Ok((id, samples.len())),
            place: is_free.then_some(place),
            modified,
        }
    }

    /// Moves a whole file back to its place. Returns false if it has none.
    ///
    /// # Errors
    ///
    /// If it cannot be moved.
    pub fn restore(&self, file: &QuarantinedFile) -> io::Result<bool> {
        let Some(place) = &file.place else {
            return Ok(false);
        };
        let _changing = self.changing();
        // Two files that were set aside may be of one person.
        if place.symlink_metadata().is_ok() {
            return Ok(false);
        }
        let folder = place.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        fs::rename(&file.path, place)?;
        let changed = folder
            .ancestors()
            .take_while(|folder| folder.starts_with(&self.folder));
        for folder in changed.chain(file.path.parent()) {
            sync_folder(folder)?;
        }
        Ok(true)
    }
}
