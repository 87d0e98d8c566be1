//! Locks on folders that only one process may write at a time.

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cancel::CancelScope;
use crate::fs::identity;

/// Interval between attempts to get a lock of another process.
const INTERVAL: Duration = Duration::from_millis(100);

/// Lock on a folder. The operating system releases it when the process ends, even after a crash.
///
/// Both the folder and a file in it are locked. The folder's lock survives a replacement of its
/// files; the file's lock excludes earlier versions of the program, which lock only the file.
#[derive(Debug)]
pub struct FolderLock(Option<Mutex<LockedFolder>>);

/// A locked folder and the locked file in it.
#[derive(Debug)]
struct LockedFolder {
    folder: PathBuf,
    /// Name of the file in the folder.
    name: &'static str,
    /// Description of the folder for the log.
    label: &'static str,
    file: File,
    /// `None` if the file system cannot lock folders.
    directory: Option<File>,
    /// Whether the loss of the lock was logged.
    is_lost: bool,
}

/// Error of a lock that was not taken.
#[derive(Debug)]
pub enum FolderLockError {
    /// Another process has the lock.
    InUse,
    /// The lock file or the folder cannot be used.
    Io(io::Error),
}

impl FolderLock {
    /// Locks a folder by itself and by the file `name` in it. Waits until `scope` ends if another
    /// process has the lock. `label` describes the folder in the log.
    ///
    /// On a file system without locks, it logs a warning and returns [`FolderLock::none`].
    ///
    /// # Errors
    ///
    /// If another process keeps the lock, or the file cannot be created.
    pub fn take(
        folder: &Path,
        name: &'static str,
        label: &'static str,
        scope: &CancelScope,
    ) -> Result<Self, FolderLockError> {
        let path = folder.join(name);
        let mut file = open(&path).map_err(FolderLockError::Io)?;
        let mut is_logged = false;
        let mut is_wait_over = || {
            if scope.is_expired() {
                return true;
            }
            if !std::mem::replace(&mut is_logged, true) {
                tracing::info!(
                    "waiting up to {} s for another process to release {label} {}",
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
                        "the file system of {label} {} has no locks ({cause}): make sure that no \
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
            label,
            file,
            directory,
            is_lost: false,
        }))))
    }

    /// Returns the lock of a folder that cannot be locked or written.
    pub fn none() -> Self {
        Self(None)
    }

    /// Locks the folder or the file again if it was replaced, for example by a restored backup.
    /// Logs an error if another process has taken the new lock.
    pub fn check(&self) {
        let Some(locked) = &self.0 else { return };
        let mut locked = locked.lock().unwrap_or_else(PoisonError::into_inner);
        let (label, folder) = (locked.label, locked.folder.display().to_string());
        match locked.renew() {
            Ok(is_new) => {
                if is_new || locked.is_lost {
                    tracing::warn!(
                        "the lock of {label} {folder} was replaced by another program, and is \
                         taken again"
                    );
                }
                locked.is_lost = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut locked.is_lost, true) {
                    match error {
                        FolderLockError::InUse => tracing::error!(
                            "another process uses {label} {folder} since its lock was replaced: \
                             stop one of the two, because each undoes what the other writes"
                        ),
                        FolderLockError::Io(cause) => {
                            tracing::error!(
                                "the lock of {label} {folder} was replaced, and the new one cannot \
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
    /// Locks the folder or the file again if it was replaced. Returns true if one was.
    fn renew(&mut self) -> Result<bool, FolderLockError> {
        let path = self.folder.join(self.name);
        let mut is_new = false;
        // The old lock is released only after the new one is taken.
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

/// Returns true if the path of an open file now has another file or none.
fn is_replaced(file: &File, path: &Path) -> bool {
    let identity = |metadata: io::Result<Metadata>| metadata.ok().as_ref().and_then(identity);
    cfg!(unix) && identity(file.metadata()) != identity(path.metadata())
}

/// Locks the folder itself. Returns `None` if the file system cannot.
fn lock_directory(folder: &Path) -> Result<Option<File>, FolderLockError> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let directory = File::open(folder).map_err(FolderLockError::Io)?;
    match directory.try_lock() {
        Ok(()) => Ok(Some(directory)),
        Err(TryLockError::WouldBlock) => Err(FolderLockError::InUse),
        // Network file systems lock only writable files, which folders are not.
        Err(TryLockError::Error(cause)) if is_read_only(&cause) || is_missing_operation(&cause) => {
            Ok(None)
        }
        Err(TryLockError::Error(cause)) => Err(FolderLockError::Io(cause)),
    }
}

/// Locks a file. Opens it for writing if the file system requires that.
fn lock_file(file: &mut File, path: &Path) -> Result<(), FolderLockError> {
    let mut locked = file.try_lock();
    // Network file systems lock only files that are open for writing.
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

/// Creates the lock file if necessary, and opens it for reading. A file that is open for writing
/// would prevent a read-only remount of its disk.
fn open(path: &Path) -> io::Result<File> {
    match File::options().create(true).append(true).open(path) {
        // Reading suffices for a file of another user.
        Err(error) if error.kind() != ErrorKind::PermissionDenied => Err(error),
        _ => File::open(path),
    }
}

/// Returns true if the file is not open for the operation (`EBADF`).
fn is_read_only(error: &io::Error) -> bool {
    cfg!(unix) && error.raw_os_error() == Some(libc::EBADF)
}

/// Returns true if the file system has no locks, or cannot reach its lock server (`ENOLCK`).
fn is_missing_operation(error: &io::Error) -> bool {
    let is_unreachable = cfg!(unix) && error.raw_os_error() == Some(libc::ENOLCK);
    matches!(
        error.kind(),
        ErrorKind::Unsupported | ErrorKind::InvalidInput
    ) || is_unreachable
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
        // As earlier versions of the program do.
        let take_file = || File::open(&path).unwrap().try_lock();
        let first = take().unwrap();
        std::fs::rename(&path, folder.path().join("x")).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(matches!(take(), Err(FolderLockError::InUse)));
        first.check();
        assert!(take_file().is_err(), "the new file is locked, too");
        std::fs::remove_file(&path).unwrap();
        first.check();
        assert!(take_file().is_err(), "a removed file is created again");

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
    fn missing_locks_are_not_failures() {
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
