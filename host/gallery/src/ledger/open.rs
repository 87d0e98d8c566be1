//! A ledger that can be written.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::FOLDER;
use super::galleries::Galleries;
use super::slots::{SlotFile, SlotRecord, SlottedRecord};
use super::tombstones::{Mac, Tombstones, now};
use crate::error::remedy;

/// Numbers that are reserved by one write: a restart skips what is left of them, so that none is
/// latest twice.
const RESERVED_NUMBERS: u64 = 1024;

/// Time between two removals of expired tombstones.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(super) struct OpenLedger {
    pub(super) galleries: Galleries,
    pub(super) tombstones: Tombstones,
    file: SlotFile,
    /// Slot of each tombstone that is in the file.
    slots: HashMap<(Uuid, Mac), usize>,
    /// Number of the latest change.
    pub(super) number: u64,
    /// The largest number that a restart does not give again.
    reserved: u64,
    expired_at: Instant,
    /// Whether the last write failed, which is logged once.
    is_failing: bool,
}

impl OpenLedger {
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        make_private(folder)?;
        let galleries = Galleries::random()?;
        // First, so that a ledger without this file is one whose making was cut short.
        let file = SlotFile::create(folder, RESERVED_NUMBERS)?;
        galleries.write(folder)?;
        Ok(Self::new(galleries, file, Vec::new(), 0, RESERVED_NUMBERS))
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
    pub(super) fn reserve(&mut self) -> io::Result<()> {
        if self.number > self.reserved {
            let reserved = self.number.saturating_add(RESERVED_NUMBERS);
            self.file.write_reserved(reserved)?;
            self.reserved = reserved;
        }
        Ok(())
    }

    /// Writes tombstones with one sync, each in a free slot; then the slots of those that they
    /// replace are free.
    pub(super) fn write(&mut self, records: &[SlotRecord]) -> io::Result<()> {
        let slots = self.file.write(records)?;
        for (record, slot) in records.iter().zip(slots) {
            let obsolete = self.slots.insert((record.gallery, record.mac), slot);
            self.file.release(obsolete);
        }
        Ok(())
    }

    /// Removes tombstones whose time is over: once a day, or now.
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
    pub(super) fn report(&mut self, folder: Option<&Path>, what: &str, written: &io::Result<()>) {
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

pub(super) fn read(folder: &Path) -> io::Result<Option<OpenLedger>> {
    // Without it the making of the ledger was cut short, and no number was latest.
    let Some(galleries) = Galleries::read(folder)? else {
        return Ok(None);
    };
    let (file, reserved, records) = SlotFile::read(folder)?;
    Ok(Some(OpenLedger::new(
        galleries, file, records, reserved, reserved,
    )))
}

/// Makes the folder for its owner alone: with the key that is in it ids can be guessed.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
