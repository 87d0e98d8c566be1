//! The files of a folder: who is in them, and which appear or change while the service runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use super::super::csv_file::{self, FileError};
use super::super::watched::{Fingerprint, Listing, Look};
use super::super::{Again, Gallery, Loaded, Problem, Stored, names};
use super::{CsvGallery, person};
use crate::person::PersonId;

impl CsvGallery {
    /// Everybody in the folder, and the files that cannot be used.
    pub(super) fn list(&self) -> io::Result<Loaded> {
        let mut loaded = Loaded::default();
        let mut files: BTreeMap<PersonId, Vec<PathBuf>> = BTreeMap::new();
        self.unusual().clear();
        let listing = self.listed()?;
        let listed = listing.names();
        *self.listing() = Some(listing);
        for name in listed {
            let path = self.folder.join(&name);
            match names::id_of(&path) {
                Ok(id) => {
                    self.note_unusual(&id, &name);
                    files.entry(id).or_default().push(path);
                }
                Err(cause) => self.note_problem(&mut loaded, path, None, cause),
            }
        }
        for (id, mut paths) in files {
            let canonical = self.path_of(&id);
            paths.sort_by(|a, b| (*a != canonical, a).cmp(&(*b != canonical, b)));
            let mut used: Option<Stored> = None;
            for path in paths {
                let seen = path.symlink_metadata().ok().as_ref().map(Fingerprint::of);
                match (csv_file::read(&path), &used) {
                    (Ok(samples), None) => {
                        self.note_good(&path, seen);
                        used = Some(Stored { id: id.clone(), samples: self.marked(samples), path });
                    }
                    (Ok(_), Some(used)) => self.note_problem(&mut loaded, path, seen, duplicate_of(&used.path)),
                    (Err(cause), _) => self.note_problem(&mut loaded, path, seen, cause),
                }
            }
            loaded.people.extend(used);
        }
        self.load_others(&mut loaded)?;
        loaded.problems.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(loaded)
    }

    /// Everybody who has a file in the folder, by the names of the files alone.
    pub(super) fn people_listed(&self) -> io::Result<(BTreeSet<PersonId>, Vec<Problem>)> {
        let (mut files, mut problems) = (BTreeMap::<PersonId, Vec<PathBuf>>::new(), Vec::new());
        let own = self.listed()?.names().into_iter().map(|name| (self.folder.join(name), true));
        let others = self.other_files()?.into_iter().map(|(_, path)| (path, false));
        for (path, is_own) in own.chain(others) {
            match names::id_of(&path) {
                Ok(id) => files.entry(id).or_default().extend(is_own.then_some(path)),
                Err(cause) => problems.push(Problem::new(path, cause)),
            }
        }
        for (id, paths) in files.iter().filter(|(_, paths)| paths.len() > 1) {
            let used = self.own_file(id);
            let unused = paths.iter().filter(|path| **path != used);
            problems.extend(unused.map(|path| Problem::new(path.clone(), duplicate_of(&used))));
        }
        Ok((files.into_keys().collect(), problems))
    }

    /// Looks at files that may have been in the middle of being copied, and for new ones.
    pub(super) fn look(&self) -> io::Result<Again> {
        let Look { mut changed, settled } = self.watched.look();
        changed.extend(self.appeared()?);
        let mut again = Again::default();
        for path in changed {
            let seen = path.symlink_metadata().ok().as_ref().map(Fingerprint::of);
            match self.judge(&path) {
                Ok(id) => {
                    self.note_good(&path, seen);
                    again.people.insert(id);
                }
                Err(cause) => self.watched.note_bad(&path, seen, cause.reason()),
            }
        }
        for path in settled {
            if let Err(cause) = self.judge(&path)
                && cause.is_damage()
            {
                again.problems.push(self.set_aside(Problem::new(path, cause)));
            }
        }
        Ok(again)
    }

    /// The person in a file that is the one in use of theirs.
    fn judge(&self, path: &Path) -> Result<PersonId, FileError> {
        let (id, _) = person(path)?;
        let folder = path.parent().unwrap_or(&self.folder);
        let used = self.files_of(folder, &id).into_iter().find(|path| csv_file::read(path).is_ok());
        match used {
            Some(used) if used != path => Err(duplicate_of(&used)),
            _ => Ok(id),
        }
    }

    /// The people's files that the last listing of the folder lacks.
    fn appeared(&self) -> io::Result<Vec<PathBuf>> {
        let mut listing = self.listing();
        let new = match &*listing {
            Some(before) if !before.is_current(&self.folder)? => {
                let now = self.listed()?;
                let new = now.since(before);
                *listing = Some(now);
                new
            }
            // Nothing changed, or nothing was loaded yet.
            _ => return Ok(Vec::new()),
        };
        drop(listing);
        for name in &new {
            if let Ok(id) = names::id_of(Path::new(name)) {
                self.note_unusual(&id, name);
            }
        }
        Ok(new.into_iter().map(|name| self.folder.join(name)).collect())
    }

    fn listed(&self) -> io::Result<Listing> {
        Listing::of(&self.folder, |name| names::has_ending(Path::new(name)))
    }

    /// Records a file that this process wrote.
    pub(super) fn note_written(&self, path: &Path) {
        self.watched.forget(path);
        if let (Some(listing), Some(name)) = (&mut *self.listing(), self.name_of(path)) {
            listing.insert(name);
        }
    }

    /// Records that a file is gone, so that one that comes in its place is new.
    pub(super) fn note_gone(&self, path: &Path) {
        self.watched.forget(path);
        if let (Some(listing), Some(name)) = (&mut *self.listing(), self.name_of(path)) {
            listing.remove(name);
        }
    }

    /// The name of a file that is right in the folder.
    fn name_of<'a>(&self, path: &'a Path) -> Option<&'a OsStr> {
        path.file_name().filter(|_| path.parent() == Some(&self.folder))
    }

    pub(super) fn note_good(&self, path: &Path, seen: Option<Fingerprint>) {
        if let Some(seen) = seen.filter(|_| self.is_ours) {
            self.watched.note_good(path, seen);
        }
    }

    pub(super) fn note_problem(&self, loaded: &mut Loaded, path: PathBuf, seen: Option<Fingerprint>, cause: FileError) {
        if self.is_ours {
            self.watched.note_bad(&path, seen, cause.reason());
        }
        loaded.problems.push(Problem::new(path, cause));
    }

    /// Remembers a name of a person's file that cannot be told from their id.
    fn note_unusual(&self, id: &PersonId, name: &OsStr) {
        if *name != *names::canonical(id) && !names::spellings(id).iter().any(|spelling| name == spelling.as_str()) {
            self.unusual().entry(id.clone()).or_default().insert(name.to_owned());
        }
    }

    pub(super) fn unusual(&self) -> MutexGuard<'_, HashMap<PersonId, BTreeSet<OsString>>> {
        self.unusual.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listing(&self) -> MutexGuard<'_, Option<Listing>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn duplicate_of(used: &Path) -> FileError {
    FileError::Duplicate(used.file_name().unwrap_or_default().to_string_lossy().into_owned())
}
