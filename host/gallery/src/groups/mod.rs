//! Groups of people (a course, a shift, a door), to whom a search can be restricted.
//!
//! Each is a file in the gallery's folder, `.groups/<group>`, with an id a line: it is part of what
//! an operator copies and restores.

mod again;
mod file;
#[cfg(fuzzing)]
pub mod property;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use rostro_common::fs::durable::sync_folder;

use crate::remedy;
use crate::watched::{Fingerprint, FolderListing, WatchedFiles};
use file::{LineRemoval, UNFINISHED};

pub use file::LARGEST;
pub use rostro_common::ids::{CaseKeys, InvalidId, PersonId};

/// Where the files are, in the gallery's folder.
const FOLDER: &str = ".groups";

/// The reason for which files that are no groups are left alone, as a word for metrics.
const LEFT_ALONE: &str = "group";

/// The most groups.
const MOST: usize = 10_000;

/// A group's name: what holds for a person's id holds for it.
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

/// Who is in a group.
pub type Members = Arc<HashSet<PersonId>>;

/// Every group. Calls that change one block.
#[derive(Debug)]
pub struct Groups {
    folder: PathBuf,
    /// What requests read, who never wait for the disk.
    groups: ArcSwap<BTreeMap<GroupId, Members>>,
    /// Held while a group is written.
    writing: Mutex<GroupNames>,
    /// The folder's files as they were last listed.
    listing: Mutex<Option<FolderListing>>,
    /// Files that are looked at again.
    watched: WatchedFiles,
}

/// The names of groups.
#[derive(Debug, Default)]
struct GroupNames {
    keys: CaseKeys,
    /// Names of files that differ from their groups' names: another program wrote them in another
    /// form of Unicode.
    spelled: HashMap<GroupId, String>,
}

/// The outcome of a change to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether anything is other than before.
    pub changed: bool,
    /// False where the file system cannot sync folders, so that a crash of the machine may undo the
    /// change.
    pub durable: bool,
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
    /// The change took effect, and the disk failed afterwards.
    #[error("cannot sync the groups in {folder}, which were changed: {cause}; a crash may undo the change", folder = folder.display())]
    Unsynced {
        /// The folder.
        folder: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// A new name differs only in case from that of another group.
    #[error("there is a group of this name with other upper and lower case; choose another name")]
    NameTaken,
    /// There are too many.
    #[error("there are {MOST} groups; delete one that is not used any more")]
    TooMany,
    /// It would be larger than any that is read.
    #[error("the group would be larger than {LARGEST} bytes of ids")]
    TooLarge,
    /// There is a file of that name that is no group.
    #[error(
        "there is a file of that name that cannot be read as a group; mend it or move it away, and restart"
    )]
    Damaged,
}

impl Groups {
    /// The groups of a gallery's folder, for the process that writes them. A file that is no group
    /// is left alone, with a line in the log.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn open(gallery: &Path) -> Result<Self, GroupsError> {
        // Writes that a crash cut short.
        for entry in fs::read_dir(gallery.join(FOLDER))
            .into_iter()
            .flatten()
            .flatten()
        {
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
    pub fn beside(gallery: &Path) -> Result<Self, GroupsError> {
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
            watched.note_bad(&folder.join(name), None, LEFT_ALONE);
            tracing::warn!(
                "left alone: a file in {} that is no group: {cause}",
                folder.display()
            );
        };
        let mut found: Vec<(GroupId, String)> = Vec::new();
        for name in listing.iter().flat_map(FolderListing::names) {
            let name = name.to_string_lossy().into_owned();
            match name.parse() {
                Ok(group) => found.push((group, name)),
                Err(cause) => left_alone(&name, &format!("the name is no id: {cause}")),
            }
        }
        // Of several spellings of one name that of the group itself counts.
        found.sort_by_key(|(group, name)| (group.0.as_str() != name, name.clone()));
        let mut names = GroupNames::default();
        for (group, name) in found {
            let path = folder.join(&name);
            let seen = path.symlink_metadata().ok().as_ref().map(Fingerprint::of);
            let read = match groups.contains_key(&group) {
                true => Err("the group has another file, of the same name in another form of Unicode; merge them".to_owned()),
                false => file::read(&path),
            };
            match read {
                Ok(members) if groups.len() < MOST => {
                    if let Some(seen) = seen {
                        watched.note_good(&path, seen);
                    }
                    names.insert(&group, name);
                    groups.insert(group, Arc::new(members));
                }
                Ok(_) => left_alone(&name, &format!("there are {MOST} groups")),
                Err(cause) => left_alone(&name, &cause),
            }
        }
        let (groups, writing, listing) = (
            ArcSwap::from_pointee(groups),
            Mutex::new(names),
            Mutex::new(listing),
        );
        Ok(Self {
            folder,
            groups,
            writing,
            listing,
            watched,
        })
    }

    /// Whether there is any.
    pub fn are_in_use(&self) -> bool {
        !self.groups.load().is_empty()
    }

    /// Who is in a group, if there is such a group.
    pub fn members(&self, group: &GroupId) -> Option<Members> {
        self.groups.load().get(group).cloned()
    }

    /// Every group with how many are in it.
    pub fn list(&self) -> Vec<(GroupId, usize)> {
        self.groups
            .load()
            .iter()
            .map(|(group, members)| (group.clone(), members.len()))
            .collect()
    }

    /// The groups that a person is in.
    pub fn of(&self, id: &PersonId) -> Vec<GroupId> {
        self.groups
            .load()
            .iter()
            .filter(|(_, members)| members.contains(id))
            .map(|(group, _)| group.clone())
            .collect()
    }

    /// Puts a person into a group, which is made if there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be written; nothing is changed then, unless it is [`GroupsError::Unsynced`].
    pub fn add(&self, group: &GroupId, id: &PersonId) -> Result<Change, GroupsError> {
        self.add_all(group, std::slice::from_ref(id))
    }

    /// Puts many people into a group at once.
    ///
    /// # Errors
    ///
    /// If it cannot be written; nothing is changed then, unless it is [`GroupsError::Unsynced`].
    pub fn add_all(&self, group: &GroupId, ids: &[PersonId]) -> Result<Change, GroupsError> {
        let mut names = self.locked();
        let groups = self.groups.load();
        if !groups.contains_key(group) {
            if groups.len() >= MOST {
                return Err(GroupsError::TooMany);
            }
            if names.keys.is_taken(&group.0) {
                return Err(GroupsError::NameTaken);
            }
            // Left alone at the start: writing would be its end.
            if self
                .folder
                .join(group.to_string())
                .symlink_metadata()
                .is_ok()
            {
                return Err(GroupsError::Damaged);
            }
        }
        let before = groups.get(group).cloned().unwrap_or_default();
        let mut members = HashSet::clone(&before);
        members.extend(ids.iter().cloned());
        if members.len() == before.len() {
            return Ok(Change {
                changed: false,
                durable: true,
            });
        }
        let text = file::text(&members).ok_or(GroupsError::TooLarge)?;
        file::write(&self.folder, group.0.as_str(), &text).map_err(self.failed("write"))?;
        self.note_written(group.0.as_str());
        names.keys.insert(&group.0);
        self.publish(group, Some(members));
        if let Some(name) = names.spelled.remove(group) {
            // Left to the next start if it cannot be removed; the group's own file counts.
            let _ = file::remove_renamed(&self.folder, &name, group.0.as_str());
        }
        self.synced()
    }

    /// Takes a person out of a group; nothing if there is no such group.
    ///
    /// # Errors
    ///
    /// If it cannot be written; nothing is changed then, unless it is [`GroupsError::Unsynced`].
    pub fn remove(&self, group: &GroupId, id: &PersonId) -> Result<Option<Change>, GroupsError> {
        let names = self.locked();
        let Some(members) = self.members(group) else {
            return Ok(None);
        };
        let changed = members.contains(id);
        let durable = !changed || self.take_out(&names, std::slice::from_ref(group), id)?;
        Ok(Some(Change { changed, durable }))
    }

    /// Takes a person out of every group. Returns whether that survives a crash of the machine.
    ///
    /// # Errors
    ///
    /// If a group cannot be written; the person may be left in some then, unless it is
    /// [`GroupsError::Unsynced`].
    pub fn forget(&self, id: &PersonId) -> Result<bool, GroupsError> {
        let names = self.locked();
        self.take_out(&names, &self.of(id), id)
    }

    /// Deletes a group, and nobody in it.
    ///
    /// # Errors
    ///
    /// If its file cannot be removed; nothing is changed then, unless it is
    /// [`GroupsError::Unsynced`].
    pub fn delete(&self, group: &GroupId) -> Result<Change, GroupsError> {
        let mut names = self.locked();
        if !self.groups.load().contains_key(group) {
            return Ok(Change {
                changed: false,
                durable: true,
            });
        }
        self.note_gone(names.file_of(group));
        match fs::remove_file(self.folder.join(names.file_of(group))) {
            // Somebody else removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(self.failed("write"))?,
        }
        names.keys.remove(&group.0);
        names.spelled.remove(group);
        self.publish(group, None);
        self.synced()
    }

    /// Syncs the folder after a change that took effect.
    fn synced(&self) -> Result<Change, GroupsError> {
        let unsynced = |cause| GroupsError::Unsynced {
            folder: self.folder.clone(),
            cause,
        };
        Ok(Change {
            changed: true,
            durable: sync_folder(&self.folder).map_err(unsynced)?,
        })
    }

    /// Takes a person out of groups in which they are; `writing` is held. Returns whether that
    /// survives a crash of the machine.
    fn take_out(
        &self,
        names: &GroupNames,
        from: &[GroupId],
        id: &PersonId,
    ) -> Result<bool, GroupsError> {
        if from.is_empty() {
            return Ok(true);
        }
        let LineRemoval { files, durable } = file::strike_out(
            &self.folder,
            from.iter().map(|group| names.file_of(group)),
            id,
        );
        // What is on the disk is in force, whatever the disk said then.
        let mut groups = BTreeMap::clone(&self.groups.load());
        for group in from.iter().take(files) {
            if let Some(members) = groups.get_mut(group) {
                Arc::make_mut(members).remove(id);
            }
        }
        self.groups.store(Arc::new(groups));
        durable.map_err(|cause| match files == from.len() {
            true => GroupsError::Unsynced {
                folder: self.folder.clone(),
                cause,
            },
            false => self.failed("write")(cause),
        })
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

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> GroupsError {
        let folder = self.folder.clone();
        move |cause| GroupsError::Io {
            action,
            folder,
            cause,
        }
    }

    fn locked(&self) -> MutexGuard<'_, GroupNames> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupNames {
    /// Records a group that is in the file of this name.
    fn insert(&mut self, group: &GroupId, name: String) {
        self.keys.insert(&group.0);
        if group.0.as_str() != name {
            self.spelled.insert(group.clone(), name);
        }
    }

    /// Returns the name of a group's file.
    fn file_of<'a>(&'a self, group: &'a GroupId) -> &'a str {
        self.spelled
            .get(group)
            .map_or(group.0.as_str(), String::as_str)
    }
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
        assert!(groups.add(&group("maths"), &id("alice")).unwrap().changed);
        assert!(
            !groups.add(&group("maths"), &id("alice")).unwrap().changed,
            "they were in it"
        );
        groups.add(&group("maths"), &id("bob")).unwrap();
        groups.add(&group("door"), &id("alice")).unwrap();
        assert_eq!(groups.of(&id("alice")), [group("door"), group("maths")]);
        let again = Groups::open(gallery.path()).unwrap();
        assert_eq!(again.list(), [(group("door"), 1), (group("maths"), 2)]);
        assert_eq!(
            again
                .remove(&group("maths"), &id("bob"))
                .unwrap()
                .map(|change| change.changed),
            Some(true)
        );
        assert_eq!(
            again
                .remove(&group("maths"), &id("bob"))
                .unwrap()
                .map(|change| change.changed),
            Some(false)
        );
        assert_eq!(again.remove(&group("physics"), &id("bob")).unwrap(), None);
        // A group of which everybody was taken out is still one: nobody is in it.
        again.forget(&id("alice")).unwrap();
        assert_eq!(
            Groups::open(gallery.path()).unwrap().list(),
            [(group("door"), 0), (group("maths"), 0)]
        );
        assert!(
            again.delete(&group("door")).unwrap().changed
                && !again.delete(&group("door")).unwrap().changed
        );
        assert!(
            Groups::open(gallery.path())
                .unwrap()
                .members(&group("door"))
                .is_none()
        );
    }

    #[test]
    fn what_is_no_group_is_left_alone() {
        let gallery = tempfile::tempdir().unwrap();
        let folder = gallery.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("good"), "alice\n\nbob\n").unwrap();
        fs::write(folder.join("no;id"), "alice\n").unwrap();
        fs::write(folder.join("broken"), "../alice\n").unwrap();
        fs::write(folder.join("binary"), [0xff, 0xfe]).unwrap();
        fs::write(folder.join(".unfinished-1"), "ali").unwrap();
        fs::create_dir(folder.join("folder")).unwrap();
        assert_eq!(
            Groups::beside(gallery.path()).unwrap().list(),
            [(group("good"), 2)]
        );
        assert!(
            folder.join(".unfinished-1").exists(),
            "it may be a write under way"
        );
        let groups = Groups::open(gallery.path()).unwrap();
        assert_eq!(groups.list(), [(group("good"), 2)]);
        assert!(folder.join("broken").exists() && !folder.join(".unfinished-1").exists());
    }

    #[test]
    fn a_write_that_fails_changes_nothing() {
        let gallery = tempfile::tempdir().unwrap();
        fs::write(
            gallery.path().join(FOLDER),
            "a file where the folder should be",
        )
        .unwrap();
        assert!(Groups::open(gallery.path()).is_err());
        fs::remove_file(gallery.path().join(FOLDER)).unwrap();
        let groups = Groups::open(gallery.path()).unwrap();
        fs::write(gallery.path().join(FOLDER), "").unwrap();
        assert!(groups.add(&group("maths"), &id("alice")).is_err() && !groups.are_in_use());
        // Nor does one that would overwrite what could not be read.
        fs::remove_file(gallery.path().join(FOLDER)).unwrap();
        fs::create_dir(gallery.path().join(FOLDER)).unwrap();
        fs::write(gallery.path().join(FOLDER).join("maths"), "no;id\n").unwrap();
        let groups = Groups::open(gallery.path()).unwrap();
        assert!(matches!(
            groups.add(&group("maths"), &id("alice")),
            Err(GroupsError::Damaged)
        ));
        assert_eq!(
            fs::read_to_string(gallery.path().join(FOLDER).join("maths")).unwrap(),
            "no;id\n"
        );
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
        rostro_common::text::warn_user(&format!("taken out of {GROUPS} groups in {taken:?}"));
        assert!(groups.of(&id("alice")).is_empty() && groups.of(&id("bob")).len() == GROUPS);
        let again = Groups::open(gallery.path()).unwrap();
        assert!(again.of(&id("alice")).is_empty() && again.of(&id("bob")).len() == GROUPS);
        assert!(fs::read_dir(&folder).unwrap().all(|file| {
            !fs::read_to_string(file.unwrap().path())
                .unwrap()
                .contains("alice")
        }));
        assert!(taken.as_secs() < 3, "{taken:?}");
    }

    #[test]
    fn names_of_any_script_are_groups() {
        let gallery = tempfile::tempdir().unwrap();
        let folder = gallery.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        fs::write(
            folder.join("Classe\u{301}"),
            "\u{feff}Jose\u{301}\r\n 李雷 \r\n",
        )
        .unwrap();
        let groups = Groups::open(gallery.path()).unwrap();
        assert_eq!(groups.list(), [(group("Classé"), 2)]);
        // A line is struck out in whatever form it was written, and the file renamed when the group
        // is next written.
        groups.forget(&id("José")).unwrap();
        assert_eq!(
            Groups::open(gallery.path()).unwrap().list(),
            [(group("Classé"), 1)]
        );
        groups.add(&group("Classé"), &id("Анна")).unwrap();
        let names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect();
        assert_eq!(names, ["Classé"]);
        let again = Groups::open(gallery.path()).unwrap();
        assert_eq!(again.members(&group("Classé")).unwrap().len(), 2);
        assert!(
            again.delete(&group("Classé")).unwrap().changed
                && fs::read_dir(&folder).unwrap().next().is_none()
        );
    }

    #[test]
    fn new_name_of_other_case_is_taken() {
        let gallery = tempfile::tempdir().unwrap();
        let groups = Groups::open(gallery.path()).unwrap();
        groups.add(&group("Maths"), &id("alice")).unwrap();
        assert!(matches!(
            groups.add(&group("MATHS"), &id("alice")),
            Err(GroupsError::NameTaken)
        ));
        groups.delete(&group("Maths")).unwrap();
        assert!(groups.add(&group("MATHS"), &id("alice")).unwrap().changed);
    }

    #[test]
    fn change_without_folder_sync_is_done() {
        use rostro_common::fs::durable::testing::failing_with;

        let gallery = tempfile::tempdir().unwrap();
        let groups = Groups::open(gallery.path()).unwrap();
        let (maths, alice, bob) = (group("maths"), id("alice"), id("bob"));
        let undurable = Change {
            changed: true,
            durable: false,
        };
        failing_with(libc::EINVAL, || {
            assert_eq!(groups.add(&maths, &alice).unwrap(), undurable);
            groups.add(&maths, &bob).unwrap();
            assert_eq!(groups.remove(&maths, &bob).unwrap(), Some(undurable));
            assert!(!groups.forget(&alice).unwrap());
            assert_eq!(groups.delete(&maths).unwrap(), undurable);
        });
        // Any other error is one; the change is in force nevertheless, here as on the disk, and the
        // message says so.
        failing_with(libc::EIO, || {
            let error = groups.add(&maths, &bob).unwrap_err();
            assert!(
                matches!(error, GroupsError::Unsynced { .. })
                    && error.to_string().contains("which were changed"),
                "{error}"
            );
            assert_eq!(groups.members(&maths).unwrap().len(), 1);
            assert!(matches!(
                groups.remove(&maths, &bob),
                Err(GroupsError::Unsynced { .. })
            ));
            assert!(groups.members(&maths).unwrap().is_empty());
            assert!(
                Groups::beside(gallery.path())
                    .unwrap()
                    .members(&maths)
                    .unwrap()
                    .is_empty()
            );
            assert!(matches!(
                groups.delete(&maths),
                Err(GroupsError::Unsynced { .. })
            ));
            assert!(groups.members(&maths).is_none());
        });
    }

    #[test]
    fn copied_group_is_taken_in() {
        let gallery = tempfile::tempdir().unwrap();
        let folder = gallery.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("maths"), "alice\nbo").unwrap();
        fs::write(folder.join("half"), [b'a', 0xc3]).unwrap();
        let groups = Groups::open(gallery.path()).unwrap();
        groups.add(&group("ours"), &id("alice")).unwrap();
        assert_eq!((groups.rescan().unwrap(), groups.left_alone()), (0, 1));
        fs::write(folder.join("maths"), "alice\nbob\ncarol\n").unwrap();
        fs::write(folder.join("half"), "aé\n").unwrap();
        fs::write(folder.join("new"), "dave\n").unwrap();
        fs::write(folder.join("no;id"), "dave\n").unwrap();
        assert_eq!(
            groups.rescan().unwrap(),
            1,
            "what is changing is taken in once it stops"
        );
        assert_eq!((groups.rescan().unwrap(), groups.left_alone()), (2, 1));
        assert_eq!(
            groups.list(),
            [
                (group("half"), 1),
                (group("maths"), 3),
                (group("new"), 1),
                (group("ours"), 1)
            ]
        );
        assert!(matches!(
            groups.add(&group("NEW"), &id("alice")),
            Err(GroupsError::NameTaken)
        ));
        // What this process writes or deletes is not news.
        groups.add(&group("maths"), &id("dave")).unwrap();
        groups.delete(&group("new")).unwrap();
        groups.forget(&id("alice")).unwrap();
        groups.rescan().unwrap();
        assert_eq!(
            groups.list(),
            [(group("half"), 1), (group("maths"), 3), (group("ours"), 0)]
        );
    }
}
