//! A folder with a CSV file for each person.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tempfile::NamedTempFile;

use super::csv_file::{self, FileError};
use super::{Gallery, GalleryError, Loaded, Problem, Stored, damaged, remedy};
use crate::person::{ContractId, PersonId, Sample};

/// How the files of unfinished writes begin: with a dot, as no id does.
const UNFINISHED: &str = ".unfinished-";

/// Where samples of other contracts than a person's last are kept, a folder for each. Readers of the gallery see one contract's alone, and
/// whoever goes back to an earlier recogniser finds everybody as they were.
const OTHER_CONTRACTS: &str = ".contracts";

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

    fn path_of_other(&self, contract: &ContractId, id: &PersonId) -> PathBuf {
        self.folder.join(OTHER_CONTRACTS).join(contract.to_string()).join(format!("{id}.csv"))
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

    /// Keeps a copy of the person's file if it holds samples of another contract than `new` ones, by which it is about to be replaced.
    fn keep_others(&self, id: &PersonId, new: &[Sample]) -> io::Result<()> {
        let old = self.rescue(&self.path_of(id))?;
        let is_new = |contract: &ContractId| new.iter().any(|sample| sample.contract.as_ref() == Some(contract));
        let mut others: Vec<&ContractId> = old.iter().filter_map(|sample| sample.contract.as_ref()).filter(|id| !is_new(id)).collect();
        others.dedup();
        for contract in others {
            let kept: Vec<Sample> = old.iter().filter(|sample| sample.contract.as_ref() == Some(contract)).cloned().collect();
            self.write_other(contract, id, &kept)?;
        }
        Ok(())
    }

    /// Writes samples of another contract than a person's last.
    fn write_other(&self, contract: &ContractId, id: &PersonId, samples: &[Sample]) -> io::Result<()> {
        let to = self.path_of_other(contract, id);
        let folder = to.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        self.rescue(&to)?;
        self.write(&to, samples)?;
        // The folders may be new.
        for folder in [folder, &self.folder.join(OTHER_CONTRACTS), &self.folder] {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    /// The files of other contracts, each with its contract.
    fn other_files(&self) -> io::Result<Vec<(ContractId, PathBuf)>> {
        let folders = match fs::read_dir(self.folder.join(OTHER_CONTRACTS)) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for folder in folders {
            let folder = folder?.path();
            let contract = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<ContractId>().ok());
            // What else lies there is somebody else's.
            let Some(contract) = contract.filter(|_| folder.is_dir()) else { continue };
            for file in fs::read_dir(&folder)? {
                let path = file?.path();
                if path.extension().is_some_and(|extension| extension == "csv") {
                    files.push((contract.clone(), path));
                }
            }
        }
        Ok(files)
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
        for (contract, path) in self.other_files().map_err(unreadable())? {
            match person(&path) {
                Ok((id, samples)) => {
                    let samples = samples.into_iter().filter(|sample| sample.contract.as_ref() == Some(&contract));
                    match loaded.people.binary_search_by(|person| person.id.cmp(&id)) {
                        Ok(place) => {
                            // Those of the person's own file are newer, if a crash left both.
                            if let Some(person) = loaded.people.get_mut(place)
                                && person.samples.iter().all(|sample| sample.contract.as_ref() != Some(&contract))
                            {
                                person.samples.extend(samples);
                            }
                        }
                        Err(place) => loaded.people.insert(place, Stored { id, samples: samples.collect(), path }),
                    }
                }
                Err(cause) => loaded.problems.push(Problem::new(path, cause)),
            }
        }
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
        refuse_large(samples)?;
        let _changing = self.changing();
        let path = self.path_of(id);
        let failed = |cause| GalleryError::Write { folder: self.folder.clone(), cause };
        self.keep_others(id, samples).map_err(failed)?;
        self.write(&path, samples).map_err(failed)?;
        // What was set aside of these samples' contract is older than they are.
        let contracts: HashSet<&ContractId> = samples.iter().filter_map(|sample| sample.contract.as_ref()).collect();
        for contract in contracts {
            let older = self.path_of_other(contract, id);
            match self.rescue(&older).and_then(|_| fs::remove_file(&older)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("older samples of a person in {} cannot be removed: {error}", self.folder.display());
                }
                _ => {}
            }
        }
        Ok(path)
    }

    fn keep(&self, id: &PersonId, samples: &[Sample]) -> Result<(), GalleryError> {
        let contract = samples.first().and_then(|sample| sample.contract.as_ref());
        let own = csv_file::read(&self.path_of(id)).map(|own| self.marked(own)).unwrap_or_default();
        let is_others = !own.is_empty() && own.iter().all(|sample| sample.contract.as_ref() != contract);
        let (Some(contract), true) = (contract, is_others) else { return self.replace(id, samples).map(drop) };
        refuse_large(samples)?;
        let _changing = self.changing();
        let failed = |cause| GalleryError::Write { folder: self.folder.clone(), cause };
        self.write_other(contract, id, samples).map_err(failed)
    }

    fn read(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, GalleryError> {
        let damaged = |cause| GalleryError::Damaged { folder: self.folder.clone(), cause };
        let others = self.other_files().map_err(|error| damaged(error.into()))?.into_iter().map(|(_, path)| path);
        let others = others.filter(|path| path.file_stem().is_some_and(|stem| stem == id.as_str()));
        let mut found: Option<Vec<Sample>> = None;
        for path in [self.path_of(id)].into_iter().chain(others) {
            match csv_file::read(&path) {
                Ok(samples) => found.get_or_insert_default().extend(self.marked(samples)),
                Err(FileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(damaged(cause)),
            }
        }
        Ok(found)
    }

    fn remove(&self, id: &PersonId) -> Result<bool, GalleryError> {
        let _changing = self.changing();
        let failed = |cause| GalleryError::Write { folder: self.folder.clone(), cause };
        let stem = id.as_str();
        let others = self.other_files().map_err(failed)?.into_iter().map(|(_, path)| path);
        let others = others.filter(|path| path.file_stem().is_some_and(|name| name == stem));
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
