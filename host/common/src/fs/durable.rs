//! Syncs folders and files, so that changes survive a crash of the machine.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Folders on file systems that cannot sync folders. The log has one warning for each.
static WARNED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// Syncs a folder. Returns false if its file system has no such operation. The whole file system is
/// synced instead, which may or may not include the folder.
///
/// # Errors
///
/// Any other error: the disk may have failed.
pub fn sync_folder(folder: &Path) -> io::Result<bool> {
    let file = File::open(folder)?;
    match sync(&file) {
        Ok(()) => Ok(true),
        Err(error) if is_missing_operation(&error) => {
            warn_once(folder, &error);
            sync_file_system(&file);
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Syncs a file that was changed in place. Returns false if its file system has no such operation.
///
/// # Errors
///
/// Any other error: the disk may have failed.
pub fn sync_file(file: &File) -> io::Result<bool> {
    is_synced(sync(file))
}

/// Syncs the whole file system of a folder. Returns false if it has no such operation.
///
/// # Errors
///
/// Any other error: the disk may have failed.
#[cfg(target_os = "linux")]
pub fn sync_all_of(folder: &Path) -> io::Result<bool> {
    is_synced(rustix::fs::syncfs(File::open(folder)?).map_err(io::Error::from))
}

/// Maps success to true, and a missing operation to false.
fn is_synced(synced: io::Result<()>) -> io::Result<bool> {
    match synced {
        Err(error) if is_missing_operation(&error) => Ok(false),
        synced => synced.map(|()| true),
    }
}

/// Returns true if the file system does not have the operation (`EINVAL`, `ENOTSUP`, `ENOSYS`).
fn is_missing_operation(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput | ErrorKind::Unsupported
    )
}

/// Logs that a folder cannot be synced, once for each folder.
fn warn_once(folder: &Path, error: &io::Error) {
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.get_or_insert_default().insert(folder.to_owned()) {
        tracing::warn!(
            "the file system of {} cannot sync folders ({error}): a crash of the machine may undo \
             an acknowledged change",
            folder.display()
        );
    }
}

/// Syncs a whole file system as a best effort. Failures are ignored.
fn sync_file_system(file: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::syncfs(file);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

#[cfg(not(any(test, feature = "testing")))]
fn sync(file: &File) -> io::Result<()> {
    file.sync_all()
}

#[cfg(any(test, feature = "testing"))]
fn sync(file: &File) -> io::Result<()> {
    match testing::ERROR.get() {
        Some(code) => Err(io::Error::from_raw_os_error(code)),
        None => file.sync_all(),
    }
}

/// Simulation of failing disks for tests.
#[cfg(any(test, feature = "testing"))]
pub mod testing {
    use std::cell::Cell;

    thread_local! {
        pub(super) static ERROR: Cell<Option<i32>> = const { Cell::new(None) };
    }

    /// Calls a function while every sync on this thread fails with an error code of the operating
    /// system.
    pub fn failing_with<T>(code: i32, call: impl FnOnce() -> T) -> T {
        ERROR.set(Some(code));
        let _restore = scopeguard::guard((), |()| ERROR.set(None));
        call()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_operation_is_not_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(sync_folder(folder.path()).unwrap());
        for code in [libc::EINVAL, libc::ENOTSUP, libc::EOPNOTSUPP, libc::ENOSYS] {
            assert!(
                !testing::failing_with(code, || sync_folder(folder.path())).unwrap(),
                "{code}"
            );
        }
        for code in [libc::EIO, libc::ENOSPC, libc::EROFS, libc::EACCES] {
            let error = testing::failing_with(code, || sync_folder(folder.path())).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(code));
        }
        assert!(sync_folder(&folder.path().join("none")).is_err());
    }
}
