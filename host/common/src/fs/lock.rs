//! Locks on folders that only one process at a time may write.

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cancel::CancelScope;
use crate::fs::identity;

/// How often a lock that another process has is asked for again.
const INTERVAL: Duration = Duration::from_millis(100);

/// The lock on a folder. The system frees it when the process ends, however it ends.
///
/// Two things are locked: the folder itself, whose lock survives when its files are replaced, and a
/// file in it, which is what programs of before lock.
#[derive(Debug)]
pub struct FolderLock(Option<Mutex<LockedFolder>>);

/// The folder and the file that are locked.
#[derive(Debug)]
struct LockedFolder {
    folder: PathBuf,
    /// Name of the file in the folder.
    name: &'static str,
    /// Kind of folder, for the log.
    what: &'static str,
    file: File,
    /// None where the file system locks no folders.
    directory: Option<File>,
    /// Whether the log says that the lock is lost.
    is_lost: bool,
}

/// Why a folder is not locked.
#[derive(Debug)]
pub enum FolderLockError {
    /// Another process has the lock.
    InUse,
    /// The lock's file cannot be used.
    Io(io::Error),
}

impl FolderLock {
    /// Locks a folder, for which it waits until `scope` ends while another process has it. `what`
    /// names the folder for the log.
    ///
    /// A file system without locks is reported in the log, and the folder is used without one.
    ///
    /// # Errors
    ///
    /// If another process has the lock, or the file cannot be made.
    pub fn take(
        folder: &Path,
        name: &'static str,
        what: &'static str,
        scope: &CancelScope,
    ) -> Result<Self, FolderLockError> {
        let path = folder.join(name);
        let mut file = open(&path).map_err(FolderLockError::Io)?;
        let mut is_told = false;
        let mut is_wait_over = || {
            if scope.is_expired() {
                return true;
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::info!(
                    "waiting up to {} s for another process to let go of {what} {}",
                    scope
                        .deadline()
                        .saturating_duration_since(Instant::now())
                        .as_secs_f64()
                        .round(),
                    folder.display()
                );
            }
            std::thread::sleep(INTERVAL);
            false
        };
        let directory = loop {
            match lock_directory(folder) {
                Err(FolderLockError::InUse) if !is_wait_over() => {}
                locked => break locked?,
            }
        };
        loop {
            match lock_file(&mut file, &path) {
                Ok(()) => break,
                Err(FolderLockError::InUse) if !is_wait_over() => {}
                Err(FolderLockError::Io(cause)) if is_missing_operation(&cause) => {
                    tracing::warn!(
                        "the file system of {what} {} has no locks ({cause}): make sure that no \
                         other process uses the folder",
                        folder.display()
                    );
                    return Ok(Self::none());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self(Some(Mutex::new(LockedFolder {
            folder: folder.to_owned(),
            name,
            what,
            file,
            directory,
            is_lost: false,
        }))))
    }

    /// A folder that is not locked, because nothing can be written there.
    pub fn none() -> Self {
        Self(None)
    }

    /// Locks again what was replaced since, as by a backup that is restored into the folder. An
    /// error in the log says if another process has it by now.
    pub fn check(&self) {
        let Some(held) = &self.0 else { return };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let (what, folder) = (held.what, held.folder.display().to_string());
        match held.renew() {
            Ok(is_new) => {
                if is_new || held.is_lost {
                    tracing::warn!(
                        "the lock of {what} {folder} was replaced by another program, and is \
                         taken again"
                    );
                }
                held.is_lost = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut held.is_lost, true) {
                    match error {
                        FolderLockError::InUse => tracing::error!(
                            "another process uses {what} {folder}, whose lock was replaced: stop \
                             one of the two, because each undoes what the other writes"
                        ),
                        FolderLockError::Io(cause) => {
                            tracing::error!(
                                "the lock of {what} {folder} was replaced, and the new one cannot \
                                 be taken: {cause}; make sure that no other process uses the folder"
                            );
                        }
                    }
                }
            }
        }
    }
}

impl LockedFolder {
    /// Locks the folder or the file that is in the place of the one that is locked. Returns true if
    /// one was.
    fn renew(&mut self) -> Result<bool, FolderLockError> {
        let path = self.folder.join(self.name);
        let mut is_new = false;
        // The old one is let go of only with the new one in hand.
        if self
            .directory
            .as_ref()
            .is_some_and(|directory| is_replaced(directory, &self.folder))
        {
            self.directory = lock_directory(&self.folder)?;
            is_new = true;
        }
        if is_replaced(&self.file, &path) {
            let mut file = open(&path).map_err(FolderLockError::Io)?;
            lock_file(&mut file, &path)?;
            self.file = file;
            is_new = true;
        }
        Ok(is_new)
    }
}

/// Returns true if another file is in the place of an open one, or none.
fn is_replaced(file: &File, path: &Path) -> bool {
    let identity = |metadata: io::Result<Metadata>| metadata.ok().as_ref().and_then(identity);
    cfg!(unix) && identity(file.metadata()) != identity(path.metadata())
}

/// Locks the folder itself; nothing where the file system cannot.
fn lock_directory(folder: &Path) -> Result<Option<File>, FolderLockError> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let directory = File::open(folder).map_err(FolderLockError::Io)?;
    match directory.try_lock() {
        Ok(()) => Ok(Some(directory)),
        Err(TryLockError::WouldBlock) => Err(FolderLockError::InUse),
        // Network file systems lock only what may be written, which a folder is not.
        Err(TryLockError::Error(cause)) if is_read_only(&cause) || is_missing_operation(&cause) => {
            Ok(None)
        }
        Err(TryLockError::Error(cause)) => Err(FolderLockError::Io(cause)),
    }
}

/// Locks a file, opened for writing where only such files can be locked.
fn lock_file(file: &mut File, path: &Path) -> Result<(), FolderLockError> {
    let mut locked = file.try_lock();
    // Network file systems lock only what may be written.
    if matches!(&locked, Err(TryLockError::Error(cause)) if is_read_only(cause)) {
        *file = File::options()
            .append(true)
            .open(path)
            .map_err(FolderLockError::Io)?;
        locked = file.try_lock();
    }
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => FolderLockError::InUse,
        TryLockError::Error(cause) => FolderLockError::Io(cause),
    })
}

/// Makes the lock's file where it can be made, and opens it for reading: a file that is open for
/// writing keeps its disk from being mounted read-only.
fn open(path: &Path) -> io::Result<File> {
    match File::options().create(true).append(true).open(path) {
        // One that another user made is enough to read.
        Err(error) if error.kind() != ErrorKind::PermissionDenied => Err(error),
        _ => File::open(path),
    }
}

/// Returns true if an error says that a file was not opened for what is done with it (`EBADF`).
fn is_read_only(error: &io::Error) -> bool {
    cfg!(unix) && error.raw_os_error() == Some(libc::EBADF)
}

/// Returns true if an error says that the file system has no locks, or that its lock server is away
/// (`ENOLCK`).
fn is_missing_operation(error: &io::Error) -> bool {
    let is_away = cfg!(unix) && error.raw_os_error() == Some(libc::ENOLCK);
    matches!(
        error.kind(),
        ErrorKind::Unsupported | ErrorKind::InvalidInput
    ) || is_away
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let wait =
            |milliseconds| CancelScope::from(Instant::now() + Duration::from_millis(milliseconds));
        let take = |milliseconds| {
            FolderLock::take(folder.path(), ".lock", "the folder", &wait(milliseconds))
        };
        let first = take(0).unwrap();
        assert!(matches!(take(0), Err(FolderLockError::InUse)));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| take(60_000).map(drop));
            std::thread::sleep(Duration::from_millis(200));
            drop(first);
            assert!(second.join().unwrap().is_ok());
        });
        let missing =
            FolderLock::take(&folder.path().join("none"), ".lock", "the folder", &wait(0));
        assert!(
            matches!(missing, Err(FolderLockError::Io(error)) if error.kind() == ErrorKind::NotFound)
        );
    }

    /// A backup that is restored into the folder replaces the lock's file.
    #[test]
    fn replaced_lock_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let take = || {
            FolderLock::take(
                folder.path(),
                ".lock",
                "the folder",
                &CancelScope::from(Instant::now()),
            )
        };
        // As a program of before does.
        let take_file = || File::open(&path).unwrap().try_lock();
        let first = take().unwrap();
        std::fs::rename(&path, folder.path().join("x")).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(matches!(take(), Err(FolderLockError::InUse)));
        first.check();
        assert!(take_file().is_err(), "the new file is locked, too");
        std::fs::remove_file(&path).unwrap();
        first.check();
        assert!(take_file().is_err(), "one that is gone is made again");

        // Another process came first.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        let other = File::open(&path).unwrap();
        other.try_lock().unwrap();
        let is_lost = || first.0.as_ref().unwrap().lock().unwrap().is_lost;
        first.check();
        assert!(is_lost());
        drop(other);
        first.check();
        assert!(!is_lost() && take_file().is_err());
        drop(first);
        assert!(take().is_ok());
    }

    #[test]
    fn missing_locks_are_told_from_failures() {
        for code in [libc::ENOTSUP, libc::ENOSYS, libc::ENOLCK, libc::EINVAL] {
            assert!(
                is_missing_operation(&io::Error::from_raw_os_error(code)),
                "{code}"
            );
        }
        for code in [libc::EIO, libc::EACCES, libc::EROFS] {
            assert!(
                !is_missing_operation(&io::Error::from_raw_os_error(code)),
                "{code}"
            );
        }
    }
}
