//! Files that other programs may change while the service runs: it looks at them again.
//!
//! Those that changed lately may be in the middle of being copied, and those that cannot be used
//! may be mended: each poll asks for them. The others are polled for in turn, because a gallery may
//! have many.

mod fingerprint;
mod listing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use fingerprint::Fingerprint;
pub(crate) use listing::{FolderListing, FolderStamp};

/// The time for which a file must stay the same before it is taken to be as its writer left it.
///
/// It counts from the first sight of the file on the monotonic clock. Times of the file itself say
/// nothing: `rsync -a` sets old ones, and clocks are set.
pub(crate) const SETTLE_TIME: Duration = Duration::from_secs(60);

/// Files of those that are not watched closely that a poll asks the disk for: all are looked at in
/// turn.
const POLL_BATCH: usize = 512;

/// The files that are watched, each as what is known of it was read.
#[derive(Debug, Default)]
pub(crate) struct WatchedFiles(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    states: BTreeMap<PathBuf, FileState>,
    /// The file after which the next poll goes on with those whose turn it is.
    cursor: PathBuf,
}

/// What was seen of a file.
#[derive(Clone, Debug)]
struct FileState {
    fingerprint: Fingerprint,
    /// When it was seen like this for the first time.
    since: Instant,
    /// Why it cannot be used, as a word for metrics; none if it was read well.
    reason: Option<&'static str>,
    /// Whether each poll asks for it: it changed lately, or cannot be used.
    is_always_polled: bool,
    /// Whether it changed and was not reported yet: it is once it stays the same from one poll to
    /// the next.
    is_pending: bool,
    /// Whether it was reported as settled. It is reported once: what is done about it then may fail
    /// each time.
    is_reported: bool,
}

/// The outcome of a poll at all watched files.
#[derive(Debug, Default)]
pub(crate) struct FileChanges {
    /// Files that changed since they were seen before, and stayed the same since the cursor poll.
    pub changed: Vec<PathBuf>,
    /// Files that cannot be used and stayed as they are long enough.
    pub settled: Vec<PathBuf>,
}

impl WatchedFiles {
    /// Records a file that was read well. It is watched closely if it changed lately.
    pub(crate) fn record_valid(&self, path: &Path, fingerprint: Fingerprint) {
        record(&mut self.lock(), path, fingerprint, None);
    }

    /// Records a file that cannot be used.
    pub(crate) fn record_invalid(
        &self,
        path: &Path,
        fingerprint: Option<Fingerprint>,
        reason: &'static str,
    ) {
        // One that is gone is not to be watched.
        if let Some(fingerprint) = fingerprint.or_else(|| Fingerprint::at(path)) {
            record(&mut self.lock(), path, fingerprint, Some(reason));
        }
    }

    /// Records a file as this process wrote it, which is not news.
    pub(crate) fn record_own_write(&self, path: &Path, fingerprint: Option<Fingerprint>) {
        match fingerprint {
            Some(fingerprint) => drop(
                self.lock()
                    .states
                    .insert(path.to_owned(), FileState::of(fingerprint, None, false)),
            ),
            None => self.forget(path),
        }
    }

    /// Does not watch a file any more.
    pub(crate) fn forget(&self, path: &Path) {
        self.lock().states.remove(path);
    }

    /// Returns those of the files that were not seen yet.
    pub(crate) fn retain_new(&self, mut files: Vec<PathBuf>) -> Vec<PathBuf> {
        let known = self.lock();
        files.retain(|path| !known.states.contains_key(path));
        files
    }

    /// Returns true if a file is another than the one that was read cursor.
    pub(crate) fn is_changed(&self, path: &Path) -> bool {
        let now = Fingerprint::at(path);
        match self.lock().states.get(path) {
            Some(state) => state.is_pending || now.as_ref() != Some(&state.fingerprint),
            None => now.is_some(),
        }
    }

    /// Returns true if a file is as it was when it was first seen, long enough ago.
    pub(crate) fn has_settled(&self, path: &Path) -> bool {
        let files = self.lock();
        let seen = files
            .states
            .get(path)
            .filter(|state| state.since.elapsed() >= SETTLE_TIME);
        seen.is_some_and(|state| Fingerprint::at(path).as_ref() == Some(&state.fingerprint))
    }

    /// Looks at files that changed lately or cannot be used, and at a share of the others. Those
    /// that are gone are not watched any more.
    pub(crate) fn poll(&self) -> FileChanges {
        let mut poll = FileChanges::default();
        let polled = self.lock().next();
        // Without the lock, which enrolments take: a disk may be slow.
        let seen: Vec<_> = polled
            .into_iter()
            .map(|(path, before)| (Fingerprint::at(&path), path, before))
            .collect();
        let mut files = self.lock();
        for (now, path, before) in seen {
            // One that this process wrote meanwhile is known.
            let Some(state) = files
                .states
                .get_mut(&path)
                .filter(|state| state.fingerprint == before)
            else {
                continue;
            };
            let Some(now) = now else {
                files.states.remove(&path);
                continue;
            };
            if now != before {
                *state = FileState {
                    is_pending: true,
                    ..FileState::of(now, state.reason, true)
                };
                continue;
            }
            if std::mem::take(&mut state.is_pending) {
                poll.changed.push(path);
                continue;
            }
            let is_settled = state.since.elapsed() >= SETTLE_TIME;
            state.is_always_polled =
                state.reason.is_some() || (state.is_always_polled && !is_settled);
            if is_settled
                && state.reason.is_some()
                && !std::mem::replace(&mut state.is_reported, true)
            {
                poll.settled.push(path);
            }
        }
        poll
    }

    /// Counts the files that cannot be used by their reasons.
    pub(crate) fn left_alone(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for reason in self.lock().states.values().filter_map(|state| state.reason) {
            *counts.entry(reason).or_default() += 1;
        }
        counts
    }

    /// Has every file been seen for long enough.
    #[cfg(test)]
    pub(crate) fn settle_all(&self) {
        for state in self.lock().states.values_mut() {
            state.since = state.since.checked_sub(SETTLE_TIME).unwrap();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    /// The files that a poll asks for, each as it was seen: those that are watched closely, and
    /// those whose turn it is.
    fn next(&mut self) -> Vec<(PathBuf, Fingerprint)> {
        let (mut polled, mut left, mut cursor) = (Vec::new(), POLL_BATCH, PathBuf::new());
        for (path, state) in &self.states {
            let is_next = left > 0 && *path > self.cursor;
            if is_next {
                left -= 1;
                cursor.clone_from(path);
            }
            if is_next || state.is_always_polled {
                polled.push((path.clone(), state.fingerprint.clone()));
            }
        }
        // After the cursor one it begins anew.
        self.cursor = if left == 0 { cursor } else { PathBuf::new() };
        polled
    }
}

impl FileState {
    fn of(fingerprint: Fingerprint, reason: Option<&'static str>, is_always_polled: bool) -> Self {
        Self {
            fingerprint,
            since: Instant::now(),
            reason,
            is_always_polled,
            is_pending: false,
            is_reported: false,
        }
    }
}

fn record(files: &mut Files, path: &Path, fingerprint: Fingerprint, reason: Option<&'static str>) {
    let before = files.states.get(path);
    let is_always_polled = before.is_some_and(|before| before.is_always_polled)
        || reason.is_some()
        || fingerprint.is_recent();
    let mut state = FileState::of(fingerprint, reason, is_always_polled);
    if let Some(before) = before.filter(|before| before.fingerprint == state.fingerprint) {
        (state.since, state.is_reported) = (before.since, before.is_reported);
    }
    files.states.insert(path.to_owned(), state);
}

#[cfg(test)]
mod tests;
