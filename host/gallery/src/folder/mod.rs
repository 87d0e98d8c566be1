//! Folder with a CSV file for each person.

mod batch;
mod contracts;
mod listing;
mod restore;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::fs::atomic::UNFINISHED;
use rostro_common::fs::identity;
use rostro_common::fs::lock::{FolderLock, FolderLockError};
use rostro_common::ids::{ContractId, PersonId};
use rostro_common::sample::Sample;

use crate::csv_file::{self, SampleFileError};
use crate::error::{GalleryError, Problem, remedy};
use crate::file_watch::{FolderStamp, WatchedFiles};
use crate::store::GalleryContents;
use crate::{enrolment, file_names};

pub use restore::QuarantinedFile;
pub use write::Removal;

/// Number of locks for people's files, above the usual number of concurrent enrolments.
const LOCK_STRIPES: usize = 64;

/// File that locks the folder.
const LOCK: &str = ".lock";

/// Gallery in a folder: `<id>.csv` for each person.
#[derive(Debug)]
pub struct CsvGallery {
    folder: PathBuf,
    /// Whether this process is the writer; otherwise another may be writing now.
    is_writer: bool,
    /// Lock of the folder, held as long as it is written.
    lock: FolderLock,
    /// Locks of people's files, held while one is replaced, removed or quarantined, because another
    /// file may take its place after it was read. Striped by person, so that enrolments of
    /// different people do not wait for each other's disk writes.
    person_locks: [Mutex<()>; LOCK_STRIPES],
    /// Contract of samples that name none.
    legacy: OnceLock<ContractId>,
    /// Length of its embeddings.
    dimension: OnceLock<usize>,
    /// Names of people's files that [`file_names::spellings`] lacks, some of which may be gone.
    irregular_names: Mutex<HashMap<PersonId, BTreeSet<OsString>>>,
    /// Stamps of the folders that were listed, once the gallery was loaded.
    stamps: Mutex<Option<HashMap<PathBuf, FolderStamp>>>,
    /// Last seen state of each file.
    watched: WatchedFiles,
}

impl CsvGallery {
    /// Locks the folder for this process, and opens it for writing. If another process has the
    /// lock, waits for it until `scope` ends.
    ///
    /// A folder on a disk that cannot be written is not locked, because nothing changes there.
    ///
    /// # Errors
    ///
    /// If another process has the lock, and as `open`.
    pub fn open_locked(folder: &Path, scope: &CancelScope) -> Result<Self, GalleryError> {
        fs::create_dir_all(folder).map_err(GalleryError::folder("make", folder))?;
        let lock = match FolderLock::take(folder, LOCK, "the gallery", scope) {
            Ok(lock) => lock,
            Err(FolderLockError::InUse) => {
                return Err(GalleryError::InUse {
                    folder: folder.to_owned(),
                });
            }
            // `open` reports such a disk.
            Err(FolderLockError::Io(cause)) if is_disk_error(&cause) => FolderLock::none(),
            Err(FolderLockError::Io(cause)) => {
                // An error of writing explains more than one of locking.
                Self::open_unlocked(folder)
                    .check_writable()
                    .map_err(GalleryError::folder("write into", folder))?;
                return Err(GalleryError::folder("lock", folder)(cause));
            }
        };
        Ok(Self {
            lock,
            ..Self::open(folder)?
        })
    }

    /// Opens the folder for the process that writes it, and creates it if it is missing.
    ///
    /// If the disk is full or read-only, the error is logged and stored people are still
    /// recognised.
    ///
    /// # Errors
    ///
    /// If the folder cannot be created, or cannot be written for another reason.
    pub(crate) fn open(folder: &Path) -> Result<Self, GalleryError> {
        fs::create_dir_all(folder).map_err(GalleryError::folder("make", folder))?;
        let this = Self {
            is_writer: true,
            ..Self::open_unlocked(folder)
        };
        // Removes temporary files that a crash left. Later, such files belong to running writes.
        for entry in fs::read_dir(folder)
            .map_err(GalleryError::folder("read", folder))?
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                // The next start retries a failed removal.
                let _ = fs::remove_file(entry.path());
            }
        }
        // Tries to write, because permissions prove little (root, read-only mounts).
        match this.check_writable() {
            Ok(_) => Ok(this),
            Err(cause) if is_disk_error(&cause) => {
                tracing::error!(
                    "enrolment is disabled: the gallery {} cannot be written: {cause}{}",
                    folder.display(),
                    remedy(&cause)
                );
                Ok(this)
            }
            Err(cause) => Err(GalleryError::folder("write into", folder)(cause)),
        }
    }

    /// Opens a folder that another process may be writing. Nothing in it changes unless a person is
    /// stored or removed.
    pub fn open_unlocked(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            is_writer: false,
            lock: FolderLock::none(),
            person_locks: std::array::from_fn(|_| Mutex::default()),
            legacy: OnceLock::new(),
            irregular_names: Mutex::default(),
            dimension: OnceLock::new(),
            stamps: Mutex::default(),
            watched: WatchedFiles::default(),
        }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of a person's own file, whether it exists or not.
    pub fn path_of(&self, id: &PersonId) -> PathBuf {
        self.folder.join(file_names::canonical(id))
    }

    /// Returns a person's files in a folder, in every spelling, the canonical one first. It tries
    /// the names instead of listing, because a folder may have many files.
    fn files_of(&self, folder: &Path, id: &PersonId) -> Vec<PathBuf> {
        let mut names: Vec<OsString> = file_names::spellings(id)
            .into_iter()
            .map(OsString::from)
            .collect();
        if folder == self.folder {
            names.extend(
                self.irregular_names()
                    .get(id)
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
        }
        let mut seen = HashSet::new();
        let mut files = Vec::new();
        for path in names.into_iter().map(|name| folder.join(name)) {
            // Several names are one file if the file system ignores case or form.
            if let Ok(metadata) = path.symlink_metadata()
                && identity(&metadata).is_none_or(|file| seen.insert(file))
            {
                files.push(path);
            }
        }
        files
    }

    /// Returns the current or future file of a person's own samples.
    fn own_file(&self, id: &PersonId) -> PathBuf {
        self.file_in_use(&self.folder, id)
            .unwrap_or_else(|| self.path_of(id))
    }

    /// Returns the first readable file of a person in a folder, or the first one if none is
    /// readable.
    fn file_in_use(&self, folder: &Path, id: &PersonId) -> Option<PathBuf> {
        let mut files = self.files_of(folder, id);
        // Usually there is one file.
        let readable = if files.len() > 1 {
            files
                .iter()
                .position(|path| self.read_samples(path).is_ok())
        } else {
            None
        };
        (!files.is_empty()).then(|| files.swap_remove(readable.unwrap_or_default()))
    }

    /// Reads the samples in a file, and sets the contract of those that name none if it is known.
    ///
    /// # Errors
    ///
    /// [`SampleFileError`]. A file of two columns that ends within an embedding is cut off, which
    /// is only detected by the length of its contract's embeddings.
    fn read_samples(&self, path: &Path) -> Result<Vec<Sample>, SampleFileError> {
        let mut samples = csv_file::read(path)?;
        let is_short = |sample: &Sample| {
            sample.contract.is_none()
                && self
                    .dimension
                    .get()
                    .is_some_and(|dimension| sample.embedding.len() < *dimension)
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

    /// Locks a person's files. Ids that differ only in case share a lock, because their files may
    /// be one.
    pub(crate) fn lock_person(&self, id: &PersonId) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        id.as_str().to_lowercase().hash(&mut hasher);
        let stripe = usize::try_from(hasher.finish()).unwrap_or_default() % LOCK_STRIPES;
        #[expect(clippy::indexing_slicing, reason = "reduced by the number of stripes")]
        let lock = &self.person_locks[stripe];
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the contract of samples that name none, see [`crate::Store::adopt_legacy`].
    pub fn adopt_legacy(&self, contract: &ContractId, dimension: Option<usize>) {
        // Both may be set already.
        let _ = self.legacy.set(contract.clone());
        if let Some(dimension) = dimension.filter(|_| self.legacy.get() == Some(contract)) {
            let _ = self.dimension.set(dimension);
        }
    }

    /// Returns the stored people, see [`crate::Store::load`].
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn load(&self, cores: &Cores) -> Result<GalleryContents, GalleryError> {
        self.list(cores)
            .map_err(GalleryError::folder("read", &self.folder))
    }

    /// Returns the ids of all stored people, see [`crate::Store::ids`].
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn ids(&self) -> Result<(BTreeSet<PersonId>, Vec<Problem>), GalleryError> {
        self.list_ids()
            .map_err(GalleryError::folder("read", &self.folder))
    }

    /// Returns the files that other programs wrote since the last rescan.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn rescan(&self) -> Result<FileRescan, GalleryError> {
        self.find_changes()
            .map_err(GalleryError::folder("read", &self.folder))
    }

    /// Counts the unusable files by reason.
    pub fn left_alone(&self) -> BTreeMap<&'static str, usize> {
        self.watched.left_alone()
    }

    /// Returns the samples in force of one person, see [`crate::Store::read`].
    ///
    /// # Errors
    ///
    /// If the samples cannot be read.
    pub fn read(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, GalleryError> {
        let damaged = |cause| GalleryError::Damaged {
            folder: self.folder.clone(),
            cause,
        };
        let read = |path: &Path| match self.read_samples(path) {
            Ok(samples) => Ok(Some(samples)),
            Err(SampleFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(damaged(cause)),
        };
        let own = read(&self.own_file(id))?;
        let others = self
            .contract_files_of(id)
            .map_err(|error| damaged(error.into()))?;
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
                found.extend(enrolment::in_force(&own, &contract, samples));
            }
        }
        Ok(Some(found))
    }
}

/// Files that other programs wrote since the last rescan.
#[derive(Debug, Default)]
pub struct FileRescan {
    /// People with changed files.
    pub people: BTreeSet<PersonId>,
    /// Damaged files that stayed the same.
    pub problems: Vec<Problem>,
}

/// Returns true if the disk is full or read-only.
fn is_disk_error(cause: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(
        cause.kind(),
        ReadOnlyFilesystem | StorageFull | QuotaExceeded
    )
}

fn read_person(path: &Path) -> Result<(PersonId, Vec<Sample>), SampleFileError> {
    Ok((file_names::id_of(path)?, csv_file::read(path)?))
}

#[cfg(test)]
mod tests;
