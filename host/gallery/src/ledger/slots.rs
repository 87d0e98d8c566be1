//! File of tombstones: records of fixed length in preallocated slots, `tombstones.txt`.
//!
//! Two pages at the beginning hold the reserved change number in turn, so that a torn write leaves
//! the other page. A record is written to a free slot before the slot of the record that it
//! replaces is cleared. A torn record fails its checksum and counts as free.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use rostro_common::digest::Sha256Digest;
use rostro_common::fs::atomic::{AtomicFile, FileAccess};

use super::galleries::sync_names;
use super::tombstones::{Mac, Tombstone};

const FILE: &str = "tombstones.txt";

/// Bytes of each of the two pages.
const PAGE_BYTES: usize = 4096;

/// Bytes of a record: gallery, hash, number, time and checksum in hexadecimal digits, each with its
/// separator.
const RECORD_BYTES: usize = (32 + 1) + (64 + 1) + (16 + 1) + (16 + 1) + (32 + 1);

/// Slots by which the file grows, and minimum of free slots before it does.
const GROWTH_SLOTS: usize = 1024;
const MIN_FREE: usize = 256;

/// Beginning of a page: the kind of file and its version.
const MAGIC: &str = "rostro tombstones 1";

/// Record of a tombstone in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotRecord {
    pub(super) gallery: Uuid,
    pub(super) mac: Mac,
    pub(super) tombstone: Tombstone,
}

/// A record with its slot.
pub(super) type SlottedRecord = (usize, SlotRecord);

/// The file. It is opened for each write, so that a disk that was not writable needs no restart.
#[derive(Debug)]
pub(super) struct SlotFile {
    path: PathBuf,
    count: usize,
    free: Vec<usize>,
    /// Page of the next reserved number.
    page: usize,
}

impl SlotFile {
    /// Creates the file with room for the first tombstones.
    pub(super) fn create(folder: &Path, reserved: u64) -> io::Result<Self> {
        let path = folder.join(FILE);
        // Free slots are written, so that the disk allocates the room.
        let bytes = [page(reserved), blank(PAGE_BYTES), blank_slots(GROWTH_SLOTS)].concat();
        let mut file = AtomicFile::create(&path, FileAccess::Owner)?;
        file.write_all(&bytes)?;
        file.commit()?;
        sync_names(folder);
        Ok(Self {
            path,
            count: GROWTH_SLOTS,
            free: (0..GROWTH_SLOTS).rev().collect(),
            page: 1,
        })
    }

    /// Reads the file. Returns the reserved number, and each record with its slot.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the file is missing or damaged.
    pub(super) fn read(folder: &Path) -> io::Result<(Self, u64, Vec<SlottedRecord>)> {
        let path = folder.join(FILE);
        let damaged =
            |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} {what}"));
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("is missing"));
            }
            read => read?,
        };
        let reserved = |page: usize| {
            bytes
                .get(page * PAGE_BYTES..(page + 1) * PAGE_BYTES)
                .and_then(reserved_in)
        };
        let (newest, reserved) = (0..2)
            .filter_map(|page| Some((page, reserved(page)?)))
            .max_by_key(|(_, reserved)| *reserved)
            .ok_or_else(|| damaged("has no number"))?;
        let (slots, _) = bytes
            .get(2 * PAGE_BYTES..)
            .unwrap_or_default()
            .as_chunks::<RECORD_BYTES>();
        let (mut records, mut free, count) = (Vec::new(), Vec::new(), slots.len());
        for (slot, bytes) in slots.iter().enumerate() {
            match SlotRecord::read(bytes) {
                Some(record) => records.push((slot, record)),
                None => free.push(slot),
            }
        }
        free.reverse();
        Ok((
            Self {
                path,
                count,
                free,
                page: 1 - newest,
            },
            reserved,
            records,
        ))
    }

    /// Writes the reserved number.
    pub(super) fn write_reserved(&mut self, reserved: u64) -> io::Result<()> {
        let mut file = self.open()?;
        file.seek(SeekFrom::Start((self.page * PAGE_BYTES) as u64))?;
        file.write_all(&page(reserved))?;
        file.sync_data()?;
        self.page = 1 - self.page;
        Ok(())
    }

    /// Writes records with one sync. Returns the slot of each.
    pub(super) fn write(&mut self, records: &[SlotRecord]) -> io::Result<Vec<usize>> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let mut file = self.open()?;
        if self.free.len() < records.len() + MIN_FREE {
            // A full disk may have no room for more slots, and still accept writes to existing
            // ones.
            let grown = self.grow(&mut file, records.len());
            if self.free.len() < records.len() {
                grown?;
            }
        }
        let slots: Vec<usize> = self
            .free
            .iter()
            .rev()
            .take(records.len())
            .copied()
            .collect();
        for (record, slot) in records.iter().zip(&slots) {
            file.seek(SeekFrom::Start(offset(*slot)))?;
            file.write_all(&record.bytes())?;
        }
        file.sync_data()?;
        self.free.truncate(self.free.len() - slots.len());
        Ok(slots)
    }

    /// Clears a slot. If a crash prevents that, the next start does it.
    pub(super) fn release(&mut self, slot: Option<usize>) {
        let Some(slot) = slot else { return };
        let cleared = self.open().and_then(|mut file| {
            file.seek(SeekFrom::Start(offset(slot)))?;
            file.write_all(&blank(RECORD_BYTES))
        });
        if cleared.is_ok() {
            self.free.push(slot);
        }
    }

    fn grow(&mut self, file: &mut File, needed: usize) -> io::Result<()> {
        let more = GROWTH_SLOTS.max(needed);
        file.seek(SeekFrom::Start(offset(self.count)))?;
        file.write_all(&blank_slots(more))?;
        file.sync_data()?;
        drop(
            self.free
                .splice(0..0, (self.count..self.count + more).rev()),
        );
        self.count += more;
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        File::options().write(true).open(&self.path)
    }
}

impl SlotRecord {
    fn bytes(&self) -> Vec<u8> {
        let Tombstone { number, deleted_at } = self.tombstone;
        with_checksum(&format!(
            "{} {} {number:016x} {deleted_at:016x}",
            self.gallery.simple(),
            Sha256Digest(self.mac)
        ))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split(' ');
        let gallery = Uuid::try_parse(parts.next()?).ok()?;
        let mac = parts.next()?.parse::<Sha256Digest>().ok()?.0;
        let number = u64::from_str_radix(parts.next()?, 16).ok()?;
        let deleted_at = i64::from_str_radix(parts.next()?, 16).ok()?;
        let record = Self {
            gallery,
            mac,
            tombstone: Tombstone { number, deleted_at },
        };
        (record.bytes() == bytes).then_some(record)
    }
}

fn offset(slot: usize) -> u64 {
    (2 * PAGE_BYTES + slot * RECORD_BYTES) as u64
}

fn page(reserved: u64) -> Vec<u8> {
    let mut bytes = with_checksum(&format!("{MAGIC} {reserved:016x}"));
    bytes.resize(PAGE_BYTES - 1, b' ');
    bytes.push(b'\n');
    bytes
}

fn reserved_in(bytes: &[u8]) -> Option<u64> {
    let digits = bytes
        .strip_prefix(MAGIC.as_bytes())?
        .strip_prefix(b" ")?
        .get(..16)?;
    let reserved = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (bytes == page(reserved)).then_some(reserved)
}

fn blank(length: usize) -> Vec<u8> {
    let mut bytes = vec![b' '; length.saturating_sub(1)];
    bytes.push(b'\n');
    bytes
}

fn blank_slots(count: usize) -> Vec<u8> {
    blank(RECORD_BYTES).repeat(count)
}

/// Returns a line with its checksum.
fn with_checksum(text: &str) -> Vec<u8> {
    let digest = Sha256Digest::of(text.as_bytes()).to_string();
    format!("{text} {}\n", digest.get(..32).unwrap_or_default()).into_bytes()
}
