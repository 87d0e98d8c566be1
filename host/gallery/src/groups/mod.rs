//! Groups of people (a course, a shift, a door), to which a search can be restricted.
//!
//! Each group is a file in the gallery's folder, `.groups/<group>`, with an id on each line. An
//! operator copies and restores groups with the people.

mod file;
mod index;
#[cfg(fuzzing)]
pub mod property;
mod rescan;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rostro_common::fs::atomic::UNFINISHED;
use rostro_common::fs::durable::sync_folder;

use crate::error::{DatabaseFailure, remedy};
use crate::file_watch::{Fingerprint, FolderListing, WatchedFiles};
use file::LineRemoval;

pub use file::MAX_FILE_BYTES;
pub use index::{GroupIndex, Members};
pub use rostro_common::ids::{CaseKeys, InvalidId, PersonId};

/// Folder of the groups in the gallery's folder.
const FOLDER: &str = ".groups";

/// Reason of unusable group files, as a word for metrics.
const UNUSABLE: &str = "group";

/// Maximum number of groups.
pub const MAX_GROUPS: usize = 10_000;

/// Name of a group. The rules of a person's id apply.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(PersonId);

impl std::str::FromStr for GroupId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.parse().map(Self)
    }
}

impl std::fmt::Display for GroupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// All groups. Calls that change them block.
#[derive(Debug)]
pub struct Groups {
    folder: PathBuf,
    /// Members that requests read without waiting for the disk.
    index: GroupIndex,
    /// Names of the files; locked while a group is written.
    writing: Mutex<GroupNames>,
    /// Last listing of the folder.
    listing: Mutex<Option<FolderListing>>,
    /// Files that other programs may change.
    watched: WatchedFiles,
}

/// Names of groups and their files.
#[derive(Debug, Default)]
struct GroupNames {
    keys: CaseKeys,
    /// Names of files that differ from their groups' names, because another program wrote them in
    /// another form of Unicode.
    irregular_names: HashMap<GroupId, String>,
}

/// Result of writing a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupWrite {
    /// Whether the members or the group changed.
    pub changed: bool,
    /// False if the file system cannot sync folders, so that a crash of the machine may undo the
    /// change.
    pub durable: bool,
}

/// Why a group cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GroupsError {
    /// The folder, or a file in it, cannot be read or written.
    #[error("cannot {action} the groups in {folder}: {cause}{}", remedy(cause), folder = folder.display())]
    Io {
        /// Attempted action.
        action: &'static str,
        /// The folder.
        folder: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// The change took effect, and the disk failed afterwards.
    #[error("cannot sync the groups in {folder}, which were changed: {cause}; a crash may undo the change", folder = folder.display())]
    Unsynced {
        /// The folder.
        folder: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// The database cannot be used. Nothing was changed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
    /// A new name differs only in case from that of another group.
    #[error("there is a group of this name with other upper and lower case; choose another name")]
    NameTaken,
    /// The number of groups is at its limit.
    #[error("there are {MAX_GROUPS} groups; delete one that is not used any more")]
    TooMany,
    /// The group's file would exceed the reader's limit.
    #[error("the group would be larger than {MAX_FILE_BYTES} bytes of ids")]
    TooLarge,
    /// A file of that name exists and is not a group.
    #[error(
        "there is a file of that name that cannot be read as a group; mend it or move it away, and restart"
    )]
    Damaged,
}

impl Groups {
    /// Opens the groups of a gallery's folder for the process that writes them. Files that are not
    /// groups stay, and are logged.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn open(gallery: &Path) -> Result<Self, GroupsError> {
        // Removes temporary files that a crash left.
        for entry in fs::read_dir(gallery.join(FOLDER))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                // The next start retries a failed removal.
                let _ = fs::remove_file(entry.path());
            }
        }
        Self::open_unlocked(gallery)
    }

    /// Opens the groups of a folder that another process may be writing.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn open_unlocked(gallery: &Path) -> Result<Self, GroupsError> {
        let folder = gallery.join(FOLDER);
        let failed = |cause| GroupsError::Io {
            action: "read",
            folder: folder.clone(),
            cause,
        };
        let mut groups = BTreeMap::new();
        let listing = match FolderListing::of(&folder, |name| {
            !name.to_string_lossy().starts_with(UNFINISHED)
        }) {
            Ok(listing) => Some(listing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let watched = WatchedFiles::default();
        let left_alone = |name: &str, cause: &str| {
            watched.record_invalid(&folder.join(name), None, UNUSABLE);
            tracing::warn!(
                "left alone: a file in {} is not a group: {cause}",
                folder.display()
            );
        };
        let mut files: Vec<(GroupId, String)> = Vec::new();
        for name in listing.iter().flat_map(FolderListing::names) {
            let name = name.to_string_lossy().into_owned();
            match name.parse() {
                Ok(group) => files.push((group, name)),
                Err(cause) => left_alone(&name, &format!("the name is not an id: {cause}")),
            }
        }
        // A file with the group's own spelling takes precedence.
        files.sort_by_key(|(group, name)| (group.0.as_str() != name, name.clone()));
        let mut names = GroupNames::default();
        for (group, name) in files {
            let path = folder.join(&name);
            let fingerprint = path.symlink_metadata().ok().as_ref().map(Fingerprint::of);
            let read = match groups.contains_key(&group) {
                true => Err("the group has another file, of the same name in another form of Unicode; merge them".to_owned()),
                false => file::read(&path),
            };
            match read {
                Ok(members) if groups.len() < MAX_GROUPS => {
                    if let Some(fingerprint) = fingerprint {
                        watched.record_valid(&path, fingerprint);
                    }
                    names.insert(&group, name);
                    groups.insert(group, Arc::new(members));
                }
                Ok(_) => left_alone(&name, &format!("there are {MAX_GROUPS} groups")),
                Err(cause) => left_alone(&name, &cause),
            }
        }
        Ok(Self {
            folder,
            index: GroupIndex::new(groups),
            writing: Mutex::new(names),
            listing: Mutex::new(listing),
            watched,
        })
    }

    /// Returns the groups as requests see them.
    pub fn index(&self) -> &GroupIndex {
        &self.index
    }

    /// Adds a person to a group, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// If the group cannot be written. Nothing is changed then, unless the error is
    /// [`GroupsError::Unsynced`].
    pub fn add(&self, group: &GroupId, id: &PersonId) -> Result<GroupWrite, GroupsError> {
        self.add_all(group, std::slice::from_ref(id))
    }

    /// Adds people to a group at once. It is created if it does not exist, also without members.
    ///
    /// # Errors
    ///
    /// If the group cannot be written. Nothing is changed then, unless the error is
    /// [`GroupsError::Unsynced`].
    pub fn add_all(&self, group: &GroupId, ids: &[PersonId]) -> Result<GroupWrite, GroupsError> {
        let mut names = self.lock();
        let before = self.index.members(group);
        if before.is_none() {
            if self.index.count() >= MAX_GROUPS {
                return Err(GroupsError::TooMany);
            }
            if names.keys.is_taken(&group.0) {
                return Err(GroupsError::NameTaken);
            }
            // A file that could not be read as a group must not be overwritten.
            if self
                .folder
                .join(group.to_string())
                .symlink_metadata()
                .is_ok()
            {
                return Err(GroupsError::Damaged);
            }
        }
        let is_new = before.is_none();
        let before = before.unwrap_or_default();
        let mut members = HashSet::clone(&before);
        members.extend(ids.iter().cloned());
        if members.len() == before.len() && !is_new {
            return Ok(GroupWrite {
                changed: false,
                durable: true,
            });
        }
        let text = file::text(&members).ok_or(GroupsError::TooLarge)?;
        file::write(&self.folder, group.0.as_str(), &text).map_err(self.failed("write"))?;
        self.record_write(group.0.as_str());
        names.keys.insert(&group.0);
        self.index.set(group, members);
        if let Some(name) = names.irregular_names.remove(group) {
            // The next start retries a failed removal; the group's own file takes precedence.
            let _ = file::remove_renamed(&self.folder, &name, group.0.as_str());
        }
        self.synced()
    }

    /// Removes a person from a group. Returns none if the group does not exist.
    ///
    /// # Errors
    ///
    /// If the group cannot be written. Nothing is changed then, unless the error is
    /// [`GroupsError::Unsynced`].
    pub fn remove(
        &self,
        group: &GroupId,
        id: &PersonId,
    ) -> Result<Option<GroupWrite>, GroupsError> {
        let names = self.lock();
        let Some(members) = self.index.members(group) else {
            return Ok(None);
        };
        let changed = members.contains(id);
        let durable =
            !changed || self.remove_from_groups(&names, std::slice::from_ref(group), id)?;
        Ok(Some(GroupWrite { changed, durable }))
    }

    /// Removes a person from every group. Returns true if that survives a crash of the machine.
    ///
    /// # Errors
    ///
    /// If a group cannot be written. The person may then be left in some groups, unless the error
    /// is [`GroupsError::Unsynced`].
    pub fn remove_everywhere(&self, id: &PersonId) -> Result<bool, GroupsError> {
        let names = self.lock();
        self.remove_from_groups(&names, &self.index.groups_of(id), id)
    }

    /// Deletes a group, but none of its members.
    ///
    /// # Errors
    ///
    /// If the file cannot be removed. Nothing is changed then, unless the error is
    /// [`GroupsError::Unsynced`].
    pub fn delete(&self, group: &GroupId) -> Result<GroupWrite, GroupsError> {
        let mut names = self.lock();
        if self.index.members(group).is_none() {
            return Ok(GroupWrite {
                changed: false,
                durable: true,
            });
        }
        self.record_removal(names.file_of(group));
        match fs::remove_file(self.folder.join(names.file_of(group))) {
            // Another program removed the file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(self.failed("write"))?,
        }
        names.keys.remove(&group.0);
        names.irregular_names.remove(group);
        self.index.remove(group);
        self.synced()
    }

    /// Syncs the folder after a completed change.
    fn synced(&self) -> Result<GroupWrite, GroupsError> {
        let unsynced = |cause| GroupsError::Unsynced {
            folder: self.folder.clone(),
            cause,
        };
        Ok(GroupWrite {
            changed: true,
            durable: sync_folder(&self.folder).map_err(unsynced)?,
        })
    }

    /// Removes a person from groups that have them; the lock on `writing` is held. Returns true if
    /// that survives a crash of the machine.
    fn remove_from_groups(
        &self,
        names: &GroupNames,
        groups: &[GroupId],
        id: &PersonId,
    ) -> Result<bool, GroupsError> {
        if groups.is_empty() {
            return Ok(true);
        }
        let LineRemoval { files, durable } = file::remove_member_lines(
            &self.folder,
            groups.iter().map(|group| names.file_of(group)),
            id,
        );
        // The index follows the files, even if a sync failed.
        self.index.remove_member(groups.iter().take(files), id);
        durable.map_err(|cause| match files == groups.len() {
            true => GroupsError::Unsynced {
                folder: self.folder.clone(),
                cause,
            },
            false => self.failed("write")(cause),
        })
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> GroupsError {
        let folder = self.folder.clone();
        move |cause| GroupsError::Io {
            action,
            folder,
            cause,
        }
    }

    fn lock(&self) -> MutexGuard<'_, GroupNames> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupNames {
    /// Records the name of a group's file.
    fn insert(&mut self, group: &GroupId, name: String) {
        self.keys.insert(&group.0);
        if group.0.as_str() != name {
            self.irregular_names.insert(group.clone(), name);
        }
    }

    /// Returns the name of a group's file.
    fn file_of<'a>(&'a self, group: &'a GroupId) -> &'a str {
        self.irregular_names
            .get(group)
            .map_or(group.0.as_str(), String::as_str)
    }
}

#[cfg(test)]
mod tests;
