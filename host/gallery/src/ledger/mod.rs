//! Ledger of a gallery: its id, its change number, and tombstones of deleted people.
//!
//! The ledger lies in `.ledger` in the gallery's folder. An archive of the gallery carries the id
//! and the number, so that an import can tell who was deleted after the archive was made. The file
//! of tombstones has preallocated room, because a deletion must not need any on a full disk.

mod galleries;
mod slots;
mod tombstones;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use rostro_common::ids::PersonId;

use self::galleries::Galleries;
use self::slots::{SlotFile, SlotRecord, SlottedRecord};
use crate::remedy;

pub use self::tombstones::{ArchiveOrigin, Mac, Tombstone, Tombstones, now};

/// Folder of the ledger in the gallery's.
const FOLDER: &str = ".ledger";

/// Prefix of files whose write was cut short.
const UNFINISHED: &str = ".unfinished-";

/// Numbers that are reserved by one write: a restart skips what is left of them, so that none is
/// given twice.
const RESERVED: u64 = 1024;

/// How far a number of this gallery may be above the latest one. A gallery that was restored from a
/// copy is behind its archives, but never by so many changes; a larger step would use up the
/// numbers.
const LARGEST_STEP: u64 = 1 << 32;

/// Why a number is not adopted.
const TOO_FAR: &str = "its number is far above any that this gallery gave";

/// The most tombstones, so that an archive cannot fill memory and disk.
const MOST_TOMBSTONES: usize = 2_000_000;

/// The most galleries whose tombstones are kept.
const MOST_GALLERIES: usize = 64;

/// Time between two removals of expired tombstones.
const EXPIRY: Duration = Duration::from_secs(24 * 3600);

/// Ledger of a gallery. Calls block.
#[derive(Debug)]
pub struct Ledger {
    /// None where nothing is recorded, as in a trial.
    folder: Option<PathBuf>,
    state: Mutex<LedgerState>,
    /// Changes since the import under way began; none while there is no import. It needs no disk.
    meanwhile: Mutex<Option<ConcurrentChanges>>,
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

#[derive(Debug)]
struct OpenLedger {
    galleries: Galleries,
    tombstones: Tombstones,
    file: SlotFile,
    /// Slot of each tombstone that is in the file.
    slots: HashMap<(Uuid, Mac), usize>,
    /// Number of the latest change.
    number: u64,
    /// The largest number that a restart does not give again.
    reserved: u64,
    expired_at: Instant,
    /// Whether the last write failed, which is logged once.
    is_failing: bool,
}

/// Why an archive leaves a person out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionReason {
    /// The person was deleted after the archive was made.
    SinceArchive,
    /// The person was deleted after the import began.
    SinceImport,
}

/// What an archive is numbered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveNumber {
    /// Id of the gallery.
    pub gallery: Uuid,
    /// None if the number cannot be made durable.
    pub number: Option<u64>,
}

impl Ledger {
    /// A ledger that records nothing.
    pub fn none() -> Self {
        Self {
            folder: None,
            state: Mutex::new(LedgerState::Unusable),
            meanwhile: Mutex::default(),
        }
    }

    /// Opens the ledger of a gallery for the process that writes it. A gallery of people without a
    /// ledger gets one now, an empty gallery at its first change. A ledger that cannot be used does
    /// not keep the gallery from serving: the log says so.
    pub fn open(gallery: &Path) -> Self {
        let folder = gallery.join(FOLDER);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let mut state = match read(&folder) {
            Ok(Some(open)) => LedgerState::Open(Box::new(open)),
            Ok(None) => LedgerState::Missing,
            Err(cause) if cause.kind() == io::ErrorKind::InvalidData => set_aside(&folder, &cause),
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
            meanwhile: Mutex::default(),
        }
    }

    /// Raises the change number by what was enrolled, or changed in groups.
    pub fn note_changes(&self, count: u64) {
        if count == 0 {
            return;
        }
        let mut state = self.locked();
        let Some(open) = self.opened(&mut state) else {
            return;
        };
        open.number = open.number.saturating_add(count);
        let reserved = open.reserve();
        open.report(self.folder.as_deref(), "the change number", &reserved);
    }

    /// Records for the import under way that a person is written, before they are.
    pub fn note_written(&self, id: &PersonId) {
        if let Some(meanwhile) = &mut *self.meanwhile() {
            meanwhile.written.insert(id.clone());
        }
    }

    /// Records a deletion, before anything of the person is removed. Returns whether the tombstone
    /// is durable: if it is not, the deletion goes on, and an import after a restart may bring the
    /// person back.
    pub fn note_deletion(&self, id: &PersonId) -> bool {
        if let Some(meanwhile) = &mut *self.meanwhile() {
            meanwhile.deleted.insert(id.clone());
        }
        let mut state = self.locked();
        let Some(open) = self.opened(&mut state) else {
            return false;
        };
        open.expire(false);
        open.number = open.number.saturating_add(1);
        let own = open.galleries.own;
        let Some(mac) = open.galleries.key(own).map(|key| key.hash(id.as_str()).0) else {
            return false;
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
        written.is_ok()
    }

    /// Returns the id and the number for an archive that begins now.
    pub fn numbered(&self) -> Option<ArchiveNumber> {
        let mut state = self.locked();
        let open = self.opened(&mut state)?;
        let reserved = open.reserve();
        open.report(self.folder.as_deref(), "the change number", &reserved);
        Some(ArchiveNumber {
            gallery: open.galleries.own,
            number: reserved.is_ok().then_some(open.number),
        })
    }

    /// Number of the latest change; 0 if there was none.
    #[cfg(test)]
    fn number(&self) -> u64 {
        match &*self.locked() {
            LedgerState::Open(open) => open.number,
            LedgerState::Missing | LedgerState::Unusable => 0,
        }
    }

    /// Every tombstone, for an archive.
    pub fn tombstones(&self) -> Tombstones {
        match &mut *self.locked() {
            LedgerState::Open(open) => {
                open.expire(true);
                open.tombstones.clone()
            }
            LedgerState::Missing | LedgerState::Unusable => Tombstones::default(),
        }
    }

    /// Begins an import: of the changes from now on [`Self::deleted_since`] and
    /// [`Self::is_written_meanwhile`] say so.
    pub fn watch_import(self: &Arc<Self>) -> ImportWatch {
        *self.meanwhile() = Some(ConcurrentChanges::default());
        ImportWatch(Arc::clone(self))
    }

    /// Returns true if a person was written since the import under way began.
    pub fn is_written_meanwhile(&self, id: &PersonId) -> bool {
        self.meanwhile()
            .as_ref()
            .is_some_and(|meanwhile| meanwhile.written.contains(id))
    }

    /// Returns whether a person was deleted after an archive was made, or since its import began.
    pub fn deleted_since(&self, id: &PersonId, made: &ArchiveOrigin) -> Option<DeletionReason> {
        if self
            .meanwhile()
            .as_ref()
            .is_some_and(|meanwhile| meanwhile.deleted.contains(id))
        {
            return Some(DeletionReason::SinceImport);
        }
        match &*self.locked() {
            LedgerState::Open(open) => open
                .tombstones
                .is_deleted_since(id, made)
                .then_some(DeletionReason::SinceArchive),
            LedgerState::Missing | LedgerState::Unusable => None,
        }
    }

    /// Returns `made` with the number taken away if this gallery never gave it: then the gallery
    /// was restored from a copy, and its numbers since then are others. `adopts` raises the change
    /// number above it, so that it is not given again.
    ///
    /// # Errors
    ///
    /// The reason why a number is not adopted, if it is far above the latest one.
    pub fn trusted(
        &self,
        made: ArchiveOrigin,
        adopts: bool,
    ) -> (ArchiveOrigin, Result<(), &'static str>) {
        let mut state = self.locked();
        let LedgerState::Open(open) = &mut *state else {
            return (made, Ok(()));
        };
        let Some(number) = made
            .number
            .filter(|number| made.gallery == Some(open.galleries.own) && *number > open.number)
        else {
            return (made, Ok(()));
        };
        let made = ArchiveOrigin {
            number: None,
            ..made
        };
        if number - open.number > LARGEST_STEP {
            return (made, Err(TOO_FAR));
        }
        if adopts {
            open.number = number;
            let reserved = open.reserve();
            open.report(self.folder.as_deref(), "the change number", &reserved);
        }
        (made, Ok(()))
    }

    /// Takes up the tombstones of an archive. Returns what was left out, with the reason.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn merge(&self, others: &Tombstones) -> io::Result<Vec<&'static str>> {
        let mut refused = Vec::new();
        if others.is_empty() {
            return Ok(refused);
        }
        let mut state = self.locked();
        let Some(open) = self.opened(&mut state) else {
            return Ok(refused);
        };
        let mut galleries = open.galleries.clone();
        let mut records: Vec<SlotRecord> = Vec::new();
        let (today, mut highest) = (now(), open.number);
        let most = open.number.saturating_add(LARGEST_STEP);
        for (gallery, key) in others.galleries() {
            if galleries.key(gallery).is_none() && galleries.count() >= MOST_GALLERIES {
                refused.push("tombstones of this many galleries are not kept");
                continue;
            }
            if !galleries.add(gallery, key) {
                refused.push("the key differs from the one that is known of this gallery");
                continue;
            }
            let is_own = gallery == galleries.own;
            if is_own
                && others
                    .in_gallery(gallery)
                    .any(|(_, tombstone)| tombstone.number > most)
            {
                refused.push(TOO_FAR);
            }
            for (mac, tombstone) in others
                .in_gallery(gallery)
                .filter(|(_, tombstone)| !is_own || tombstone.number <= most)
            {
                let tombstone = Tombstone {
                    deleted_at: tombstone.deleted_at.clamp(0, today.max(0)),
                    ..tombstone
                };
                if tombstone.is_expired(today)
                    || open
                        .tombstones
                        .get(gallery, mac)
                        .is_some_and(|known| known.number >= tombstone.number)
                {
                    continue;
                }
                if open.tombstones.len() + records.len() >= MOST_TOMBSTONES {
                    refused.push("there are too many tombstones");
                    break;
                }
                if is_own {
                    highest = highest.max(tombstone.number);
                }
                records.push(SlotRecord {
                    gallery,
                    mac,
                    tombstone,
                });
            }
        }
        if galleries != open.galleries
            && let Some(folder) = &self.folder
        {
            galleries.write(folder)?;
        }
        for (gallery, key) in galleries.iter() {
            open.tombstones.add_gallery(gallery, key);
        }
        open.galleries = galleries;
        open.number = highest;
        open.reserve()?;
        open.write(&records)?;
        for SlotRecord {
            gallery,
            mac,
            tombstone,
        } in records
        {
            open.tombstones.insert(gallery, mac, tombstone);
        }
        Ok(refused)
    }

    fn meanwhile(&self) -> MutexGuard<'_, Option<ConcurrentChanges>> {
        self.meanwhile
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, LedgerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger, made if there is none yet; nothing if it cannot be used.
    fn opened<'s>(&self, state: &'s mut LedgerState) -> Option<&'s mut OpenLedger> {
        if let (LedgerState::Missing, Some(folder)) = (&*state, &self.folder) {
            match OpenLedger::create(folder) {
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

impl Drop for ImportWatch {
    fn drop(&mut self) {
        *self.0.meanwhile() = None;
    }
}

impl OpenLedger {
    fn create(folder: &Path) -> io::Result<Self> {
        make_private(folder)?;
        let galleries = Galleries::random()?;
        // First, so that a ledger without this file is one whose making was cut short.
        let file = SlotFile::create(folder, RESERVED)?;
        galleries.write(folder)?;
        Ok(Self::new(galleries, file, Vec::new(), 0, RESERVED))
    }

    fn new(
        galleries: Galleries,
        file: SlotFile,
        records: Vec<SlottedRecord>,
        number: u64,
        reserved: u64,
    ) -> Self {
        let mut tombstones = Tombstones::default();
        for (gallery, key) in galleries.iter() {
            tombstones.add_gallery(gallery, key);
        }
        let mut this = Self {
            galleries,
            tombstones,
            file,
            slots: HashMap::new(),
            number,
            reserved,
            expired_at: Instant::now(),
            is_failing: false,
        };
        for (
            slot,
            SlotRecord {
                gallery,
                mac,
                tombstone,
            },
        ) in records
        {
            if gallery == this.galleries.own {
                this.number = this.number.max(tombstone.number);
            }
            // A crash may leave a tombstone and the one that replaces it.
            let obsolete = match this.tombstones.insert(gallery, mac, tombstone) {
                true => this.slots.insert((gallery, mac), slot),
                false => Some(slot),
            };
            this.file.release(obsolete);
        }
        this.expire(true);
        this
    }

    /// Makes sure that a restart does not give the present number again.
    fn reserve(&mut self) -> io::Result<()> {
        if self.number > self.reserved {
            let reserved = self.number.saturating_add(RESERVED);
            self.file.write_reserved(reserved)?;
            self.reserved = reserved;
        }
        Ok(())
    }

    /// Writes tombstones with one sync, each in a free slot; then the slots of those that they
    /// replace are free.
    fn write(&mut self, records: &[SlotRecord]) -> io::Result<()> {
        let slots = self.file.write(records)?;
        for (record, slot) in records.iter().zip(slots) {
            let obsolete = self.slots.insert((record.gallery, record.mac), slot);
            self.file.release(obsolete);
        }
        Ok(())
    }

    /// Removes tombstones whose time is over: once a day, or now.
    fn expire(&mut self, at_once: bool) {
        if !at_once && self.expired_at.elapsed() < EXPIRY {
            return;
        }
        self.expired_at = Instant::now();
        for key in self.tombstones.expire(now()) {
            let slot = self.slots.remove(&key);
            self.file.release(slot);
        }
    }

    /// Logs the first of several failures to write.
    fn report(&mut self, folder: Option<&Path>, what: &str, written: &io::Result<()>) {
        if let (Err(cause), false) = (written, self.is_failing) {
            let folder = folder.unwrap_or(Path::new(FOLDER));
            tracing::warn!(
                "cannot write {what} into the ledger {}: {cause}{}",
                folder.display(),
                remedy(cause)
            );
        }
        self.is_failing = written.is_err();
    }
}

fn read(folder: &Path) -> io::Result<Option<OpenLedger>> {
    // Without it the making of the ledger was cut short, and no number was given.
    let Some(galleries) = Galleries::read(folder)? else {
        return Ok(None);
    };
    let (file, reserved, records) = SlotFile::read(folder)?;
    Ok(Some(OpenLedger::new(
        galleries, file, records, reserved, reserved,
    )))
}

/// Moves a damaged ledger out of the way. The gallery gets another id, so that archives are
/// compared by time.
fn set_aside(folder: &Path, cause: &io::Error) -> LedgerState {
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

/// Makes the folder for its owner alone: with the key that is in it ids can be guessed.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests;
