//! Detects files that other programs change while the service runs, by polling.
//!
//! Each poll reads the metadata of files that changed recently, because they may still be being
//! copied. It also reads that of unusable files, because an operator may repair them. It reads that
//! of the others in turn, because a gallery may have many.

mod fingerprint;
mod listing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use fingerprint::Fingerprint;
pub(crate) use listing::{FolderListing, FolderStamp};

/// Time for which a file must stay the same before its writer counts as finished.
///
/// It is measured on the monotonic clock from the first time that the file was seen. The times of
/// the file itself prove nothing: `rsync -a` sets old ones, and clocks are set.
pub(crate) const SETTLE_TIME: Duration = Duration::from_secs(60);

/// Number of other files per poll, which reads their metadata in turn.
const POLL_BATCH: usize = 512;

/// The files that are polled, each as it was last read.
#[derive(Debug, Default)]
pub(crate) struct WatchedFiles(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    states: BTreeMap<PathBuf, FileState>,
    /// File after which the next poll continues.
    cursor: PathBuf,
}

/// State of a file as it was last seen.
#[derive(Clone, Debug)]
struct FileState {
    fingerprint: Fingerprint,
    /// Time at which it was first seen with this fingerprint.
    since: Instant,
    /// Reason why it cannot be used, as a word for metrics; none for a valid file.
    reason: Option<&'static str>,
    /// Whether each poll reads its metadata: it changed recently, or cannot be used.
    is_always_polled: bool,
    /// Whether it changed and is not reported yet. It is reported once it stays the same from one
    /// poll to the next.
    is_pending: bool,
    /// Whether it was reported as settled. It is reported once, because the action that follows may
    /// fail each time.
    is_reported: bool,
}

/// Changes that a poll found.
#[derive(Debug, Default)]
pub(crate) struct FileChanges {
    /// Files that changed, and stayed the same since the previous poll.
    pub changed: Vec<PathBuf>,
    /// Unusable files that stayed the same for [`SETTLE_TIME`].
    pub settled: Vec<PathBuf>,
}

impl WatchedFiles {
    /// Records a valid file. It is polled each time if it changed recently.
    pub(crate) fn record_valid(&self, path: &Path, fingerprint: Fingerprint) {
        record(&mut self.lock(), path, fingerprint, None);
    }

    /// Records an unusable file.
    pub(crate) fn record_invalid(
        &self,
        path: &Path,
        fingerprint: Option<Fingerprint>,
        reason: &'static str,
    ) {
        // A file that is gone is not polled.
        if let Some(fingerprint) = fingerprint.or_else(|| Fingerprint::at(path)) {
            record(&mut self.lock(), path, fingerprint, Some(reason));
        }
    }

    /// Records a file that this process wrote, so that no poll reports it.
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

    /// Stops polling a file.
    pub(crate) fn forget(&self, path: &Path) {
        self.lock().states.remove(path);
    }

    /// Returns the files that have no state yet.
    pub(crate) fn retain_new(&self, mut files: Vec<PathBuf>) -> Vec<PathBuf> {
        let known = self.lock();
        files.retain(|path| !known.states.contains_key(path));
        files
    }

    /// Returns true if a file changed since it was last read.
    pub(crate) fn is_changed(&self, path: &Path) -> bool {
        let now = Fingerprint::at(path);
        match self.lock().states.get(path) {
            Some(state) => state.is_pending || now.as_ref() != Some(&state.fingerprint),
            None => now.is_some(),
        }
    }

    /// Returns true if a file stayed the same for [`SETTLE_TIME`].
    pub(crate) fn has_settled(&self, path: &Path) -> bool {
        let files = self.lock();
        let state = files
            .states
            .get(path)
            .filter(|state| state.since.elapsed() >= SETTLE_TIME);
        state.is_some_and(|state| Fingerprint::at(path).as_ref() == Some(&state.fingerprint))
    }

    /// Reads the metadata of the files that are always polled, and of a share of the others. Files
    /// that are gone are no longer polled.
    pub(crate) fn poll(&self) -> FileChanges {
        let mut changes = FileChanges::default();
        let due = self.lock().next();
        // Without the lock, because enrolments need it and a disk may be slow.
        let polled: Vec<_> = due
            .into_iter()
            .map(|(path, before)| (Fingerprint::at(&path), path, before))
            .collect();
        let mut files = self.lock();
        for (now, path, before) in polled {
            // This process wrote the file meanwhile.
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
                changes.changed.push(path);
                continue;
            }
            let is_settled = state.since.elapsed() >= SETTLE_TIME;
            state.is_always_polled =
                state.reason.is_some() || (state.is_always_polled && !is_settled);
            if is_settled
                && state.reason.is_some()
                && !std::mem::replace(&mut state.is_reported, true)
            {
                changes.settled.push(path);
            }
        }
        changes
    }

    /// Counts the unusable files by their reasons.
    pub(crate) fn left_alone(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for reason in self.lock().states.values().filter_map(|state| state.reason) {
            *counts.entry(reason).or_default() += 1;
        }
        counts
    }

    /// Makes every file settled.
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
    /// Returns the files to poll, with their last fingerprints, and advances the cursor.
    fn next(&mut self) -> Vec<(PathBuf, Fingerprint)> {
        let (mut due, mut remaining, mut cursor) = (Vec::new(), POLL_BATCH, PathBuf::new());
        for (path, state) in &self.states {
            let is_next = remaining > 0 && *path > self.cursor;
            if is_next {
                remaining -= 1;
                cursor.clone_from(path);
            }
            if is_next || state.is_always_polled {
                due.push((path.clone(), state.fingerprint.clone()));
            }
        }
        // The next poll starts from the first file.
        self.cursor = if remaining == 0 {
            cursor
        } else {
            PathBuf::new()
        };
        due
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
