//! Groups of people (a course, a shift, a door), to whom a search can be restricted.
//!
//! Each is a file in the gallery's folder, `.groups/<group>`, with an id a line: it is part of what an operator copies and restores.

pub(crate) mod file;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::gallery::remedy;
use crate::person::{InvalidId, PersonId};

pub(crate) use file::LARGEST;
use file::UNFINISHED;

/// Where the files are, in the gallery's folder.
const FOLDER: &str = ".groups";

/// The most groups.
const MOST: usize = 10_000;

/// A group's name: what holds for a person's id holds for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupId(PersonId);

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

/// Who is in a group.
pub(crate) type Members = Arc<HashSet<PersonId>>;

/// Every group. Calls that change one block.
#[derive(Debug)]
pub(crate) struct Groups {
    folder: PathBuf,
    /// What requests read, who never wait for the disk.
    groups: ArcSwap<BTreeMap<GroupId, Members>>,
    /// Held while a group is written.
    writing: Mutex<()>,
}

/// Why a group cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GroupsError {
    /// The folder, or a file in it, cannot be read or written.
    #[error("cannot {action} the groups in {folder}: {cause}{}", remedy(cause), folder = folder.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        folder: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// There are too many.
    #[error("there are {MOST} groups; delete one that is not used any more")]
    TooMany,
    /// It would be larger than any that is read.
    #[error("the group would be larger than {LARGEST} bytes of ids")]
    TooLarge,
    /// There is a file of that name that is no group.
    #[error("there is a file of that name that cannot be read as a group; mend it or move it away, and restart")]
    Damaged,
}

impl Groups {
    /// The groups of a gallery's folder, for the process that writes them. A file that is no group is left alone, with a line in the log.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub(crate) fn open(gallery: &Path) -> Result<Self, GroupsError> {
        // Writes that a crash cut short.
        for entry in fs::read_dir(gallery.join(FOLDER)).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                // Left to the next start if it cannot be removed.
                let _ = fs::remove_file(entry.path());
            }
        }
        Self::beside(gallery)
    }

    /// The groups of a folder that another process may be writing.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub(crate) fn beside(gallery: &Path) -> Result<Self, GroupsError> {
        let folder = gallery.join(FOLDER);
        let failed = |cause| GroupsError::Io { action: "read", folder: folder.clone(), cause };
        let mut groups = BTreeMap::new();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(UNFINISHED) {
                continue;
            }
            match read(&entry.path(), &name) {
                Ok((group, members)) if groups.len() < MOST => drop(groups.insert(group, members)),
                Ok(_) => tracing::warn!("left alone: a group beyond the first {MOST} in {}", folder.display()),
                Err(cause) => tracing::warn!("left alone: a file in {} that is no group: {cause}", folder.display()),
            }
        }
        Ok(Self { folder, groups: ArcSwap::from_pointee(groups), writing: Mutex::default() })
    }

    /// Whether there is any.
    pub(crate) fn are_in_use(&self) -> bool {
        !self.groups.load().is_empty()
    }

    /// Who is in a group, if there is such a group.
    pub(crate) fn members(&self, group: &GroupId) -> Option<Members> {
        self.groups.load().get(group).cloned()
    }

    /// Every group with how many are in it.
    pub(crate) fn list(&self) -> Vec<(GroupId, usize)> {
        self.groups.load().iter().map(|(group, members)| (group.clone(), members.len())).collect()
    }

    /// The groups that a person is in.
    pub(crate) fn of(&self, id: &PersonId) -> Vec<GroupId> {
        self.groups.load().iter().filter(|(_, members)| members.contains(id)).map(|(group, _)| group.clone()).collect()
    }

    /// Puts a person into a group, which is made if there is none; whether they were not in it before.
    ///
    /// # Errors
    ///
    /// If it cannot be written; nothing is changed then.
    pub(crate) fn add(&self, group: &GroupId, id: &PersonId) -> Result<bool, GroupsError> {
        Ok(self.add_all(group, std::slice::from_ref(id))? > 0)
    }

    /// The same of many people at once; how many were not in it before.
    ///
    /// # Errors
    ///
    /// If it cannot be written; nothing is changed then.
    pub(crate) fn add_all(&self, group: &GroupId, ids: &[PersonId]) -> Result<usize, GroupsError> {
        let _writing = self.locked();
        let groups = self.groups.load();
        if !groups.contains_key(group) {
            if groups.len() >= MOST {
                return Err(GroupsError::TooMany);
            }
            // Left alone at the start: writing would be its end.
            if self.folder.join(group.to_string()).symlink_metadata().is_ok() {
                return Err(GroupsError::Damaged);
            }
        }
        let before = groups.get(group).cloned().unwrap_or_default();
        let mut members = HashSet::clone(&before);
        members.extend(ids.iter().cloned());
        let added = members.len() - before.len();
        if added > 0 {
            self.write(group, &members)?;
            self.publish(group, Some(members));
        }
        Ok(added)
    }

    /// Takes a person out of a group; whether they were in it, or nothing if there is no such group.
    ///
    /// # Errors
    ///
    /// If it cannot be written; nothing is changed then.
    pub(crate) fn remove(&self, group: &GroupId, id: &PersonId) -> Result<Option<bool>, GroupsError> {
        let _writing = self.locked();
        let Some(members) = self.members(group) else { return Ok(None) };
        let was_in = members.contains(id);
        if was_in {
            self.take_out(std::slice::from_ref(group), id)?;
        }
        Ok(Some(was_in))
    }

    /// Takes a person out of every group.
    ///
    /// # Errors
    ///
    /// If a group cannot be written; the person may be left in some then.
    pub(crate) fn forget(&self, id: &PersonId) -> Result<(), GroupsError> {
        let _writing = self.locked();
        self.take_out(&self.of(id), id)
    }

    /// Deletes a group, and nobody in it; whether there was one.
    ///
    /// # Errors
    ///
    /// If its file cannot be removed.
    pub(crate) fn delete(&self, group: &GroupId) -> Result<bool, GroupsError> {
        let _writing = self.locked();
        if !self.groups.load().contains_key(group) {
            return Ok(false);
        }
        match fs::remove_file(self.folder.join(group.to_string())).and_then(|()| File::open(&self.folder)?.sync_all()) {
            // Somebody else removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(self.failed("write"))?,
        }
        self.publish(group, None);
        Ok(true)
    }

    /// Takes a person out of groups in which they are; `writing` is held.
    fn take_out(&self, from: &[GroupId], id: &PersonId) -> Result<(), GroupsError> {
        if from.is_empty() {
            return Ok(());
        }
        file::strike_out(&self.folder, from.iter().map(|group| group.0.as_str()), id).map_err(self.failed("write"))?;
        let mut groups = BTreeMap::clone(&self.groups.load());
        for group in from {
            if let Some(members) = groups.get_mut(group) {
                Arc::make_mut(members).remove(id);
            }
        }
        self.groups.store(Arc::new(groups));
        Ok(())
    }

    /// Has requests see a group as it was written; `writing` is held.
    fn publish(&self, group: &GroupId, members: Option<HashSet<PersonId>>) {
        let mut groups = BTreeMap::clone(&self.groups.load());
        match members {
            Some(members) => drop(groups.insert(group.clone(), Arc::new(members))),
            None => drop(groups.remove(group)),
        }
        self.groups.store(Arc::new(groups));
    }

    fn write(&self, group: &GroupId, members: &HashSet<PersonId>) -> Result<(), GroupsError> {
        let text = file::text(members).ok_or(GroupsError::TooLarge)?;
        file::write(&self.folder, group.0.as_str(), &text).map_err(self.failed("write"))
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> GroupsError {
        let folder = self.folder.clone();
        move |cause| GroupsError::Io { action, folder, cause }
    }

    fn locked(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path, name: &str) -> Result<(GroupId, Members), String> {
    let group: GroupId = name.parse().map_err(|error: InvalidId| format!("the name is no id: {error}"))?;
    Ok((group, Arc::new(file::read(path)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> PersonId {
        text.parse().unwrap()
    }

    fn group(text: &str) -> GroupId {
        text.parse().unwrap()
    }

    #[test]
    fn groups_are_there_again_after_a_restart() {
        let gallery = tempfile::tempdir().unwrap();
        let groups = Groups::open(gallery.path()).unwrap();
        assert!(!groups.are_in_use());
        assert!(groups.add(&group("maths"), &id("alice")).unwrap());
        assert!(!groups.add(&group("maths"), &id("alice")).unwrap(), "they were in it");
        groups.add(&group("maths"), &id("bob")).unwrap();
        groups.add(&group("door"), &id("alice")).unwrap();
        assert_eq!(groups.of(&id("alice")), [group("door"), group("maths")]);
        let again = Groups::open(gallery.path()).unwrap();
        assert_eq!(again.list(), [(group("door"), 1), (group("maths"), 2)]);
        assert_eq!(again.remove(&group("maths"), &id("bob")).unwrap(), Some(true));
        assert_eq!(again.remove(&group("maths"), &id("bob")).unwrap(), Some(false));
        assert_eq!(again.remove(&group("physics"), &id("bob")).unwrap(), None);
        // A group of which everybody was taken out is still one: nobody is in it.
        again.forget(&id("alice")).unwrap();
        assert_eq!(Groups::open(gallery.path()).unwrap().list(), [(group("door"), 0), (group("maths"), 0)]);
        assert!(again.delete(&group("door")).unwrap() && !again.delete(&group("door")).unwrap());
        assert!(Groups::open(gallery.path()).unwrap().members(&group("door")).is_none());
    }

    #[test]
    fn what_is_no_group_is_left_alone() {
        let gallery = tempfile::tempdir().unwrap();
        let folder = gallery.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("good"), "alice\n\nbob\n").unwrap();
        fs::write(folder.join("no id"), "alice\n").unwrap();
        fs::write(folder.join("broken"), "../alice\n").unwrap();
        fs::write(folder.join("binary"), [0xff, 0xfe]).unwrap();
        fs::write(folder.join(".unfinished-1"), "ali").unwrap();
        fs::create_dir(folder.join("folder")).unwrap();
        assert_eq!(Groups::beside(gallery.path()).unwrap().list(), [(group("good"), 2)]);
        assert!(folder.join(".unfinished-1").exists(), "it may be a write under way");
        let groups = Groups::open(gallery.path()).unwrap();
        assert_eq!(groups.list(), [(group("good"), 2)]);
        assert!(folder.join("broken").exists() && !folder.join(".unfinished-1").exists());
    }

    #[test]
    fn a_write_that_fails_changes_nothing() {
        let gallery = tempfile::tempdir().unwrap();
        fs::write(gallery.path().join(FOLDER), "a file where the folder should be").unwrap();
        assert!(Groups::open(gallery.path()).is_err());
        fs::remove_file(gallery.path().join(FOLDER)).unwrap();
        let groups = Groups::open(gallery.path()).unwrap();
        fs::write(gallery.path().join(FOLDER), "").unwrap();
        assert!(groups.add(&group("maths"), &id("alice")).is_err() && !groups.are_in_use());
        // Nor does one that would overwrite what could not be read.
        fs::remove_file(gallery.path().join(FOLDER)).unwrap();
        fs::create_dir(gallery.path().join(FOLDER)).unwrap();
        fs::write(gallery.path().join(FOLDER).join("maths"), "no id\n").unwrap();
        let groups = Groups::open(gallery.path()).unwrap();
        assert!(matches!(groups.add(&group("maths"), &id("alice")), Err(GroupsError::Damaged)));
        assert_eq!(fs::read_to_string(gallery.path().join(FOLDER).join("maths")).unwrap(), "no id\n");
    }

    #[test]
    fn who_was_in_thousands_of_groups_is_gone_from_all_of_them_soon() {
        const GROUPS: usize = 2_000;
        let gallery = tempfile::tempdir().unwrap();
        let folder = gallery.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        for number in 0..GROUPS {
            fs::write(folder.join(format!("g{number}")), "alice\nbob\n").unwrap();
        }
        let groups = Groups::open(gallery.path()).unwrap();
        let begun = std::time::Instant::now();
        groups.forget(&id("alice")).unwrap();
        let taken = begun.elapsed();
        println!("taken out of {GROUPS} groups in {taken:?}");
        assert!(groups.of(&id("alice")).is_empty() && groups.of(&id("bob")).len() == GROUPS);
        let again = Groups::open(gallery.path()).unwrap();
        assert!(again.of(&id("alice")).is_empty() && again.of(&id("bob")).len() == GROUPS);
        assert!(fs::read_dir(&folder).unwrap().all(|file| !fs::read_to_string(file.unwrap().path()).unwrap().contains("alice")));
        assert!(taken.as_secs() < 3, "{taken:?}");
    }
}
