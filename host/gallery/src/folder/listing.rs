//! Listing of a folder, and detection of files that appear or change while the service runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use rostro_common::cores::Cores;
use rostro_common::ids::PersonId;
use rostro_common::parallel;

use super::{CsvGallery, FileRescan};
use crate::csv_file::SampleFileError;
use crate::error::Problem;
use crate::file_names;
use crate::file_watch::{Fingerprint, FolderStamp};
use crate::store::{GalleryContents, PersonRecord};

impl CsvGallery {
    /// Reads the people in the folder on this thread and on idle `cores`. Returns them, and the
    /// unusable files.
    ///
    /// The first call records the state of each file. Later calls only read, because they fill one
    /// view, while [`Self::find_changes`] reports changes to every view.
    pub(super) fn list(&self, cores: &Cores) -> io::Result<GalleryContents> {
        let is_first = self.is_writer && self.stamps().is_none();
        // Stamped before listing, so that a later file changes the stamp.
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
            match file_names::id_of(&path) {
                Ok(id) => {
                    self.record_irregular_name(&id, &path);
                    files.entry(id).or_default().push(path);
                }
                Err(cause) => self.record_problem(&mut loaded, path, None, cause),
            }
        }
        for (id, paths) in &mut files {
            let canonical = self.path_of(id);
            paths.sort_by(|a, b| (*a != canonical, a).cmp(&(*b != canonical, b)));
        }
        let paths: Vec<&PathBuf> = files.values().flatten().collect();
        // The state of a file is from before it is read, so that a later change is noticed.
        let read = |path: &&PathBuf| (Fingerprint::at(path), self.read_samples(path));
        let mut read = parallel::map(cores, &paths, read).into_iter();
        for (id, paths) in files {
            let mut used: Option<PersonRecord> = None;
            for (path, (fingerprint, samples)) in paths.into_iter().zip(&mut read) {
                match (samples, &used) {
                    (Ok(samples), None) => {
                        self.record_valid(&loaded, &path, fingerprint);
                        used = Some(PersonRecord {
                            id: id.clone(),
                            samples,
                            templates: None,
                            path,
                        });
                    }
                    (Ok(_), Some(used)) => self.record_problem(
                        &mut loaded,
                        path,
                        fingerprint,
                        duplicate_of(&used.path),
                    ),
                    (Err(cause), _) => self.record_problem(&mut loaded, path, fingerprint, cause),
                }
            }
            loaded.people.extend(used);
        }
        self.load_contracts(&mut loaded, cores)?;
        loaded.problems.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(stamps) = stamps {
            *self.stamps() = Some(stamps);
        }
        Ok(loaded)
    }

    /// Returns the ids of people with a file in the folder, by the names of the files, and the
    /// problems of other files.
    pub(super) fn list_ids(&self) -> io::Result<(BTreeSet<PersonId>, Vec<Problem>)> {
        let (mut files, mut problems) = (BTreeMap::<PersonId, Vec<PathBuf>>::new(), Vec::new());
        let own = files_in(&self.folder)?.into_iter().map(|path| (path, true));
        let others = self
            .contract_files()?
            .into_iter()
            .map(|(_, path)| (path, false));
        for (path, is_own) in own.chain(others) {
            match file_names::id_of(&path) {
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

    /// Finds new files, and files that other programs changed.
    pub(super) fn find_changes(&self) -> io::Result<FileRescan> {
        self.lock.check();
        // First, so that a failure does not lose the changes of the poll.
        let mut changed = self.find_new_files()?;
        let polled = self.watched.poll();
        changed.extend(polled.changed);
        let mut rescan = FileRescan::default();
        for path in changed {
            let fingerprint = Fingerprint::at(&path);
            match (self.check_file(&path), fingerprint) {
                (Ok(id), Some(fingerprint)) => {
                    self.watched.record_valid(&path, fingerprint);
                    rescan.people.insert(id);
                }
                // The file is gone meanwhile.
                (Ok(_), None) => {}
                (Err(cause), fingerprint) => {
                    self.watched
                        .record_invalid(&path, fingerprint, cause.reason())
                }
            }
        }
        for path in polled.settled {
            if let Err(cause) = self.check_file(&path)
                && cause.is_damaged()
            {
                rescan
                    .problems
                    .push(self.quarantine(Problem::new(path, cause)));
            }
        }
        Ok(rescan)
    }

    /// Returns the person of a valid file that is in use.
    fn check_file(&self, path: &Path) -> Result<PersonId, SampleFileError> {
        let id = file_names::id_of(path)?;
        self.read_samples(path)?;
        let folder = path.parent().unwrap_or(&self.folder);
        let used = self
            .files_of(folder, &id)
            .into_iter()
            .find(|path| self.read_samples(path).is_ok());
        match used {
            Some(used) if used != path => Err(duplicate_of(&used)),
            _ => Ok(id),
        }
    }

    /// Returns people's files, of every contract, that were not seen before.
    fn find_new_files(&self) -> io::Result<Vec<PathBuf>> {
        let mut stamps = self.stamps();
        // The gallery is not loaded yet.
        let Some(before) = &*stamps else {
            return Ok(Vec::new());
        };
        let (mut now, mut files) = (HashMap::new(), Vec::new());
        for folder in self.folders()? {
            match before.get(&folder) {
                Some(stamp) if stamp.is_current(&folder)? => {
                    now.insert(folder, stamp.clone());
                }
                _ => {
                    let (folder, stamp) = stamped(folder)?;
                    files.extend(files_in(&folder)?);
                    now.insert(folder, stamp);
                }
            }
        }
        *stamps = Some(now);
        drop(stamps);
        let new = self.watched.retain_new(files);
        for path in new
            .iter()
            .filter(|path| path.parent() == Some(&self.folder))
        {
            if let Ok(id) = file_names::id_of(path) {
                self.record_irregular_name(&id, path);
            }
        }
        Ok(new)
    }

    /// Returns the gallery's folder and those of other contracts.
    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let others = self
            .contract_folders()?
            .into_iter()
            .map(|(_, folder)| folder);
        Ok(std::iter::once(self.folder.clone()).chain(others).collect())
    }

    /// Returns true if another program wrote a person's file that no rescan has reported yet.
    pub(crate) fn has_unseen(&self, id: &PersonId) -> bool {
        if self.stamps().is_none() {
            return false;
        }
        let others = self
            .contract_files_of(id)
            .unwrap_or_default()
            .into_iter()
            .map(|(_, path)| path);
        self.file_in_use(&self.folder, id)
            .into_iter()
            .chain(others)
            .any(|path| self.watched.is_changed(&path))
    }

    /// Records a file that this process wrote.
    pub(super) fn record_write(&self, path: &Path) {
        self.watched.record_own_write(path, Fingerprint::at(path));
    }

    /// Records that a file was removed, so that a later file of that name is new.
    pub(super) fn record_removal(&self, path: &Path) {
        self.watched.forget(path);
    }

    pub(super) fn record_valid(
        &self,
        loaded: &GalleryContents,
        path: &Path,
        fingerprint: Option<Fingerprint>,
    ) {
        if let Some(fingerprint) = fingerprint.filter(|_| loaded.is_first) {
            self.watched.record_valid(path, fingerprint);
        }
    }

    pub(super) fn record_problem(
        &self,
        loaded: &mut GalleryContents,
        path: PathBuf,
        fingerprint: Option<Fingerprint>,
        cause: SampleFileError,
    ) {
        if loaded.is_first {
            self.watched
                .record_invalid(&path, fingerprint, cause.reason());
        }
        loaded.problems.push(Problem::new(path, cause));
    }

    /// Records the name of a person's file that cannot be derived from the id.
    fn record_irregular_name(&self, id: &PersonId, path: &Path) {
        let name = path.file_name().unwrap_or_default();
        if *name != *file_names::canonical(id)
            && !file_names::spellings(id)
                .iter()
                .any(|spelling| name == spelling.as_str())
        {
            self.irregular_names()
                .entry(id.clone())
                .or_default()
                .insert(name.to_owned());
        }
    }

    pub(super) fn irregular_names(&self) -> MutexGuard<'_, HashMap<PersonId, BTreeSet<OsString>>> {
        self.irregular_names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn stamps(&self) -> MutexGuard<'_, Option<HashMap<PathBuf, FolderStamp>>> {
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamped(folder: PathBuf) -> io::Result<(PathBuf, FolderStamp)> {
    let stamp = FolderStamp::of(&folder)?;
    Ok((folder, stamp))
}

/// Returns the files in a folder with the ending of a person's file, sorted.
fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if file_names::has_ending(&path) {
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
