//! The files of a folder: who is in them, and which appear or change while the service runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use rostro_common::ids::PersonId;

use super::super::csv_file::SampleFileError;
use super::super::watched::{Fingerprint, FolderStamp};
use super::super::{Gallery, GalleryChanges, GalleryContents, PersonRecord, Problem, names};
use super::CsvGallery;

impl CsvGallery {
    /// Everybody in the folder, and the files that cannot be used.
    ///
    /// The first call records what it saw. Later ones only read, because another view than theirs
    /// was filled before: what changed since is for the next look, which tells every view.
    pub(super) fn list(&self) -> io::Result<GalleryContents> {
        let is_first = self.is_ours && self.stamps().is_none();
        // Before the names: a file that comes later changes its folder.
        let stamps = match is_first {
            true => Some(
                self.folders()?
                    .into_iter()
                    .map(stamped)
                    .collect::<io::Result<_>>()?,
            ),
            false => None,
        };
        let mut loaded = GalleryContents {
            is_first,
            ..GalleryContents::default()
        };
        let mut files: BTreeMap<PersonId, Vec<PathBuf>> = BTreeMap::new();
        for path in files_in(&self.folder)? {
            match names::id_of(&path) {
                Ok(id) => {
                    self.note_unusual(&id, &path);
                    files.entry(id).or_default().push(path);
                }
                Err(cause) => self.note_problem(&mut loaded, path, None, cause),
            }
        }
        for (id, mut paths) in files {
            let canonical = self.path_of(&id);
            paths.sort_by(|a, b| (*a != canonical, a).cmp(&(*b != canonical, b)));
            let mut used: Option<PersonRecord> = None;
            for path in paths {
                let seen = Fingerprint::at(&path);
                match (self.samples_in(&path), &used) {
                    (Ok(samples), None) => {
                        self.note_good(&loaded, &path, seen);
                        used = Some(PersonRecord {
                            id: id.clone(),
                            samples,
                            path,
                        });
                    }
                    (Ok(_), Some(used)) => {
                        self.note_problem(&mut loaded, path, seen, duplicate_of(&used.path))
                    }
                    (Err(cause), _) => self.note_problem(&mut loaded, path, seen, cause),
                }
            }
            loaded.people.extend(used);
        }
        self.load_others(&mut loaded)?;
        loaded.problems.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(stamps) = stamps {
            *self.stamps() = Some(stamps);
        }
        Ok(loaded)
    }

    /// Returns the people who have a file in the folder, by the names of the files alone, and the
    /// problems with other files.
    pub(super) fn people_listed(&self) -> io::Result<(BTreeSet<PersonId>, Vec<Problem>)> {
        let (mut files, mut problems) = (BTreeMap::<PersonId, Vec<PathBuf>>::new(), Vec::new());
        let own = files_in(&self.folder)?.into_iter().map(|path| (path, true));
        let others = self
            .other_files()?
            .into_iter()
            .map(|(_, path)| (path, false));
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

    /// Looks at files that other programs may have changed, and for new ones.
    pub(super) fn look(&self) -> io::Result<GalleryChanges> {
        self.lock.check();
        // First: a failure must not lose what the other has found.
        let mut changed = self.appeared()?;
        let look = self.watched.look();
        changed.extend(look.changed);
        let mut again = GalleryChanges::default();
        for path in changed {
            let seen = Fingerprint::at(&path);
            match (self.judge(&path), seen) {
                (Ok(id), Some(seen)) => {
                    self.watched.note_good(&path, seen);
                    again.people.insert(id);
                }
                // It is gone by now.
                (Ok(_), None) => {}
                (Err(cause), seen) => self.watched.note_bad(&path, seen, cause.reason()),
            }
        }
        for path in look.settled {
            if let Err(cause) = self.judge(&path)
                && cause.is_damage()
            {
                again
                    .problems
                    .push(self.set_aside(Problem::new(path, cause)));
            }
        }
        Ok(again)
    }

    /// The person in a file that is the one in use of theirs.
    fn judge(&self, path: &Path) -> Result<PersonId, SampleFileError> {
        let id = names::id_of(path)?;
        self.samples_in(path)?;
        let folder = path.parent().unwrap_or(&self.folder);
        let used = self
            .files_of(folder, &id)
            .into_iter()
            .find(|path| self.samples_in(path).is_ok());
        match used {
            Some(used) if used != path => Err(duplicate_of(&used)),
            _ => Ok(id),
        }
    }

    /// The people's files, of every contract, that were not seen before.
    fn appeared(&self) -> io::Result<Vec<PathBuf>> {
        let mut stamps = self.stamps();
        // Nothing was loaded yet.
        let Some(before) = &*stamps else {
            return Ok(Vec::new());
        };
        let (mut now, mut found) = (HashMap::new(), Vec::new());
        for folder in self.folders()? {
            match before.get(&folder) {
                Some(stamp) if stamp.is_current(&folder)? => {
                    drop(now.insert(folder, stamp.clone()))
                }
                _ => {
                    let (folder, stamp) = stamped(folder)?;
                    found.extend(files_in(&folder)?);
                    now.insert(folder, stamp);
                }
            }
        }
        *stamps = Some(now);
        drop(stamps);
        let new = self.watched.unknown(found);
        for path in new
            .iter()
            .filter(|path| path.parent() == Some(&self.folder))
        {
            if let Ok(id) = names::id_of(path) {
                self.note_unusual(&id, path);
            }
        }
        Ok(new)
    }

    /// The gallery's folder, and those of other contracts.
    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let others = self
            .contract_folders()?
            .into_iter()
            .map(|(_, folder)| folder);
        Ok(std::iter::once(self.folder.clone()).chain(others).collect())
    }

    /// Returns true if another program wrote a person's file, and the views do not know it yet.
    pub(super) fn has_unseen(&self, id: &PersonId) -> bool {
        if self.stamps().is_none() {
            return false;
        }
        let others = self
            .others_of(id)
            .unwrap_or_default()
            .into_iter()
            .map(|(_, path)| path);
        self.file_in_use(&self.folder, id)
            .into_iter()
            .chain(others)
            .any(|path| self.watched.is_changed(&path))
    }

    /// Records a file that this process wrote.
    pub(super) fn note_written(&self, path: &Path) {
        self.watched.note_own(path, Fingerprint::at(path));
    }

    /// Records that a file is gone, so that one that comes in its place is new.
    pub(super) fn note_gone(&self, path: &Path) {
        self.watched.forget(path);
    }

    pub(super) fn note_good(
        &self,
        loaded: &GalleryContents,
        path: &Path,
        seen: Option<Fingerprint>,
    ) {
        if let Some(seen) = seen.filter(|_| loaded.is_first) {
            self.watched.note_good(path, seen);
        }
    }

    pub(super) fn note_problem(
        &self,
        loaded: &mut GalleryContents,
        path: PathBuf,
        seen: Option<Fingerprint>,
        cause: SampleFileError,
    ) {
        if loaded.is_first {
            self.watched.note_bad(&path, seen, cause.reason());
        }
        loaded.problems.push(Problem::new(path, cause));
    }

    /// Remembers a name of a person's file that cannot be told from their id.
    fn note_unusual(&self, id: &PersonId, path: &Path) {
        let name = path.file_name().unwrap_or_default();
        if *name != *names::canonical(id)
            && !names::spellings(id)
                .iter()
                .any(|spelling| name == spelling.as_str())
        {
            self.unusual()
                .entry(id.clone())
                .or_default()
                .insert(name.to_owned());
        }
    }

    pub(super) fn unusual(&self) -> MutexGuard<'_, HashMap<PersonId, BTreeSet<OsString>>> {
        self.unusual.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamps(&self) -> MutexGuard<'_, Option<HashMap<PathBuf, FolderStamp>>> {
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamped(folder: PathBuf) -> io::Result<(PathBuf, FolderStamp)> {
    let stamp = FolderStamp::of(&folder)?;
    Ok((folder, stamp))
}

/// The files in a folder that have the ending of a person's, in their order.
fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if names::has_ending(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn duplicate_of(used: &Path) -> SampleFileError {
    SampleFileError::Duplicate(
        used.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    )
}
