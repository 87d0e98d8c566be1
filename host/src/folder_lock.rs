//! Locks on folders that only one process at a time may write.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::executor::Wanted;

/// How often a lock that another process has is asked for again.
const INTERVAL: Duration = Duration::from_millis(100);

/// The lock on a folder. The system frees it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: Option<File>,
}

/// Why a folder is not locked.
#[derive(Debug)]
pub(crate) enum FolderLockError {
    /// Another process has the lock.
    InUse,
    /// The lock's file cannot be used.
    Io(io::Error),
}

impl FolderLock {
    /// Locks a folder by a file in it, for which it waits until `scope` ends while another process has it. `what` names the folder for the
    /// log.
    ///
    /// A file system without locks is reported in the log, and the folder is used without one.
    ///
    /// # Errors
    ///
    /// If another process has the lock, or the file cannot be made.
    pub(crate) fn take(folder: &Path, name: &str, what: &str, scope: &Wanted) -> Result<Self, FolderLockError> {
        let path = folder.join(name);
        let mut file = open(&path).map_err(FolderLockError::Io)?;
        let (mut told, mut is_writable) = (false, false);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: Some(file) }),
                Err(TryLockError::WouldBlock) if scope.is_over() => return Err(FolderLockError::InUse),
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::info!(
                            "waiting up to {} s for another process to let go of {what} {}",
                            scope.until().saturating_duration_since(Instant::now()).as_secs_f64().round(),
                            folder.display()
                        );
                    }
                    std::thread::sleep(INTERVAL);
                }
                // Network file systems lock only what may be written.
                Err(TryLockError::Error(cause)) if is_read_only(&cause) && !is_writable => {
                    file = File::options().append(true).open(&path).map_err(FolderLockError::Io)?;
                    is_writable = true;
                }
                Err(TryLockError::Error(cause)) if is_missing_operation(&cause) => {
                    tracing::warn!(
                        "the file system of {what} {} has no locks ({cause}): make sure that no other process uses the folder",
                        folder.display()
                    );
                    return Ok(Self { _file: None });
                }
                Err(TryLockError::Error(cause)) => return Err(FolderLockError::Io(cause)),
            }
        }
    }

    /// A folder that is not locked, because nothing can be written there.
    pub(crate) fn none() -> Self {
        Self { _file: None }
    }
}

/// Makes the lock's file where it can be made, and opens it for reading: a file that is open for writing keeps its disk from being mounted
/// read-only.
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

/// Returns true if an error says that the file system has no locks, or that its lock server is away (`ENOLCK`).
fn is_missing_operation(error: &io::Error) -> bool {
    let is_away = cfg!(unix) && error.raw_os_error() == Some(libc::ENOLCK);
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) || is_away
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let wait = |milliseconds| Wanted::from(Instant::now() + Duration::from_millis(milliseconds));
        let take = |milliseconds| FolderLock::take(folder.path(), ".lock", "the folder", &wait(milliseconds));
        let first = take(0).unwrap();
        assert!(matches!(take(0), Err(FolderLockError::InUse)));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| take(60_000).map(drop));
            std::thread::sleep(Duration::from_millis(200));
            drop(first);
            assert!(second.join().unwrap().is_ok());
        });
        let missing = FolderLock::take(&folder.path().join("none"), ".lock", "the folder", &wait(0));
        assert!(matches!(missing, Err(FolderLockError::Io(error)) if error.kind() == ErrorKind::NotFound));
    }

    #[test]
    fn missing_locks_are_told_from_failures() {
        for code in [libc::ENOTSUP, libc::ENOSYS, libc::ENOLCK, libc::EINVAL] {
            assert!(is_missing_operation(&io::Error::from_raw_os_error(code)), "{code}");
        }
        for code in [libc::EIO, libc::EACCES, libc::EROFS] {
            assert!(!is_missing_operation(&io::Error::from_raw_os_error(code)), "{code}");
        }
    }
}
