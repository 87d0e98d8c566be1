//! Ledger of a gallery: its id, its change number, and tombstones of deleted people.
//!
//! The ledger is in `.ledger` in the gallery's folder. An archive has the id and the number, so
//! that an import can detect deletions after the archive was made. The file of tombstones has
//! preallocated room, because a deletion must not need any on a full disk.

mod galleries;
mod merge;
mod numbers;
mod open;
mod slots;
mod tombstones;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use rostro_common::fs::atomic::UNFINISHED;
use rostro_common::ids::PersonId;

use self::numbers::Numbers;
use self::open::OpenLedger;
use self::slots::SlotRecord;
use crate::error::remedy;
use crate::file_names;

pub use self::merge::Adoption;
pub use self::tombstones::{ArchiveOrigin, Mac, RETENTION_MS, Tombstone, Tombstones, now};

/// Folder of the ledger in the gallery's folder.
const FOLDER: &str = ".ledger";

/// Maximum distance of an adopted number from the latest one. A gallery that was restored from a
/// copy is behind its archives, but never by this many changes. A larger step would use up the
/// numbers.
const MAX_STEP: u64 = 1 << 32;

/// Why a number is not adopted.
const TOO_FAR: &str = "its number is far above any that this gallery gave";

/// Number of a durable change. A store issues each number once, also over restarts, and never one
/// below an earlier number. Only before the first person are numbers not kept over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeNumber(pub u64);

/// Ledger of a gallery. Calls block.
#[derive(Debug)]
pub struct Ledger {
    /// None if nothing is recorded, as in a trial.
    folder: Option<PathBuf>,
    state: Mutex<LedgerState>,
    /// Changes since the running import began; none without an import. They are only in memory.
    concurrent: Mutex<Option<ConcurrentChanges>>,
    /// Numbers of the running deletions.
    running_deletions: Mutex<BTreeSet<u64>>,
    numbers: Arc<Numbers>,
}

/// A running deletion. Archives get numbers below its number until this is dropped.
#[derive(Debug)]
pub(crate) struct RunningDeletion<'l> {
    ledger: &'l Ledger,
    /// Number of the deletion.
    pub number: ChangeNumber,
    /// Whether the tombstone is durable. Otherwise the deletion continues, and an import after a
    /// restart may restore the person.
    pub has_tombstone: bool,
}

/// People that were changed during the running import.
#[derive(Debug, Default)]
struct ConcurrentChanges {
    deleted: HashSet<PersonId>,
    written: HashSet<PersonId>,
}

/// Guard of a running import, which loses against deletions. Dropping it ends the import.
pub struct ImportWatch(Option<Box<dyn FnOnce() + Send + Sync>>);

#[derive(Debug)]
enum LedgerState {
    /// No ledger exists yet; the first change creates it.
    Missing,
    /// The ledger cannot be read, and stays as it is.
    Unusable,
    Open(Box<OpenLedger>),
}

/// Why an import omits a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionReason {
    /// The person was deleted after the archive was made.
    SinceArchive,
    /// The person was deleted after the import began.
    SinceImport,
}

/// Gallery and change number of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveNumber {
    /// Id of the gallery.
    pub gallery: Uuid,
    /// Change number; none if it cannot be made durable.
    pub number: Option<u64>,
}

impl Ledger {
    /// Creates a ledger that records nothing.
    pub fn none() -> Self {
        Self {
            folder: None,
            state: Mutex::new(LedgerState::Unusable),
            concurrent: Mutex::default(),
            running_deletions: Mutex::default(),
            numbers: Arc::default(),
        }
    }

    /// Opens the ledger of a gallery for the process that writes it. If the gallery has people, a
    /// missing ledger is created now, otherwise at the first change. An unusable ledger is logged,
    /// and the gallery serves without it.
    pub fn open(gallery: &Path) -> Self {
        let folder = gallery.join(FOLDER);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let numbers = Arc::<Numbers>::default();
        let mut state = match open::read(&folder, &numbers) {
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
                entries.any(|entry| entry.is_ok_and(|entry| file_names::has_ending(&entry.path())))
            })
        };
        if matches!(state, LedgerState::Missing) && has_people() {
            // If the disk is full now, the first change tries again.
            if let Ok(open) = OpenLedger::create(&folder, &numbers) {
                state = LedgerState::Open(Box::new(open));
            }
        }
        Self {
            folder: Some(folder),
            state: Mutex::new(state),
            concurrent: Mutex::default(),
            running_deletions: Mutex::default(),
            numbers,
        }
    }

    /// Returns the number of a completed change. It waits for no other change's disk write, unless
    /// all reserved numbers are used.
    pub(crate) fn advance(&self) -> ChangeNumber {
        let number = self.numbers.next();
        if number > self.numbers.reserved() {
            self.reserve(&mut self.lock());
        } else if self.numbers.is_low()
            && let Ok(mut state) = self.state.try_lock()
        {
            self.reserve(&mut state);
        }
        ChangeNumber(number)
    }

    /// Returns the number of the latest change.
    pub(crate) fn latest(&self) -> ChangeNumber {
        ChangeNumber(self.numbers.latest())
    }

    /// Returns the number of a completed change that concerns no person. It does not create the
    /// ledger, which an empty gallery gets with its first person.
    pub(crate) fn advance_if_open(&self) -> ChangeNumber {
        if self.numbers.reserved() == 0 {
            return ChangeNumber(self.numbers.next());
        }
        self.advance()
    }

    /// Reserves numbers if few are left, and creates the ledger if it is missing.
    fn reserve(&self, state: &mut LedgerState) {
        if let Some(open) = self.open_or_create(state) {
            let reserved = open.reserve();
            open.report(self.folder.as_deref(), "the change number", &reserved);
        }
    }

    /// Records for the running import that a person is about to be written.
    pub fn record_write(&self, id: &PersonId) {
        if let Some(concurrent) = &mut *self.concurrent() {
            concurrent.written.insert(id.clone());
        }
    }

    /// Records a deletion. Call it before anything of the person is removed.
    pub(crate) fn begin_deletion(&self, id: &PersonId) -> RunningDeletion<'_> {
        if let Some(concurrent) = &mut *self.concurrent() {
            concurrent.deleted.insert(id.clone());
        }
        // Numbered and registered in one step, because no archive may get this number before the
        // deletion has ended.
        let number = {
            let mut running = self.running_deletions();
            let number = self.numbers.next();
            running.insert(number);
            ChangeNumber(number)
        };
        let has_tombstone = self.write_tombstone(id, number);
        RunningDeletion {
            ledger: self,
            number,
            has_tombstone,
        }
    }

    /// Writes a tombstone. Returns true if it is durable.
    fn write_tombstone(&self, id: &PersonId, number: ChangeNumber) -> bool {
        let mut state = self.lock();
        let Some(open) = self.open_or_create(&mut state) else {
            return false;
        };
        open.expire(false);
        let own = open.galleries.own;
        let Some(mac) = open.galleries.key(own).map(|key| key.hash(id.as_str()).0) else {
            return false;
        };
        let tombstone = Tombstone {
            number: number.0,
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
        written.is_ok()
    }

    /// Returns the id and the number for an archive that begins now. Every deletion up to that
    /// number has finished, so that no archive reads a deleted person.
    pub fn archive_number(&self) -> Option<ArchiveNumber> {
        let mut state = self.lock();
        let open = self.open_or_create(&mut state)?;
        let reserved = open.reserve();
        open.report(self.folder.as_deref(), "the change number", &reserved);
        let running = self.running_deletions();
        let last_finished = match running.first() {
            Some(number) => number.saturating_sub(1),
            None => self.numbers.latest(),
        };
        Some(ArchiveNumber {
            gallery: open.galleries.own,
            number: (last_finished <= self.numbers.reserved()).then_some(last_finished),
        })
    }

    /// Returns the number of the latest change; 0 before the first.
    #[cfg(test)]
    fn number(&self) -> u64 {
        self.numbers.latest()
    }

    /// Returns every tombstone, for an archive.
    pub fn tombstones(&self) -> Tombstones {
        match &mut *self.lock() {
            LedgerState::Open(open) => {
                open.expire(true);
                open.tombstones.clone()
            }
            LedgerState::Missing | LedgerState::Unusable => Tombstones::default(),
        }
    }

    /// Begins an import. [`Self::deleted_since`] and [`Self::is_written_during_import`] report
    /// changes from now on.
    pub fn watch_import(self: &Arc<Self>) -> ImportWatch {
        *self.concurrent() = Some(ConcurrentChanges::default());
        let ledger = Arc::clone(self);
        ImportWatch::new(move || *ledger.concurrent() = None)
    }

    /// Returns true if a person was written since the running import began.
    pub fn is_written_during_import(&self, id: &PersonId) -> bool {
        self.concurrent()
            .as_ref()
            .is_some_and(|concurrent| concurrent.written.contains(id))
    }

    /// Returns the reason to omit a person from an import, if they were deleted after the archive
    /// was made or the import began.
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

    /// Returns `origin`, without its number if this gallery never issued it. The gallery was then
    /// restored from a copy, and has issued other numbers since. `adopts` raises the change number
    /// above it, so that it is not issued again.
    ///
    /// # Errors
    ///
    /// The reason for not adopting a number that is far above the latest one.
    pub fn check_origin(
        &self,
        origin: ArchiveOrigin,
        adopts: bool,
    ) -> (ArchiveOrigin, Result<(), &'static str>) {
        let mut state = self.lock();
        let LedgerState::Open(open) = &mut *state else {
            return (origin, Ok(()));
        };
        let Some(number) = origin.number.filter(|number| {
            origin.gallery == Some(open.galleries.own) && *number > self.numbers.latest()
        }) else {
            return (origin, Ok(()));
        };
        let origin = ArchiveOrigin {
            number: None,
            ..origin
        };
        if let Err(reason) = check_step(self.numbers.latest(), number) {
            return (origin, Err(reason));
        }
        if adopts {
            self.numbers.raise(number);
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

    /// Locks the ledger as a slow write of a tombstone does.
    #[cfg(test)]
    pub(crate) fn hold_lock(&self) -> impl Drop + '_ {
        self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, LedgerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the ledger, which is created if it is missing; none if it cannot be used.
    fn open_or_create<'s>(&self, state: &'s mut LedgerState) -> Option<&'s mut OpenLedger> {
        if let (LedgerState::Missing, Some(folder)) = (&*state, &self.folder) {
            match OpenLedger::create(folder, &self.numbers) {
                Ok(open) => *state = LedgerState::Open(Box::new(open)),
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

impl ImportWatch {
    /// Creates a guard that calls `end` when it is dropped.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl fmt::Debug for ImportWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImportWatch")
    }
}

impl Drop for ImportWatch {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

/// Refuses to adopt a number that is far above the latest one.
///
/// # Errors
///
/// The reason.
pub fn check_step(latest: u64, number: u64) -> Result<(), &'static str> {
    if number > latest.saturating_add(MAX_STEP) {
        Err(TOO_FAR)
    } else {
        Ok(())
    }
}

/// Moves a damaged ledger away. The gallery gets another id, so that archives are compared by time.
fn quarantine(folder: &Path, cause: &io::Error) -> LedgerState {
    let target = (1..1000)
        .map(|number| folder.with_file_name(format!("{FOLDER}-damaged-{number}")))
        .find(|path| !path.exists());
    let Some(target) = target.filter(|target| fs::rename(folder, target).is_ok()) else {
        tracing::error!(
            "deletions leave no tombstones: the ledger {} is damaged and cannot be moved: {cause}",
            folder.display()
        );
        return LedgerState::Unusable;
    };
    tracing::error!(
        "the ledger {} is damaged: {cause}; it is now {}, and earlier archives are compared by time without its tombstones: \
         restore it from a backup, or make a new export",
        folder.display(),
        target.display()
    );
    LedgerState::Missing
}

#[cfg(test)]
mod tests;
