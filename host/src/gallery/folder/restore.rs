//! Files that were set aside as damaged, and are whole: they were in the middle of being copied then.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::super::csv_file::{self, FileError};
use super::super::{damaged, names};
use super::CsvGallery;
use crate::durable::sync_folder;
use crate::person::PersonId;

/// A file that was set aside.
#[derive(Debug)]
pub(crate) struct SetAside {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is and how many photos it has, if it is whole.
    pub person: Result<(PersonId, usize), FileError>,
    /// The place that it can be restored to; none if it is damaged, or something is stored there.
    pub place: Option<PathBuf>,
}

impl CsvGallery {
    /// All files that were set aside, by their names.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub(crate) fn all_set_aside(&self) -> io::Result<Vec<SetAside>> {
        Ok(damaged::all(&self.folder)?.into_iter().map(|path| self.examine(path)).collect())
    }

    fn examine(&self, path: PathBuf) -> SetAside {
        let id = names::id_of(&damaged::original(&path));
        let read = id.and_then(|id| Ok((id, csv_file::read(&path)?)));
        let (id, samples) = match read {
            Ok(read) => read,
            Err(cause) => return SetAside { path, person: Err(cause), place: None },
        };
        let place = self.files_of(&self.folder, &id).is_empty().then(|| self.path_of(&id));
        SetAside { path, person: Ok((id, samples.len())), place }
    }

    /// Moves a whole file back to its place. Returns false if it has none.
    ///
    /// # Errors
    ///
    /// If it cannot be moved.
    pub(crate) fn restore(&self, file: &SetAside) -> io::Result<bool> {
        let Some(place) = &file.place else { return Ok(false) };
        let _changing = self.changing();
        // Two files that were set aside may be of one person.
        if place.symlink_metadata().is_ok() {
            return Ok(false);
        }
        fs::rename(&file.path, place)?;
        sync_folder(&self.folder)?;
        sync_folder(file.path.parent().unwrap_or(&self.folder))?;
        Ok(true)
    }
}
