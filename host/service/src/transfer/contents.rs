//! Reading an archive within limits: on the number of entries, the bytes of each, and all bytes
//! together.

use std::cell::Cell;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use zip::ZipArchive;

use super::ArchiveError;

/// Maximum number of entries.
pub(super) const MAX_ENTRIES: usize = 1_000_000;

/// Maximum number of bytes that are read to list the entries, because their names take memory.
const MAX_DIRECTORY_BYTES: u64 = 128 << 20;

/// Maximum number of unpacked bytes of all entries: the larger of a fixed number and a multiple of
/// the archive's size.
const MIN_UNPACKED_LIMIT: u64 = 8 << 30;
const MAX_RATIO: u64 = 16;

/// Archive that is unpacked entry by entry, up to a limit.
pub(super) struct Contents<R: Read + Seek> {
    archive: ZipArchive<BufReader<LimitedReader<R>>>,
    /// Remaining bytes that may be unpacked.
    remaining: u64,
}

/// Reader that fails after a number of bytes.
struct LimitedReader<R> {
    inner: R,
    remaining: Rc<Cell<u64>>,
}

impl<R: Read + Seek> Contents<R> {
    /// Lists the entries.
    ///
    /// # Errors
    ///
    /// If the file is not an archive, or has too many entries.
    pub(super) fn open(mut reader: R) -> Result<Self, ArchiveError> {
        let length = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        let remaining = Rc::new(Cell::new(MAX_DIRECTORY_BYTES));
        let bounded = LimitedReader {
            inner: reader,
            remaining: Rc::clone(&remaining),
        };
        let archive = ZipArchive::new(BufReader::with_capacity(16 << 10, bounded))?;
        remaining.set(u64::MAX);
        if archive.len() > MAX_ENTRIES {
            return Err(ArchiveError::TooMany(archive.len()));
        }
        Ok(Self {
            archive,
            remaining: MIN_UNPACKED_LIMIT.max(length.saturating_mul(MAX_RATIO)),
        })
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.archive.len()
    }

    /// Returns an entry's name; none if it is unreadable.
    pub(super) fn name(&self, index: usize) -> Option<String> {
        self.archive
            .name_for_index(index)?
            .ok()
            .map(std::borrow::Cow::into_owned)
    }

    /// Reads an entry's bytes, at most `limit`, independently of the size in its header.
    pub(super) fn read(&mut self, index: usize, limit: u64) -> Result<Vec<u8>, String> {
        let entry = self
            .archive
            .by_index(index)
            .map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        entry
            .take(limit.min(self.remaining) + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        let length = bytes.len() as u64;
        if length > self.remaining {
            self.remaining = 0;
            return Err("the unpacked archive exceeds its size limit".to_owned());
        }
        self.remaining -= length;
        if length > limit {
            Err(format!("it has more than {limit} bytes"))
        } else {
            Ok(bytes)
        }
    }

    /// Returns the time at which an entry was written in milliseconds since 1970; 0 if it has none.
    /// Times of ZIP have no zone, and are read as UTC.
    pub(super) fn written_at(&mut self, index: usize) -> i64 {
        let Ok(entry) = self.archive.by_index_raw(index) else {
            return 0;
        };
        let parts = entry
            .last_modified()
            .filter(|time| *time != zip::DateTime::default());
        let time = parts.and_then(|time| {
            let small = |number: u8| i8::try_from(number).ok();
            let date = jiff::civil::Date::new(
                i16::try_from(time.year()).ok()?,
                small(time.month())?,
                small(time.day())?,
            )
            .ok()?;
            let clock = jiff::civil::Time::new(
                small(time.hour())?,
                small(time.minute())?,
                small(time.second())?,
                0,
            )
            .ok()?;
            date.to_datetime(clock)
                .to_zoned(jiff::tz::TimeZone::UTC)
                .ok()
        });
        time.map_or(0, |time| time.timestamp().as_millisecond())
    }

    /// Returns the remaining bytes that may be unpacked.
    #[cfg(any(test, fuzzing))]
    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Limits the remaining bytes that may be unpacked.
    #[cfg(any(test, fuzzing))]
    pub(super) fn restrict(&mut self, limit: u64) {
        self.remaining = limit;
    }
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let remaining = self.remaining.get();
        if remaining == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the list of entries is too long",
            ));
        }
        let limit = usize::try_from(remaining)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self
            .inner
            .read(buffer.get_mut(..limit).unwrap_or_default())?;
        self.remaining.set(remaining - read as u64);
        Ok(read)
    }
}

impl<R: Seek> Seek for LimitedReader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
