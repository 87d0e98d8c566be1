//! Open ledger: its state in memory and its files.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::FOLDER;
use super::galleries::Galleries;
use super::numbers::Numbers;
use super::slots::{SlotFile, SlotRecord, SlottedRecord};
use super::tombstones::{Mac, Tombstones, now};
use crate::error::remedy;

/// Count of numbers that one write reserves. A restart skips the unused ones, so that no number is
/// issued twice.
const RESERVED_NUMBERS: u64 = 1024;

/// Time between two removals of expired tombstones.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(super) struct OpenLedger {
    pub(super) galleries: Galleries,
    pub(super) tombstones: Tombstones,
    file: SlotFile,
    /// Slot of each tombstone in the file.
    slots: HashMap<(Uuid, Mac), usize>,
    numbers: Arc<Numbers>,
    expired_at: Instant,
    /// Whether the last write failed, which is logged once.
    is_failing: bool,
}

impl OpenLedger {
    pub(super) fn create(folder: &Path, numbers: &Arc<Numbers>) -> io::Result<Self> {
        make_private(folder)?;
        let galleries = Galleries::random()?;
        // Written first, so that a ledger without `galleries.json` marks an interrupted creation.
        let reserved = numbers.latest().saturating_add(RESERVED_NUMBERS);
        let file = SlotFile::create(folder, reserved)?;
        galleries.write(folder)?;
        numbers.set_reserved(reserved);
        Ok(Self::new(galleries, file, Vec::new(), numbers))
    }

    fn new(
        galleries: Galleries,
        file: SlotFile,
        records: Vec<SlottedRecord>,
        numbers: &Arc<Numbers>,
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
            numbers: Arc::clone(numbers),
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
                this.numbers.raise(tombstone.number);
            }
            // A crash may leave both a tombstone and its replacement.
            let obsolete = match this.tombstones.insert(gallery, mac, tombstone) {
                true => this.slots.insert((gallery, mac), slot),
                false => Some(slot),
            };
            this.file.release(obsolete);
        }
        this.expire(true);
        this
    }

    /// Reserves numbers if few are left, so that a restart does not issue them again.
    pub(super) fn reserve(&mut self) -> io::Result<()> {
        if self.numbers.is_low() {
            let reserved = self.numbers.latest().saturating_add(RESERVED_NUMBERS);
            self.file.write_reserved(reserved)?;
            self.numbers.set_reserved(reserved);
        }
        Ok(())
    }

    /// Writes tombstones with one sync, each to a free slot, and then frees the slots of those that
    /// they replace.
    pub(super) fn write(&mut self, records: &[SlotRecord]) -> io::Result<()> {
        let slots = self.file.write(records)?;
        for (record, slot) in records.iter().zip(slots) {
            let obsolete = self.slots.insert((record.gallery, record.mac), slot);
            self.file.release(obsolete);
        }
        Ok(())
    }

    /// Removes expired tombstones, at most once a day unless `at_once`.
    pub(super) fn expire(&mut self, at_once: bool) {
        if !at_once && self.expired_at.elapsed() < EXPIRY_INTERVAL {
            return;
        }
        self.expired_at = Instant::now();
        for key in self.tombstones.expire(now()) {
            let slot = self.slots.remove(&key);
            self.file.release(slot);
        }
    }

    /// Logs the first of several failures to write.
    pub(super) fn report(&mut self, folder: Option<&Path>, item: &str, written: &io::Result<()>) {
        if let (Err(cause), false) = (written, self.is_failing) {
            let folder = folder.unwrap_or(Path::new(FOLDER));
            tracing::warn!(
                "cannot write {item} into the ledger {}: {cause}{}",
                folder.display(),
                remedy(cause)
            );
        }
        self.is_failing = written.is_err();
    }
}

pub(super) fn read(folder: &Path, numbers: &Arc<Numbers>) -> io::Result<Option<OpenLedger>> {
    // Without this file the creation was interrupted, and no number was issued.
    let Some(galleries) = Galleries::read(folder)? else {
        return Ok(None);
    };
    let (file, reserved, records) = SlotFile::read(folder)?;
    numbers.raise(reserved);
    numbers.set_reserved(reserved);
    Ok(Some(OpenLedger::new(galleries, file, records, numbers)))
}

/// Creates the folder for its owner alone, because the key in it allows guessing ids.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
