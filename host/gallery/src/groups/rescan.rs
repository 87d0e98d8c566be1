//! Detects group files that another program writes while the service runs, such as a restored
//! backup.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use rostro_common::fs::atomic::UNFINISHED;

use super::file;
use super::{GroupId, Groups, GroupsError, MAX_GROUPS, UNUSABLE};
use crate::file_watch::{Fingerprint, FolderListing};

impl Groups {
    /// Reloads groups from files that other programs wrote since the last rescan. Returns their
    /// number.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn rescan(&self) -> Result<usize, GroupsError> {
        let mut changed = self.watched.poll().changed;
        changed.extend(self.find_new_files().map_err(self.failed("read"))?);
        Ok(changed.into_iter().filter(|path| self.reload(path)).count())
    }

    /// Returns the number of files that are not groups.
    pub fn left_alone(&self) -> usize {
        self.watched.left_alone().values().sum()
    }

    /// Reloads a file. Returns true if it is a group that changed.
    fn reload(&self, path: &Path) -> bool {
        let mut names = self.lock();
        let fingerprint = path.symlink_metadata().ok().as_ref().map(Fingerprint::of);
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let group = name.parse::<GroupId>().ok();
        // A group keeps the file that it is already in.
        let group = group.filter(|group| match self.index.members(group) {
            Some(_) => names.file_of(group) == name,
            None => self.index.count() < MAX_GROUPS,
        });
        match (group, fingerprint, file::read(path)) {
            (Some(group), Some(fingerprint), Ok(members)) => {
                self.watched.record_valid(path, fingerprint);
                let is_new = self
                    .index
                    .members(&group)
                    .is_none_or(|before| *before != members);
                names.insert(&group, name);
                if is_new {
                    self.index.set(&group, members);
                }
                is_new
            }
            (_, fingerprint, _) => {
                self.watched.record_invalid(path, fingerprint, UNUSABLE);
                false
            }
        }
    }

    /// Returns the files that the last listing of the folder lacks.
    fn find_new_files(&self) -> io::Result<Vec<PathBuf>> {
        let mut listing = self.listing();
        if let Some(before) = &*listing
            && before.is_current(&self.folder)?
        {
            return Ok(Vec::new());
        }
        let current = match FolderListing::of(&self.folder, |name| {
            !name.to_string_lossy().starts_with(UNFINISHED)
        }) {
            Ok(current) => current,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let new = listing
            .as_ref()
            .map_or_else(|| current.names(), |before| current.since(before));
        *listing = Some(current);
        Ok(new.into_iter().map(|name| self.folder.join(name)).collect())
    }

    /// Records a file that this process wrote.
    pub(super) fn record_write(&self, name: &str) {
        let path = self.folder.join(name);
        self.watched.record_own_write(&path, Fingerprint::at(&path));
        if let Some(listing) = &mut *self.listing() {
            listing.insert(name.as_ref());
        }
    }

    /// Records that a file was removed, so that a later file of that name is new.
    pub(super) fn record_removal(&self, name: &str) {
        self.watched.forget(&self.folder.join(name));
        if let Some(listing) = &mut *self.listing() {
            listing.remove(name.as_ref());
        }
    }

    fn listing(&self) -> MutexGuard<'_, Option<FolderListing>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
