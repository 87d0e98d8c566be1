//! A folder with a CSV file for each person.

mod batch;
mod contracts;
mod listing;
mod restore;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tempfile::NamedTempFile;

use rostro_common::cancel::CancelScope;
use rostro_common::fs::durable::sync_folder;
use rostro_common::fs::identity;
use rostro_common::fs::lock::{FolderLock, FolderLockError};
use rostro_common::ids::{ContractId, PersonId};
use rostro_common::sample::Sample;

use super::csv_file::{self, SampleFileError};
use super::watched::{FolderStamp, WatchedFiles};
use super::{
    BatchOutcome, ByContract, Gallery, GalleryChanges, GalleryContents, GalleryError, Problem,
    Removal, SampleLocation, names, quarantine, remedy,
};

pub(super) use contracts::OTHER_CONTRACTS;
pub use restore::QuarantinedFile;

/// How the files of unfinished writes begin: with a dot, as no id does.
const UNFINISHED: &str = ".unfinished-";

/// The file by which the folder is locked.
const LOCK: &str = ".lock";

/// A gallery in a folder: `<id>.csv` for each person.
#[derive(Debug)]
pub struct CsvGallery {
    folder: PathBuf,
    /// Whether this process is the one that writes it: another may be writing now.
    is_ours: bool,
    /// Held as long as the folder is written.
    lock: FolderLock,
    /// Held while a file is replaced, removed or set aside: what was read as damaged may be another
    /// by then.
    changing: Mutex<()>,
    /// The contract of samples that state none.
    legacy: OnceLock<ContractId>,
    /// How long its embeddings are.
    dimension: OnceLock<usize>,
    /// Names of people's files that [`names::spellings`] does not tell, some of which may be gone.
    unusual: Mutex<HashMap<PersonId, BTreeSet<OsString>>>,
    /// The folders whose files were seen, once they were loaded.
    stamps: Mutex<Option<HashMap<PathBuf, FolderStamp>>>,
    /// Each file as it was seen.
    watched: WatchedFiles,
    /// Whether the folder could be synced after the last write, or why not.
    durable: Mutex<Result<bool, (io::ErrorKind, String)>>,
}

impl CsvGallery {
    /// Locks the folder for the process that writes it, and opens it. While another process has the
    /// lock, waits for it until `scope` ends.
    ///
    /// A folder on a disk that cannot be written is not locked: nothing is changed there.
    ///
    /// # Errors
    ///
    /// If another process has the lock, and as [`Self::open`].
    pub fn lock(folder: &Path, scope: &CancelScope) -> Result<Self, GalleryError> {
        fs::create_dir_all(folder).map_err(GalleryError::folder("make", folder))?;
        let lock = match FolderLock::take(folder, LOCK, "the gallery", scope) {
            Ok(lock) => lock,
            Err(FolderLockError::InUse) => {
                return Err(GalleryError::InUse {
                    folder: folder.to_owned(),
                });
            }
            // What that is for changes is told below.
            Err(FolderLockError::Io(cause)) if is_of_the_disk(&cause) => FolderLock::none(),
            Err(FolderLockError::Io(cause)) => {
                // A folder that cannot be written is the better news.
                Self::beside(folder)
                    .unfinished()
                    .map_err(GalleryError::folder("write into", folder))?;
                return Err(GalleryError::folder("lock", folder)(cause));
            }
        };
        Ok(Self {
            lock,
            ..Self::open(folder)?
        })
    }

    /// Opens the folder for the process that writes it, making it if it is not there.
    ///
    /// A disk that is full or cannot be written does not keep those who are stored from being
    /// recognised: the log says so.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or not be written for another reason.
    pub(crate) fn open(folder: &Path) -> Result<Self, GalleryError> {
        fs::create_dir_all(folder).map_err(GalleryError::folder("make", folder))?;
        let this = Self {
            is_ours: true,
            ..Self::beside(folder)
        };
        // Writes that a crash cut short; each person's own file is whole. Only now: later there are
        // writes under way.
        for entry in fs::read_dir(folder)
            .map_err(GalleryError::folder("read", folder))?
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                // Left to the next start if it cannot be removed.
                let _ = fs::remove_file(entry.path());
            }
        }
        // Permissions say little (root, read-only mounts): trying does.
        match this.unfinished() {
            Ok(_) => Ok(this),
            Err(cause) if is_of_the_disk(&cause) => {
                tracing::error!(
                    "nobody can be enrolled: the gallery {} cannot be written: {cause}{}",
                    folder.display(),
                    remedy(&cause)
                );
                Ok(this)
            }
            Err(cause) => Err(GalleryError::folder("write into", folder)(cause)),
        }
    }

    /// A folder that another process may be writing: nothing in it is touched unless somebody is
    /// stored or removed.
    pub fn beside(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            is_ours: false,
            lock: FolderLock::none(),
            changing: Mutex::default(),
            legacy: OnceLock::new(),
            unusual: Mutex::default(),
            dimension: OnceLock::new(),
            stamps: Mutex::default(),
            watched: WatchedFiles::default(),
            durable: Mutex::new(Ok(true)),
        }
    }

    fn path_of(&self, id: &PersonId) -> PathBuf {
        self.folder.join(names::canonical(id))
    }

    /// A person's files in a folder, however they are spelled, the canonical one first. They are
    /// asked for by name: a folder may have many.
    fn files_of(&self, folder: &Path, id: &PersonId) -> Vec<PathBuf> {
        let mut names: Vec<OsString> = names::spellings(id)
            .into_iter()
            .map(OsString::from)
            .collect();
        if folder == self.folder {
            names.extend(self.unusual().get(id).into_iter().flatten().cloned());
        }
        let mut seen = HashSet::new();
        let mut files = Vec::new();
        for path in names.into_iter().map(|name| folder.join(name)) {
            // Where case or form is ignored, several names are one file.
            if let Ok(metadata) = path.symlink_metadata()
                && identity(&metadata).is_none_or(|file| seen.insert(file))
            {
                files.push(path);
            }
        }
        files
    }

    /// The file that a person's own samples are in, or will be in.
    fn own_file(&self, id: &PersonId) -> PathBuf {
        self.file_in_use(&self.folder, id)
            .unwrap_or_else(|| self.path_of(id))
    }

    /// The first of a person's files in a folder that can be read, else the first that is there.
    fn file_in_use(&self, folder: &Path, id: &PersonId) -> Option<PathBuf> {
        let mut files = self.files_of(folder, id);
        // Nearly always there is one.
        let readable = if files.len() > 1 {
            files.iter().position(|path| self.samples_in(path).is_ok())
        } else {
            None
        };
        (!files.is_empty()).then(|| files.swap_remove(readable.unwrap_or_default()))
    }

    /// What is in a person's own file, which is about to be replaced. One that would be overwritten
    /// and is not theirs is set aside.
    fn rescue_own(&self, id: &PersonId) -> io::Result<Vec<Sample>> {
        let (own, canonical) = (self.own_file(id), self.path_of(id));
        if own == canonical {
            return self.rescue(&own);
        }
        self.rescue(&canonical)?;
        Ok(self.samples_in(&own).unwrap_or_default())
    }

    /// The file of another name that a person is in whose file of this path is written for the
    /// first time.
    fn renamed_by(&self, path: &Path) -> Option<PathBuf> {
        if path.symlink_metadata().is_ok() {
            return None;
        }
        let id = names::id_of(path).ok()?;
        self.file_in_use(path.parent()?, &id)
            .filter(|used| self.samples_in(used).is_ok())
    }

    /// Removes the file that a person was in before they were written, unless the file system takes
    /// both names for one.
    fn remove_renamed(&self, before: &Path, now: &Path) {
        let same = |path: &Path| path.symlink_metadata().ok().as_ref().and_then(identity);
        if same(before).is_some_and(|file| Some(file) == same(now)) {
            return;
        }
        self.note_gone(before);
        let removed = fs::remove_file(before)
            .and_then(|()| sync_folder(before.parent().unwrap_or(&self.folder)));
        if let Err(error) = removed {
            tracing::warn!(
                "an older file of a person in {} cannot be removed: {error}{}",
                self.folder.display(),
                remedy(&error)
            );
        }
    }

    /// The samples in a file, each with a contract if that can be known.
    ///
    /// # Errors
    ///
    /// [`SampleFileError`]. A file of two columns that ends within an embedding is cut off, which shows
    /// only by the length that its contract has.
    fn samples_in(&self, path: &Path) -> Result<Vec<Sample>, SampleFileError> {
        let mut samples = csv_file::read(path)?;
        let is_short = |sample: &Sample| {
            sample.contract.is_none()
                && self
                    .dimension
                    .get()
                    .is_some_and(|most| sample.embedding.len() < *most)
        };
        if samples.iter().any(is_short) && csv_file::ends_within_line(path)? {
            return Err(SampleFileError::CutOff);
        }
        for sample in &mut samples {
            sample.contract = sample
                .contract
                .take()
                .or_else(|| self.legacy.get().cloned());
        }
        Ok(samples)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in a file that is about to be replaced or removed. One that is damaged is set aside,
    /// and has nothing.
    fn rescue(&self, path: &Path) -> io::Result<Vec<Sample>> {
        match self.samples_in(path) {
            Ok(samples) => Ok(samples),
            Err(cause) if cause.is_content() => {
                let aside = Some(quarantine::set_aside(&self.folder, path)?);
                self.note_gone(path);
                tracing::warn!(
                    "{}",
                    Problem {
                        aside,
                        ..Problem::new(path.to_owned(), cause)
                    }
                    .to_string()
                    .escape_debug()
                );
                Ok(Vec::new())
            }
            Err(SampleFileError::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
                Err(error)
            }
            // A person without a file has nothing, and what is no file is nobody's.
            Err(_) => Ok(Vec::new()),
        }
    }

    /// A new file in the folder, removed again unless it is given a name.
    fn unfinished(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        // Cut by the umask, like any file's: others may have to read the gallery.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.prefix(UNFINISHED).tempfile_in(&self.folder)
    }

    /// Records whether the last write is durable.
    fn note_synced(&self, synced: io::Result<bool>) {
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) =
            synced.map_err(|error| (error.kind(), error.to_string()));
    }

    /// Writes samples to `path` so that it is at any moment, crashes included, the old file or the
    /// new.
    fn write(&self, path: &Path, samples: &[Sample]) -> io::Result<()> {
        let mut file = self.unfinished()?;
        let mut text = Vec::new();
        csv_file::write(samples, &mut text)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        let renamed = self.renamed_by(path);
        file.persist(path).map_err(|error| error.error)?;
        self.note_written(path);
        // The rename is in the folder, which is durable only when it is synced itself. It has
        // happened: a failure here is no failure to write.
        self.note_synced(sync_folder(&self.folder));
        if let Some(renamed) = renamed {
            self.remove_renamed(&renamed, path);
        }
        Ok(())
    }
}

impl Gallery for CsvGallery {
    fn adopt_legacy(&self, contract: &ContractId, dimension: Option<usize>) {
        // Either may have been said before.
        let _ = self.legacy.set(contract.clone());
        if let Some(dimension) = dimension.filter(|_| self.legacy.get() == Some(contract)) {
            let _ = self.dimension.set(dimension);
        }
    }

    fn load(&self) -> Result<GalleryContents, GalleryError> {
        self.list()
            .map_err(GalleryError::folder("read", &self.folder))
    }

    fn ids(&self) -> Result<(BTreeSet<PersonId>, Vec<Problem>), GalleryError> {
        self.people_listed()
            .map_err(GalleryError::folder("read", &self.folder))
    }

    fn rescan(&self) -> Result<GalleryChanges, GalleryError> {
        self.look()
            .map_err(GalleryError::folder("read", &self.folder))
    }

    fn has_unseen_files(&self, id: &PersonId) -> bool {
        self.has_unseen(id)
    }

    fn is_durable(&self) -> Result<bool, GalleryError> {
        let last = self
            .durable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        last.map_err(|(kind, cause)| GalleryError::Unsynced {
            folder: self.folder.clone(),
            cause: io::Error::new(kind, cause),
        })
    }

    fn left_alone(&self) -> BTreeMap<&'static str, usize> {
        self.watched.left_alone()
    }

    fn set_aside(&self, problem: Problem) -> Problem {
        if !self.is_ours || !problem.cause.is_damage() {
            return problem;
        }
        if !self.watched.has_settled(&problem.path) {
            return Problem {
                is_recent: true,
                ..problem
            };
        }
        let _changing = self.changing();
        // Somebody may have been enrolled in its place since it was read.
        let is_damaged = self
            .samples_in(&problem.path)
            .is_err_and(|cause| cause.is_damage());
        if !is_damaged {
            return problem;
        }
        match quarantine::set_aside(&self.folder, &problem.path) {
            Ok(aside) => {
                self.note_gone(&problem.path);
                Problem {
                    aside: Some(aside),
                    ..problem
                }
            }
            Err(error) => {
                tracing::warn!(
                    "a damaged file in {} cannot be set aside: {error}{}",
                    self.folder.display(),
                    remedy(&error)
                );
                problem
            }
        }
    }

    fn replace(&self, id: &PersonId, samples: &[Sample]) -> Result<PathBuf, GalleryError> {
        for (_, samples) in contracts::by_contract(samples) {
            refuse_large(&samples)?;
        }
        let _changing = self.changing();
        self.replace_contracts(id, samples)
            .map_err(|cause| GalleryError::Write {
                folder: self.folder.clone(),
                cause,
            })
    }

    fn put(
        &self,
        id: &PersonId,
        samples: &[Sample],
        place: SampleLocation,
    ) -> Result<PathBuf, GalleryError> {
        refuse_large(samples)?;
        let _changing = self.changing();
        self.put_contract(id, samples, place)
            .map_err(|cause| GalleryError::Write {
                folder: self.folder.clone(),
                cause,
            })
    }

    fn replace_all(
        &self,
        people: &[ByContract<'_>],
    ) -> (Vec<BatchOutcome>, Result<(), GalleryError>) {
        let (outcomes, written) = batch::write(self, people);
        (
            outcomes,
            written.map_err(|cause| GalleryError::Write {
                folder: self.folder.clone(),
                cause,
            }),
        )
    }

    fn read(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, GalleryError> {
        let damaged = |cause| GalleryError::Damaged {
            folder: self.folder.clone(),
            cause,
        };
        let read = |path: &Path| match self.samples_in(path) {
            Ok(samples) => Ok(Some(samples)),
            Err(SampleFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(damaged(cause)),
        };
        let own = read(&self.own_file(id))?;
        let others = self.others_of(id).map_err(|error| damaged(error.into()))?;
        let Some(own) = own else {
            return Ok((!others.is_empty()).then(Vec::new));
        };
        let mut found = own.clone();
        for (contract, path) in others {
            let samples = read(&path)?.unwrap_or_default();
            // A second file of the same contract is a duplicate.
            if !found
                .iter()
                .any(|sample| sample.contract.as_ref() == Some(&contract))
            {
                found.extend(contracts::in_force(&own, &contract, samples));
            }
        }
        Ok(Some(found))
    }

    fn remove(&self, id: &PersonId) -> Result<Removal, GalleryError> {
        let _changing = self.changing();
        let failed = |cause| GalleryError::Write {
            folder: self.folder.clone(),
            cause,
        };
        let mut left_alone = Vec::new();
        let mut theirs = Vec::new();
        let damaged = quarantine::files_of(&self.folder, id)
            .map_err(failed)?
            .into_iter();
        let others = self
            .others_of(id)
            .map_err(failed)?
            .into_iter()
            .map(|(_, path)| path);
        // The person's own files last: until then they are still there as a whole for whoever asks
        // again after a failure.
        for path in damaged.chain(others).chain(self.files_of(&self.folder, id)) {
            match csv_file::read(&path) {
                Err(cause) if cause.is_another() => left_alone.push(Problem::new(path, cause)),
                _ => theirs.push(path),
            }
        }
        let mut was_there = false;
        // Also if nothing is there: an attempt before may have removed it, and failed to sync.
        let mut changed = BTreeSet::from([self.folder.clone()]);
        for path in theirs {
            match fs::remove_file(&path) {
                Ok(()) => {
                    was_there = true;
                    self.note_gone(&path);
                    changed.insert(path.parent().unwrap_or(&self.folder).to_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        self.unusual().remove(id);
        // Whoever is deleted must not come back after a crash.
        let (mut durable, mut unsynced) = (true, None);
        for folder in changed {
            match sync_folder(&folder) {
                Ok(synced) => durable &= synced,
                Err(cause) => unsynced = Some(failed(cause)),
            }
        }
        Ok(Removal {
            was_there,
            left_alone,
            durable,
            unsynced,
            has_tombstone: false,
        })
    }
}

/// Whether it is the disk that cannot be written, by anybody.
fn is_of_the_disk(cause: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(
        cause.kind(),
        ReadOnlyFilesystem | StorageFull | QuotaExceeded
    )
}

/// Refuses samples whose file would not be read again.
fn refuse_large(samples: &[Sample]) -> Result<(), GalleryError> {
    let mut text = Vec::new();
    // Into memory nothing fails.
    let _ = csv_file::write(samples, &mut text);
    if text.len() as u64 > csv_file::LARGEST {
        Err(GalleryError::TooLarge { size: text.len() })
    } else {
        Ok(())
    }
}

fn person(path: &Path) -> Result<(PersonId, Vec<Sample>), SampleFileError> {
    Ok((names::id_of(path)?, csv_file::read(path)?))
}

#[cfg(test)]
mod tests;
