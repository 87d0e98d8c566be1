//! Files that other programs may change while the service runs: it looks at them again.
//!
//! Those that changed lately may be in the middle of being copied, and those that cannot be used
//! may be mended: each look asks for them. The others are asked for in turn, because a gallery may
//! have many.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The time for which a file must stay the same before it is taken to be as its writer left it.
///
/// It counts from the first sight of the file on the monotonic clock. Times of the file itself say
/// nothing: `rsync -a` sets old ones, and clocks are set.
pub(crate) const SETTLED: Duration = Duration::from_secs(60);

/// Files that load well are watched too if they changed within this time before the start: they may
/// lack rows.
const RECENT: Duration = Duration::from_secs(120);

/// Times of folders are this coarse at most: what changed within it after a listing need not show.
const COARSE: Duration = Duration::from_secs(2);

/// Files of those that are not watched closely that a look asks the disk for: all are looked at in
/// turn.
const SHARE: usize = 512;

/// The files that are watched, each as what is known of it was read.
#[derive(Debug, Default)]
pub(crate) struct WatchedFiles(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    sightings: BTreeMap<PathBuf, FileState>,
    /// The file after which the next look goes on with those whose turn it is.
    last: PathBuf,
}

/// What was seen of a file.
#[derive(Clone, Debug)]
struct FileState {
    fingerprint: Fingerprint,
    /// When it was seen like this for the first time.
    since: Instant,
    /// Why it cannot be used, as a word for metrics; none if it was read well.
    reason: Option<&'static str>,
    /// Whether each look asks for it: it changed lately, or cannot be used.
    is_close: bool,
    /// Whether it changed and was not reported yet: it is once it stays the same from one look to
    /// the next.
    is_pending: bool,
    /// Whether it was reported as settled. It is reported once: what is done about it then may fail
    /// each time.
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
    fn is_recent(&self) -> bool {
        let (_, seconds, _) = self.inode;
        let changed = u64::try_from(seconds)
            .ok()
            .map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let is_old = |time: SystemTime| {
            SystemTime::now()
                .duration_since(time)
                .is_ok_and(|age| age > RECENT)
        };
        !changed
            .filter(|_| cfg!(unix))
            .or(self.modified)
            .is_some_and(is_old)
    }
}

/// A folder as it was before it was listed.
#[derive(Clone, Debug)]
pub(crate) struct FolderStamp {
    folder: Fingerprint,
    listed: SystemTime,
}

impl FolderStamp {
    /// Taken before a folder is listed.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            folder: Fingerprint::of(&folder.metadata()?),
            listed: SystemTime::now(),
        })
    }

    /// Returns true if the folder has the names that it had when it was listed.
    pub(crate) fn is_current(&self, folder: &Path) -> io::Result<bool> {
        let folder = Fingerprint::of(&folder.metadata()?);
        Ok(folder == self.folder
            && folder
                .modified
                .is_some_and(|time| time + COARSE < self.listed))
    }
}

/// The names in a folder, and whether there may be others by now.
#[derive(Debug)]
pub(crate) struct FolderListing {
    stamp: FolderStamp,
    names: HashSet<OsString>,
}

impl FolderListing {
    /// Lists a folder.
    pub(crate) fn of(folder: &Path, is_wanted: impl Fn(&OsStr) -> bool) -> io::Result<Self> {
        let stamp = FolderStamp::of(folder)?;
        let mut names = HashSet::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            if is_wanted(&name) {
                names.insert(name);
            }
        }
        Ok(Self { stamp, names })
    }

    /// Returns true if the folder is as it was when it was listed.
    pub(crate) fn is_current(&self, folder: &Path) -> io::Result<bool> {
        self.stamp.is_current(folder)
    }

    /// The names, in their order.
    pub(crate) fn names(&self) -> Vec<OsString> {
        let mut names: Vec<OsString> = self.names.iter().cloned().collect();
        names.sort();
        names
    }

    /// The names that an earlier listing lacks.
    pub(crate) fn since(&self, earlier: &Self) -> Vec<OsString> {
        self.names()
            .into_iter()
            .filter(|name| !earlier.names.contains(name))
            .collect()
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
pub(crate) struct FileChanges {
    /// Files that changed since they were seen before, and stayed the same since the last look.
    pub changed: Vec<PathBuf>,
    /// Files that cannot be used and stayed as they are long enough.
    pub settled: Vec<PathBuf>,
}

impl WatchedFiles {
    /// Records a file that was read well. It is watched closely if it changed lately.
    pub(crate) fn note_good(&self, path: &Path, fingerprint: Fingerprint) {
        see(&mut self.locked(), path, fingerprint, None);
    }

    /// Records a file that cannot be used.
    pub(crate) fn note_bad(
        &self,
        path: &Path,
        fingerprint: Option<Fingerprint>,
        reason: &'static str,
    ) {
        // One that is gone is not to be watched.
        if let Some(fingerprint) = fingerprint.or_else(|| Fingerprint::at(path)) {
            see(&mut self.locked(), path, fingerprint, Some(reason));
        }
    }

    /// Records a file as this process wrote it, which is not news.
    pub(crate) fn note_own(&self, path: &Path, fingerprint: Option<Fingerprint>) {
        match fingerprint {
            Some(fingerprint) => drop(
                self.locked()
                    .sightings
                    .insert(path.to_owned(), FileState::of(fingerprint, None, false)),
            ),
            None => self.forget(path),
        }
    }

    /// Does not watch a file any more.
    pub(crate) fn forget(&self, path: &Path) {
        self.locked().sightings.remove(path);
    }

    /// Returns those of the files that were not seen yet.
    pub(crate) fn unknown(&self, mut files: Vec<PathBuf>) -> Vec<PathBuf> {
        let known = self.locked();
        files.retain(|path| !known.sightings.contains_key(path));
        files
    }

    /// Returns true if a file is another than the one that was read last.
    pub(crate) fn is_changed(&self, path: &Path) -> bool {
        let now = Fingerprint::at(path);
        match self.locked().sightings.get(path) {
            Some(sighting) => sighting.is_pending || now.as_ref() != Some(&sighting.fingerprint),
            None => now.is_some(),
        }
    }

    /// Returns true if a file is as it was when it was first seen, long enough ago.
    pub(crate) fn has_settled(&self, path: &Path) -> bool {
        let files = self.locked();
        let seen = files
            .sightings
            .get(path)
            .filter(|sighting| sighting.since.elapsed() >= SETTLED);
        seen.is_some_and(|sighting| Fingerprint::at(path).as_ref() == Some(&sighting.fingerprint))
    }

    /// Looks at files that changed lately or cannot be used, and at a share of the others. Those
    /// that are gone are not watched any more.
    pub(crate) fn look(&self) -> FileChanges {
        let mut look = FileChanges::default();
        let asked = self.locked().next();
        // Without the lock, which enrolments take: a disk may be slow.
        let seen: Vec<_> = asked
            .into_iter()
            .map(|(path, before)| (Fingerprint::at(&path), path, before))
            .collect();
        let mut files = self.locked();
        for (now, path, before) in seen {
            // One that this process wrote meanwhile is known.
            let Some(sighting) = files
                .sightings
                .get_mut(&path)
                .filter(|sighting| sighting.fingerprint == before)
            else {
                continue;
            };
            let Some(now) = now else {
                files.sightings.remove(&path);
                continue;
            };
            if now != before {
                *sighting = FileState {
                    is_pending: true,
                    ..FileState::of(now, sighting.reason, true)
                };
                continue;
            }
            if std::mem::take(&mut sighting.is_pending) {
                look.changed.push(path);
                continue;
            }
            let is_settled = sighting.since.elapsed() >= SETTLED;
            sighting.is_close = sighting.reason.is_some() || (sighting.is_close && !is_settled);
            if is_settled
                && sighting.reason.is_some()
                && !std::mem::replace(&mut sighting.is_reported, true)
            {
                look.settled.push(path);
            }
        }
        look
    }

    /// Counts the files that cannot be used by their reasons.
    pub(crate) fn left_alone(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for reason in self
            .locked()
            .sightings
            .values()
            .filter_map(|sighting| sighting.reason)
        {
            *counts.entry(reason).or_default() += 1;
        }
        counts
    }

    /// Has every file been seen for long enough.
    #[cfg(test)]
    pub(crate) fn age(&self) {
        for sighting in self.locked().sightings.values_mut() {
            sighting.since = sighting.since.checked_sub(SETTLED).unwrap();
        }
    }

    fn locked(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    /// The files that a look asks for, each as it was seen: those that are watched closely, and
    /// those whose turn it is.
    fn next(&mut self) -> Vec<(PathBuf, Fingerprint)> {
        let (mut asked, mut left, mut last) = (Vec::new(), SHARE, PathBuf::new());
        for (path, sighting) in &self.sightings {
            let has_turn = left > 0 && *path > self.last;
            if has_turn {
                left -= 1;
                last.clone_from(path);
            }
            if has_turn || sighting.is_close {
                asked.push((path.clone(), sighting.fingerprint.clone()));
            }
        }
        // After the last one it begins anew.
        self.last = if left == 0 { last } else { PathBuf::new() };
        asked
    }
}

impl FileState {
    fn of(fingerprint: Fingerprint, reason: Option<&'static str>, is_close: bool) -> Self {
        Self {
            fingerprint,
            since: Instant::now(),
            reason,
            is_close,
            is_pending: false,
            is_reported: false,
        }
    }
}

fn see(files: &mut Files, path: &Path, fingerprint: Fingerprint, reason: Option<&'static str>) {
    let before = files.sightings.get(path);
    let is_close =
        before.is_some_and(|before| before.is_close) || reason.is_some() || fingerprint.is_recent();
    let mut sighting = FileState::of(fingerprint, reason, is_close);
    if let Some(before) = before.filter(|before| before.fingerprint == sighting.fingerprint) {
        (sighting.since, sighting.is_reported) = (before.since, before.is_reported);
    }
    files.sightings.insert(path.to_owned(), sighting);
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
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        let watched = WatchedFiles::default();
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
        assert!(!watched.has_settled(&path) && watched.is_changed(&path));
        assert!(watched.look().changed.is_empty(), "it may change further");
        let look = watched.look();
        assert_eq!(
            (look.changed.as_slice(), look.settled.is_empty()),
            (std::slice::from_ref(&path), true)
        );
        assert!(!watched.is_changed(&path) && watched.look().changed.is_empty());
        fs::remove_file(&path).unwrap();
        assert!(watched.look().changed.is_empty() && watched.left_alone().is_empty());
    }

    /// A file that changes at each look is not reported before it stops.
    #[test]
    fn changing_file_is_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s6.csv");
        fs::write(&path, "whole").unwrap();
        let watched = WatchedFiles::default();
        watched.note_good(&path, Fingerprint::at(&path).unwrap());
        assert!(watched.left_alone().is_empty());
        for length in 6..10 {
            fs::write(&path, "x".repeat(length)).unwrap();
            assert!(watched.look().changed.is_empty());
        }
        assert_eq!(watched.look().changed, std::slice::from_ref(&path));
        // Later it is looked at in its turn.
        watched.age();
        watched.look();
        fs::write(&path, "later").unwrap();
        watched.look();
        assert_eq!(watched.look().changed, [path]);
    }

    /// Many files take several looks, after which each was looked at.
    #[test]
    fn files_are_looked_at_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let watched = WatchedFiles::default();
        let paths: Vec<PathBuf> = (0..3 * SHARE)
            .map(|number| folder.path().join(format!("{number:05}.csv")))
            .collect();
        for path in &paths {
            fs::write(path, "whole").unwrap();
            watched.note_own(path, Fingerprint::at(path));
        }
        watched.look();
        let changed = [
            &paths[3],
            &paths[SHARE + 3],
            &paths[2 * SHARE],
            &paths[3 * SHARE - 1],
        ];
        for path in changed {
            fs::write(path, "changed").unwrap();
        }
        let mut seen: Vec<PathBuf> = (0..6).flat_map(|_| watched.look().changed).collect();
        seen.sort();
        assert_eq!(seen.iter().collect::<Vec<_>>(), changed);
    }
}
