//! Fingerprint of a file: metadata that change with its content.

use std::fs::Metadata;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Time before now within which a changed file counts as recent. Such a file may lack rows even if
/// it is valid.
const RECENT_TIME: Duration = Duration::from_secs(120);

/// Metadata that change with a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    size: u64,
    pub(super) modified: Option<SystemTime>,
    /// Number of the file, and the time at which it or its metadata changed.
    inode: (u64, i64, i64),
}

impl Fingerprint {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = {
            use std::os::unix::fs::MetadataExt;

            (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let inode = (0, 0, 0);
        Self {
            size: metadata.len(),
            modified: metadata.modified().ok(),
            inode,
        }
    }

    pub(crate) fn at(path: &Path) -> Option<Self> {
        path.symlink_metadata().ok().as_ref().map(Self::of)
    }

    /// Returns true if the file changed recently by the system's clock, or has a time in the
    /// future.
    pub(super) fn is_recent(&self) -> bool {
        let (_, seconds, _) = self.inode;
        let changed = u64::try_from(seconds)
            .ok()
            .map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let is_old = |time: SystemTime| {
            SystemTime::now()
                .duration_since(time)
                .is_ok_and(|settle_all| settle_all > RECENT_TIME)
        };
        !changed
            .filter(|_| cfg!(unix))
            .or(self.modified)
            .is_some_and(is_old)
    }
}
