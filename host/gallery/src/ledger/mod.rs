//! Ledger of a gallery: its id, its change number, and tombstones of deleted people.
//!
//! The ledger lies in `.ledger` in the gallery's folder. An archive of the gallery carries the id
//! and the number, so that an import can tell who was deleted after the archive was origin. The file
//! of tombstones has preallocated room, because a deletion must not need any on a full disk.

mod galleries;
mod merge;
mod open;
mod slots;
mod tombstones;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use rostro_common::person::PersonId;

use self::open::OpenLedger;
use self::slots::SlotRecord;
use crate::error::remedy;

pub use self::tombstones::{ArchiveOrigin, Mac, Tombstone, Tombstones, now};

/// Folder of the ledger in the gallery's.
const FOLDER: &str = ".ledger";

/// Prefix of files whose write was cut short.
const TEMPORARY_PREFIX: &str = ".unfinished-";

/// How far a number of this gallery may be above the latest one. A gallery that was restored from a
/// copy is behind its archives, but never by so many changes; a larger step would use up the
/// numbers.
const MAX_STEP: u64 = 1 << 32;

/// Why a number is not adopted.
const TOO_FAR: &str = "its number is far above any that this gallery gave";

/// Number of a durable change. A store gives each number once, also over restarts, and never one
/// below an earlier number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeNumber(pub u64);

/// Ledger of a gallery. Calls block.
#[derive(Debug)]
pub struct Ledger {
    /// None where nothing is recorded, as in a trial.
    folder: Option<PathBuf>,
    state: Mutex<LedgerState>,
    /// Changes since the import under way began; none while there is no import. It needs no disk.
    concurrent: Mutex<Option<ConcurrentChanges>>,
    /// Numbers of deletions that have not ended yet.
    running_deletions: Mutex<BTreeSet<u64>>,
    /// The latest number where the ledger cannot be used.
    fallback: AtomicU64,
}

/// A deletion that has begun. The number of an archive stays below its number until this is
/// dropped.
#[derive(Debug)]
pub(crate) struct RunningDeletion<'l> {
    ledger: &'l Ledger,
    /// The number of the deletion.
    pub number: ChangeNumber,
    /// Whether the tombstone is durable. If it is not, the deletion continues, and an import after a
    /// restart may restore the person.
    pub has_tombstone: bool,
}

/// People who were changed while an import is under way.
#[derive(Debug, Default)]
struct ConcurrentChanges {
    deleted: HashSet<PersonId>,
    written: HashSet<PersonId>,
}

/// An import under way, over which deletions win; it ends when this is dropped.
#[derive(Debug)]
pub struct ImportWatch(Arc<Ledger>);

#[derive(Debug)]
enum LedgerState {
    /// There is no ledger yet; the first change makes it.
    Missing,
    /// The ledger cannot be read. It is left alone.
    Unusable,
    Open(Box<OpenLedger>),
}

/// Why an archive leaves a person out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionReason {
    /// The person was deleted after the archive was origin.
    SinceArchive,
    /// The person was deleted after the import began.
    SinceImport,
}

/// What an archive is numbered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveNumber {
    /// Id of the gallery.
    pub gallery: Uuid,
    /// None if the number cannot be origin durable.
    pub number: Option<u64>,
}

impl Ledger {
    /// A ledger that records nothing.
    pub fn none() -> Self {
        Self {
            folder: None,
            state: Mutex::new(LedgerState::Unusable),
            concurrent: Mutex::default(),
            running_deletions: Mutex::default(),
            fallback: AtomicU64::new(0),
        }
    }

    /// Opens the ledger of a gallery for the process that writes it. A gallery of people without a
    /// ledger gets one now, an blank gallery at its first change. A ledger that cannot be used does
    /// not keep the gallery from serving: the log says so.
    pub fn open(gallery: &Path) -> Self {
        let folder = gallery.join(FOLDER);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(TEMPORARY_PREFIX)
            {
                let _ = fs::remove_file(entry.path());
            }
        }
        let mut state = match open::read(&folder) {
            Ok(Some(open)) => LedgerState::Open(Box::new(open)),
            Ok(None) => LedgerState::Missing,
            Err(cause) if cause.kind() == io::ErrorKind::InvalidData => quarantine(&folder, &cause),
            Err(cause) => {
                tracing::error!(
                    "deletions leave no tombstones, and exports have no number: cannot read the ledger {}: {cause}{}",
                    folder.display(),
                    remedy(&cause)
                );
                LedgerState::Unusable
            }
        };
        let has_people = || {
            fs::read_dir(gallery).is_ok_and(|mut entries| {
                entries.any(|entry| entry.is_ok_and(|entry| is_csv(&entry.path())))
            })
        };
        if matches!(state, LedgerState::Missing) && has_people() {
            // A disk that is full now may have room at the first change.
            if let Ok(open) = OpenLedger::create(&folder) {
                state = LedgerState::Open(Box::new(open));
            }
        }
        Self {
            folder: Some(folder),
            state: Mutex::new(state),
            concurrent: Mutex::default(),
            running_deletions: Mutex::default(),
            fallback: AtomicU64::new(0),
        }
    }

    /// Returns the number of a change that took effect.
    pub(crate) fn advance(&self) -> ChangeNumber {
        let mut state = self.lock();
        let Some(open) = self.open_or_create(&mut state) else {
            return self.advance_fallback();
        };
        open.number = open.number.saturating_add(1);
        let reserved = open.reserve();
        open.report(self.folder.as_deref(), "the change number", &reserved);
        ChangeNumber(open.number)
    }

    fn advance_fallback(&self) -> ChangeNumber {
        ChangeNumber(self.fallback.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Records for the import under way that a person is written, before they are.
    pub fn record_write(&self, id: &PersonId) {
        if let Some(concurrent) = &mut *self.concurrent() {
            concurrent.written.insert(id.clone());
        }
    }

    /// Records a deletion, before anything of the person is removed.
    pub(crate) fn begin_deletion(&self, id: &PersonId) -> RunningDeletion<'_> {
        if let Some(concurrent) = &mut *self.concurrent() {
            concurrent.deleted.insert(id.clone());
        }
        let mut state = self.lock();
        let Some(open) = self.open_or_create(&mut state) else {
            return self.begin_running(self.advance_fallback(), false);
        };
        open.expire(false);
        open.number = open.number.saturating_add(1);
        let number = ChangeNumber(open.number);
        let own = open.galleries.own;
        let Some(mac) = open.galleries.key(own).map(|key| key.hash(id.as_str()).0) else {
            return self.begin_running(number, false);
        };
        let tombstone = Tombstone {
            number: open.number,
            deleted_at: now().max(0),
        };
        open.tombstones.insert(own, mac, tombstone);
        let written = open.reserve().and_then(|()| {
            open.write(&[SlotRecord {
                gallery: own,
                mac,
                tombstone,
            }])
        });
        open.report(self.folder.as_deref(), "a tombstone", &written);
        // Still under the lock: no archive may get this number before the deletion is known.
        self.begin_running(number, written.is_ok())
    }

    fn begin_running(&self, number: ChangeNumber, has_tombstone: bool) -> RunningDeletion<'_> {
        self.running_deletions().insert(number.0);
        RunningDeletion {
            ledger: self,
            number,
            has_tombstone,
        }
    }

    /// Returns the id and the number for an archive that begins now. Every deletion up to that
    /// number has ended, so that nothing of its person is left to read.
    pub fn archive_number(&self) -> Option<ArchiveNumber> {
        let mut state = self.lock();
        let open = self.open_or_create(&mut state)?;
        let reserved = open.reserve();
        open.report(self.folder.as_deref(), "the change number", &reserved);
        let ended = match self.running_deletions().first() {
            Some(running) => running.saturating_sub(1),
            None => open.number,
        };
        Some(ArchiveNumber {
            gallery: open.galleries.own,
            number: reserved.is_ok().then_some(ended),
        })
    }

    /// Number of the latest change; 0 if there was none.
    #[cfg(test)]
    fn number(&self) -> u64 {
        match &*self.lock() {
            LedgerState::Open(open) => open.number,
            LedgerState::Missing | LedgerState::Unusable => 0,
        }
    }

    /// Every tombstone, for an archive.
    pub fn tombstones(&self) -> Tombstones {
        match &mut *self.lock() {
            LedgerState::Open(open) => {
                open.expire(true);
                open.tombstones.clone()
            }
            LedgerState::Missing | LedgerState::Unusable => Tombstones::default(),
        }
    }

    /// Begins an import: of the changes from now on [`Self::deleted_since`] and
    /// [`Self::is_written_during_import`] say so.
    pub fn watch_import(self: &Arc<Self>) -> ImportWatch {
        *self.concurrent() = Some(ConcurrentChanges::default());
        ImportWatch(Arc::clone(self))
    }

    /// Returns true if a person was written since the import under way began.
    pub fn is_written_during_import(&self, id: &PersonId) -> bool {
        self.concurrent()
            .as_ref()
            .is_some_and(|concurrent| concurrent.written.contains(id))
    }

    /// Returns whether a person was deleted after an archive was origin, or since its import began.
    pub fn deleted_since(&self, id: &PersonId, origin: &ArchiveOrigin) -> Option<DeletionReason> {
        if self
            .concurrent()
            .as_ref()
            .is_some_and(|concurrent| concurrent.deleted.contains(id))
        {
            return Some(DeletionReason::SinceImport);
        }
        match &*self.lock() {
            LedgerState::Open(open) => open
                .tombstones
                .is_deleted_since(id, origin)
                .then_some(DeletionReason::SinceArchive),
            LedgerState::Missing | LedgerState::Unusable => None,
        }
    }

    /// Returns `origin` with the number taken away if this gallery never gave it: then the gallery
    /// was restored from a copy, and its numbers since then are others. `adopts` raises the change
    /// number above it, so that it is not latest again.
    ///
    /// # Errors
    ///
    /// The reason why a number is not adopted, if it is far above the latest one.
    pub fn check_origin(
        &self,
        origin: ArchiveOrigin,
        adopts: bool,
    ) -> (ArchiveOrigin, Result<(), &'static str>) {
        let mut state = self.lock();
        let LedgerState::Open(open) = &mut *state else {
            return (origin, Ok(()));
        };
        let Some(number) = origin
            .number
            .filter(|number| origin.gallery == Some(open.galleries.own) && *number > open.number)
        else {
            return (origin, Ok(()));
        };
        let origin = ArchiveOrigin {
            number: None,
            ..origin
        };
        if number - open.number > MAX_STEP {
            return (origin, Err(TOO_FAR));
        }
        if adopts {
            open.number = number;
            let reserved = open.reserve();
            open.report(self.folder.as_deref(), "the change number", &reserved);
        }
        (origin, Ok(()))
    }

    fn running_deletions(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.running_deletions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn concurrent(&self) -> MutexGuard<'_, Option<ConcurrentChanges>> {
        self.concurrent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, LedgerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger, origin if there is none yet; nothing if it cannot be used.
    fn open_or_create<'s>(&self, state: &'s mut LedgerState) -> Option<&'s mut OpenLedger> {
        if let (LedgerState::Missing, Some(folder)) = (&*state, &self.folder) {
            match OpenLedger::create(folder) {
                Ok(mut open) => {
                    open.number = open.number.max(self.fallback.load(Ordering::Relaxed));
                    *state = LedgerState::Open(Box::new(open));
                }
                Err(cause) => {
                    tracing::warn!(
                        "cannot make the ledger {}: {cause}{}",
                        folder.display(),
                        remedy(&cause)
                    );
                    return None;
                }
            }
        }
        match state {
            LedgerState::Open(open) => Some(open),
            LedgerState::Missing | LedgerState::Unusable => None,
        }
    }
}

impl Drop for RunningDeletion<'_> {
    fn drop(&mut self) {
        self.ledger.running_deletions().remove(&self.number.0);
    }
}

impl Drop for ImportWatch {
    fn drop(&mut self) {
        *self.0.concurrent() = None;
    }
}

/// Moves a damaged ledger out of the way. The gallery gets another id, so that archives are
/// compared by time.
fn quarantine(folder: &Path, cause: &io::Error) -> LedgerState {
    let aside = (1..1000)
        .map(|number| folder.with_file_name(format!("{FOLDER}-damaged-{number}")))
        .find(|path| !path.exists());
    let Some(aside) = aside.filter(|aside| fs::rename(folder, aside).is_ok()) else {
        tracing::error!(
            "deletions leave no tombstones: the ledger {} is damaged and cannot be moved: {cause}",
            folder.display()
        );
        return LedgerState::Unusable;
    };
    tracing::error!(
        "the ledger {} is damaged: {cause}; it is now {}, and archives of before this are compared by time without its tombstones: \
         restore it from a backup, or make a new export",
        folder.display(),
        aside.display()
    );
    LedgerState::Missing
}

fn is_csv(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}

#[cfg(test)]
mod tests;
