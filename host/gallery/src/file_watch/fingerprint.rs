//! Fingerprint of a file: metadata that change with its content.

use std::fs::Metadata;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Files that load well are watched too if they changed within this time before the start: they may
/// lack rows.
const RECENT_TIME: Duration = Duration::from_secs(120);

/// What changes if a file's content does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    size: u64,
    pub(super) modified: Option<SystemTime>,
    /// When the file itself was changed, renamed or given other times, and which file it is.
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

    /// Returns true if the file changed lately by the system's clock, or in what that takes for the
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
