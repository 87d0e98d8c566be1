//! Files that may be in the middle of being copied, or that somebody may mend: a running service looks at them again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The time for which a file must stay the same before it is taken to be as its writer left it.
///
/// It counts from the first sight of the file on the monotonic clock. Times of the file itself say nothing: `rsync -a` sets old ones, and
/// clocks are set.
pub(crate) const SETTLED: Duration = Duration::from_secs(60);

/// Files that load well are watched too if they changed within this time before the start: they may lack rows.
const RECENT: Duration = Duration::from_secs(120);

/// Times of folders are this coarse at most: what changed within it after a listing need not show.
const COARSE: Duration = Duration::from_secs(2);

/// The files that are watched.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<HashMap<PathBuf, Sighting>>);

/// What was seen of a file.
#[derive(Clone, Debug)]
struct Sighting {
    fingerprint: Fingerprint,
    /// When it was seen like this for the first time.
    since: Instant,
    /// Why it cannot be used, as a word for metrics; none if it was read well.
    reason: Option<&'static str>,
    /// Whether it was reported as settled. It is reported once: what is done about it then may fail each time.
    is_reported: bool,
}

/// What changes if a file's content does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    size: u64,
    modified: Option<SystemTime>,
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
        Self { size: metadata.len(), modified: metadata.modified().ok(), inode }
    }

    fn at(path: &Path) -> Option<Self> {
        path.symlink_metadata().ok().as_ref().map(Self::of)
    }

    /// Returns true if the file changed lately by the system's clock, or in what that takes for the future.
    fn is_recent(&self) -> bool {
        let (_, seconds, _) = self.inode;
        let changed = u64::try_from(seconds).ok().map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let is_old = |time: SystemTime| SystemTime::now().duration_since(time).is_ok_and(|age| age > RECENT);
        !changed.filter(|_| cfg!(unix)).or(self.modified).is_some_and(is_old)
    }
}

/// The names in a folder, and whether there may be others by now.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The folder as it was before it was listed.
    folder: Fingerprint,
    listed: SystemTime,
    names: HashSet<OsString>,
}

impl Listing {
    /// Lists a folder.
    pub(crate) fn of(folder: &Path, is_wanted: impl Fn(&OsStr) -> bool) -> io::Result<Self> {
        let (before, listed) = (Fingerprint::of(&folder.metadata()?), SystemTime::now());
        let mut names = HashSet::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            if is_wanted(&name) {
                names.insert(name);
            }
        }
        Ok(Self { folder: before, listed, names })
    }

    /// Returns true if the folder is as it was when it was listed.
    pub(crate) fn is_current(&self, folder: &Path) -> io::Result<bool> {
        let folder = Fingerprint::of(&folder.metadata()?);
        Ok(folder == self.folder && folder.modified.is_some_and(|time| time + COARSE < self.listed))
    }

    /// The names, in their order.
    pub(crate) fn names(&self) -> Vec<OsString> {
        let mut names: Vec<OsString> = self.names.iter().cloned().collect();
        names.sort();
        names
    }

    /// The names that an earlier listing lacks.
    pub(crate) fn since(&self, earlier: &Self) -> Vec<OsString> {
        self.names().into_iter().filter(|name| !earlier.names.contains(name)).collect()
    }

    pub(crate) fn insert(&mut self, name: &OsStr) {
        self.names.insert(name.to_owned());
    }

    pub(crate) fn remove(&mut self, name: &OsStr) {
        self.names.remove(name);
    }
}

/// The outcome of a look at all watched files.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Files that changed since they were seen before.
    pub changed: Vec<PathBuf>,
    /// Files that cannot be used and stayed as they are long enough.
    pub settled: Vec<PathBuf>,
}

impl Watched {
    /// Records a file that was read well: it is watched only if it changed lately.
    pub(crate) fn note_good(&self, path: &Path, fingerprint: Fingerprint) {
        let mut files = self.locked();
        if files.contains_key(path) || fingerprint.is_recent() {
            see(&mut files, path, fingerprint, None);
        }
    }

    /// Records a file that cannot be used.
    pub(crate) fn note_bad(&self, path: &Path, fingerprint: Option<Fingerprint>, reason: &'static str) {
        // One that is gone is not to be watched.
        if let Some(fingerprint) = fingerprint.or_else(|| Fingerprint::at(path)) {
            see(&mut self.locked(), path, fingerprint, Some(reason));
        }
    }

    /// Does not watch a file any more.
    pub(crate) fn forget(&self, path: &Path) {
        self.locked().remove(path);
    }

    /// Returns true if a file is as it was when it was first seen, long enough ago.
    pub(crate) fn has_settled(&self, path: &Path) -> bool {
        let files = self.locked();
        let seen = files.get(path).filter(|sighting| sighting.since.elapsed() >= SETTLED);
        seen.is_some_and(|sighting| Fingerprint::at(path).as_ref() == Some(&sighting.fingerprint))
    }

    /// Looks at all files once. Those that are gone, and those that were read well and stayed as they are, are not watched any more.
    pub(crate) fn look(&self) -> Look {
        let mut look = Look::default();
        self.locked().retain(|path, sighting| {
            let Some(fingerprint) = Fingerprint::at(path) else { return false };
            if fingerprint != sighting.fingerprint {
                *sighting = Sighting { fingerprint, since: Instant::now(), reason: sighting.reason, is_reported: false };
                look.changed.push(path.clone());
                return true;
            }
            let settled = sighting.since.elapsed() >= SETTLED;
            if settled && sighting.reason.is_some() && !std::mem::replace(&mut sighting.is_reported, true) {
                look.settled.push(path.clone());
            }
            !settled || sighting.reason.is_some()
        });
        look
    }

    /// Counts the files that cannot be used by their reasons.
    pub(crate) fn left_alone(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for reason in self.locked().values().filter_map(|sighting| sighting.reason) {
            *counts.entry(reason).or_default() += 1;
        }
        counts
    }

    /// Has every file been seen for long enough.
    #[cfg(test)]
    pub(crate) fn age(&self) {
        for sighting in self.locked().values_mut() {
            sighting.since = sighting.since.checked_sub(SETTLED).unwrap();
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<PathBuf, Sighting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn see(files: &mut HashMap<PathBuf, Sighting>, path: &Path, fingerprint: Fingerprint, reason: Option<&'static str>) {
    let before = files.get(path).filter(|before| before.fingerprint == fingerprint);
    let (since, is_reported) = before.map_or_else(|| (Instant::now(), false), |before| (before.since, before.is_reported));
    files.insert(path.to_owned(), Sighting { fingerprint, since, reason, is_reported });
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn file_settles_from_first_sight() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s6.csv");
        fs::write(&path, "half").unwrap();
        // The file says that it is old; it is not.
        fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let watched = Watched::default();
        watched.note_bad(&path, None, "damaged");
        assert!(!watched.has_settled(&path) && watched.look().settled.is_empty());
        watched.age();
        watched.note_bad(&path, None, "damaged");
        assert!(watched.has_settled(&path));
        assert_eq!(watched.look().settled, std::slice::from_ref(&path));
        assert!(watched.look().settled.is_empty(), "it is reported once");
        assert_eq!(watched.left_alone(), [("damaged", 1)].into());
        // A change begins anew.
        fs::write(&path, "more than half").unwrap();
        assert!(!watched.has_settled(&path));
        let look = watched.look();
        assert_eq!((look.changed.as_slice(), look.settled.is_empty()), (std::slice::from_ref(&path), true));
        fs::remove_file(&path).unwrap();
        assert!(watched.look().changed.is_empty() && watched.left_alone().is_empty());
    }

    #[test]
    fn good_file_is_watched_while_recent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s6.csv");
        fs::write(&path, "whole").unwrap();
        let watched = Watched::default();
        watched.note_good(&path, Fingerprint::at(&path).unwrap());
        assert!(watched.left_alone().is_empty());
        fs::write(&path, "whole, and more").unwrap();
        assert_eq!(watched.look().changed, std::slice::from_ref(&path));
        watched.age();
        watched.look();
        fs::write(&path, "later").unwrap();
        assert!(watched.look().changed.is_empty());
    }
}
