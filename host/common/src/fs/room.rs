//! Free room on a disk, part of which is a reserve for the service's other writes.

use std::io;
use std::path::Path;

/// Largest reserve in bytes. A tenth of a small disk is less.
const RESERVE: u64 = 1 << 30;

/// Fails if `more` bytes of `what` would take the reserve of a folder's disk.
///
/// # Errors
///
/// [`io::ErrorKind::StorageFull`], or the error of reading the disk's size.
#[cfg(unix)]
pub fn check_room(folder: &Path, what: &str, more: u64) -> io::Result<()> {
    let disk = rustix::fs::statvfs(folder)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let reserve = reserve(disk.f_blocks.saturating_mul(disk.f_frsize));
    if free < reserve.saturating_add(more) {
        let message = format!(
            "{what} would leave less than {} MiB free on the disk of {}",
            reserve >> 20,
            folder.display()
        );
        return Err(io::Error::new(io::ErrorKind::StorageFull, message));
    }
    Ok(())
}

/// Does nothing on this system.
///
/// # Errors
///
/// Never.
#[cfg(not(unix))]
pub fn check_room(_: &Path, _: &str, _: u64) -> io::Result<()> {
    Ok(())
}

/// Returns the reserve of a disk of `size` bytes.
#[cfg(unix)]
fn reserve(size: u64) -> u64 {
    RESERVE.min(size / 10)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A large disk that is nearly full still has room.
    #[test]
    fn reserve_is_bounded() {
        assert_eq!(reserve(64 << 20), (64 << 20) / 10);
        assert_eq!(reserve(4 << 40), RESERVE);
    }

    #[test]
    fn more_than_disk_has_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let error = check_room(folder.path(), "the file", u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
