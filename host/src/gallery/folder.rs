//! A folder with a CSV file for each person.

mod contracts;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tempfile::NamedTempFile;

use super::csv_file::{self, FileError};
use super::{Gallery, GalleryError, Loaded, Place, Problem, Stored, damaged, remedy};
use crate::person::{ContractId, PersonId, Sample};

/// How the files of unfinished writes begin: with a dot, as no id does.
const UNFINISHED: &str = ".unfinished-";

/// A gallery in a folder: `<id>.csv` for each person.
#[derive(Debug)]
pub(crate) struct CsvGallery {
    folder: PathBuf,
    /// Whether this process is the one that writes it: another may be writing now.
    is_ours: bool,
    /// Held while a file is replaced, removed or set aside: what was read as damaged may be another by then.
    changing: Mutex<()>,
    /// The contract of samples that state none.
    unmarked: OnceLock<ContractId>,
}

impl CsvGallery {
    /// Opens the folder for the process that writes it, making it if it is not there.
    ///
    /// A disk that is full or cannot be written does not keep those who are stored from being recognised: the log says so.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or not be written for another reason.
    pub(crate) fn open(folder: &Path) -> Result<Self, GalleryError> {
        fs::create_dir_all(folder).map_err(GalleryError::folder("make", folder))?;
        let this = Self { is_ours: true, ..Self::beside(folder) };
        // Writes that a crash cut short; each person's own file is whole. Only now: later there are writes under way.
        for entry in fs::read_dir(folder).map_err(GalleryError::folder("read", folder))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                // Left to the next start if it cannot be removed.
                let _ = fs::remove_file(entry.path());
            }
        }
        // Permissions say little (root, read-only mounts): trying does.
        match this.unfinished() {
            Ok(_) => Ok(this),
            Err(cause) if is_of_the_disk(&cause) => {
                tracing::error!("nobody can be enrolled: the gallery {} cannot be written: {cause}{}", folder.display(), remedy(&cause));
                Ok(this)
            }
            Err(cause) => Err(GalleryError::folder("write into", folder)(cause)),
        }
    }

    /// A folder that another process may be writing: nothing in it is touched unless somebody is stored or removed.
    pub(crate) fn beside(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), is_ours: false, changing: Mutex::default(), unmarked: OnceLock::new() }
    }

    fn path_of(&self, id: &PersonId) -> PathBuf {
        self.folder.join(format!("{id}.csv"))
    }

    /// The samples, each with a contract if that can be known.
    fn marked(&self, mut samples: Vec<Sample>) -> Vec<Sample> {
        for sample in &mut samples {
            sample.contract = sample.contract.take().or_else(|| self.unmarked.get().cloned());
        }
        samples
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in a file that is about to be replaced or removed. One that is damaged is set aside, and has nothing.
    fn rescue(&self, path: &Path) -> io::Result<Vec<Sample>> {
        match csv_file::read(path) {
            Ok(samples) => Ok(self.marked(samples)),
            Err(cause) if cause.is_content() => {
                let aside = Some(damaged::set_aside(&self.folder, path)?);
                tracing::warn!("{}", Problem { path: path.to_owned(), cause, aside }.to_string().escape_debug());
                Ok(Vec::new())
            }
            Err(FileError::Io(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
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

    /// Writes samples to `path` so that it is at any moment, crashes included, the old file or the new.
    fn write(&self, path: &Path, samples: &[Sample]) -> io::Result<()> {
        let mut file = self.unfinished()?;
        let mut text = Vec::new();
        csv_file::write(samples, &mut text)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // The rename is in the folder, which is durable only when it is synced itself. It has happened: a failure here is no failure to write.
        if let Err(error) = File::open(&self.folder).and_then(|folder| folder.sync_all()) {
            tracing::warn!(
                "a person was written, and may be the old one again after a crash: {} cannot be synced: {error}",
                self.folder.display()
            );
        }
        Ok(())
    }
}

impl Gallery for CsvGallery {
    fn adopt_unmarked(&self, contract: &ContractId) {
        // It was said before.
        let _ = self.unmarked.set(contract.clone());
    }

    fn load(&self) -> Result<Loaded, GalleryError> {
        let unreadable = || GalleryError::folder("read", &self.folder);
        let mut loaded = Loaded::default();
        for entry in fs::read_dir(&self.folder).map_err(unreadable())? {
            let path = entry.map_err(unreadable())?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(UNFINISHED) {
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "csv") {
                continue;
            }
            match person(&path) {
                Ok((id, samples)) => loaded.people.push(Stored { id, samples: self.marked(samples), path }),
                Err(cause) => loaded.problems.push(Problem::new(path, cause)),
            }
        }
        loaded.people.sort_by(|a, b| a.id.cmp(&b.id));
        self.load_others(&mut loaded).map_err(unreadable())?;
        loaded.problems.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(loaded)
    }

    fn set_aside(&self, problem: Problem) -> Problem {
        if !self.is_ours || !problem.cause.is_damage() {
            return problem;
        }
        let _changing = self.changing();
        // Somebody may have been enrolled in its place since it was read.
        let is_damaged = csv_file::read(&problem.path).is_err_and(|cause| cause.is_damage());
        if !is_damaged {
            return problem;
        }
        match damaged::set_aside(&self.folder, &problem.path) {
            Ok(aside) => Problem { aside: Some(aside), ..problem },
            Err(error) => {
                tracing::warn!("a damaged file in {} cannot be set aside: {error}{}", self.folder.display(), remedy(&error));
                problem
            }
        }
    }

    fn replace(&self, id: &PersonId, samples: &[Sample]) -> Result<PathBuf, GalleryError> {
        for (_, samples) in contracts::by_contract(samples) {
            refuse_large(&samples)?;
        }
        let _changing = self.changing();
        self.replace_contracts(id, samples).map_err(|cause| GalleryError::Write { folder: self.folder.clone(), cause })
    }

    fn put(&self, id: &PersonId, samples: &[Sample], place: Place) -> Result<PathBuf, GalleryError> {
        refuse_large(samples)?;
        let _changing = self.changing();
        self.put_contract(id, samples, place).map_err(|cause| GalleryError::Write { folder: self.folder.clone(), cause })
    }

    fn read(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, GalleryError> {
        let damaged = |cause| GalleryError::Damaged { folder: self.folder.clone(), cause };
        let read = |path: &Path| match csv_file::read(path) {
            Ok(samples) => Ok(Some(self.marked(samples))),
            Err(FileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(damaged(cause)),
        };
        let own = read(&self.path_of(id))?;
        let others = self.others_of(id).map_err(|error| damaged(error.into()))?;
        let Some(own) = own else { return Ok((!others.is_empty()).then(Vec::new)) };
        let mut found = own.clone();
        for (contract, path) in others {
            let samples = read(&path)?.unwrap_or_default();
            found.extend(contracts::in_force(&own, &contract, samples));
        }
        Ok(Some(found))
    }

    fn remove(&self, id: &PersonId) -> Result<bool, GalleryError> {
        let _changing = self.changing();
        let failed = |cause| GalleryError::Write { folder: self.folder.clone(), cause };
        let others = self.others_of(id).map_err(failed)?.into_iter().map(|(_, path)| path);
        let damaged = damaged::files_of(&self.folder, id).map_err(failed)?;
        // What is somebody else's, or no file, stays: it never was the person's.
        let is_theirs = |path: &PathBuf| !matches!(csv_file::read(path), Err(error) if error.is_another());
        let mut was_there = false;
        // The person's own file last: until then they are still there as a whole for whoever asks again after a failure.
        for path in others.filter(is_theirs).chain(damaged).chain(Some(self.path_of(id)).filter(is_theirs)) {
            match fs::remove_file(&path) {
                Ok(()) => {
                    was_there = true;
                    // Whoever is deleted must not come back after a crash.
                    File::open(path.parent().unwrap_or(&self.folder)).and_then(|folder| folder.sync_all()).map_err(failed)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(was_there)
    }
}

/// Whether it is the disk that cannot be written, by anybody.
fn is_of_the_disk(cause: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(cause.kind(), ReadOnlyFilesystem | StorageFull | QuotaExceeded)
}

/// Refuses samples whose file would not be read again.
fn refuse_large(samples: &[Sample]) -> Result<(), GalleryError> {
    let mut text = Vec::new();
    // Into memory nothing fails.
    let _ = csv_file::write(samples, &mut text);
    if text.len() as u64 > csv_file::LARGEST { Err(GalleryError::TooLarge { size: text.len() }) } else { Ok(()) }
}

fn person(path: &Path) -> Result<(PersonId, Vec<Sample>), FileError> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let id: PersonId = stem.parse().map_err(|error| FileError::Name(format!("{error}")))?;
    Ok((id, csv_file::read(path)?))
}

#[cfg(test)]
mod tests;
