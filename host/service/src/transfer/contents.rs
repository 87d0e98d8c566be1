//! Reading an archive within bounds: of entries, of each entry's bytes, and of all bytes together.

use std::cell::Cell;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use zip::ZipArchive;

use super::ArchiveError;

/// The most entries that are taken.
pub(super) const MOST_ENTRIES: usize = 1_000_000;

/// The most bytes that are read to find the entries: their names take memory.
const MOST_DIRECTORY: u64 = 128 << 20;

/// The most bytes that all entries together are unpacked to: these, or so many times the archive's
/// own.
const MOST_BYTES: u64 = 8 << 30;
const MOST_RATIO: u64 = 16;

/// An archive that is unpacked entry by entry, and only so far.
pub(super) struct Contents<R: Read + Seek> {
    archive: ZipArchive<BufReader<LimitedReader<R>>>,
    /// Bytes that may still be unpacked.
    left: u64,
}

/// A reader that fails after this many bytes.
struct LimitedReader<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read + Seek> Contents<R> {
    /// Finds the entries.
    ///
    /// # Errors
    ///
    /// If it is not an archive, or has too many entries.
    pub(super) fn open(mut reader: R) -> Result<Self, ArchiveError> {
        let length = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        let left = Rc::new(Cell::new(MOST_DIRECTORY));
        let bounded = LimitedReader {
            inner: reader,
            left: Rc::clone(&left),
        };
        let archive = ZipArchive::new(BufReader::with_capacity(16 << 10, bounded))?;
        left.set(u64::MAX);
        if archive.len() > MOST_ENTRIES {
            return Err(ArchiveError::TooMany(archive.len()));
        }
        Ok(Self {
            archive,
            left: MOST_BYTES.max(length.saturating_mul(MOST_RATIO)),
        })
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.archive.len()
    }

    /// An entry's name, if it can be read.
    pub(super) fn name(&self, index: usize) -> Option<String> {
        self.archive
            .name_for_index(index)?
            .ok()
            .map(std::borrow::Cow::into_owned)
    }

    /// An entry's bytes, however many its head says that there are.
    pub(super) fn read(&mut self, index: usize, most: u64) -> Result<Vec<u8>, String> {
        let entry = self
            .archive
            .by_index(index)
            .map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        entry
            .take(most.min(self.left) + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        let length = bytes.len() as u64;
        if length > self.left {
            self.left = 0;
            return Err("the archive is unpacked to more than it may be".to_owned());
        }
        self.left -= length;
        if length > most {
            Err(format!("it has more than {most} bytes"))
        } else {
            Ok(bytes)
        }
    }

    /// When an entry was written, in milliseconds since 1970; 0 if it does not say. Times of ZIP
    /// have no zone: they are read as UTC.
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

    /// Bytes that may still be unpacked.
    #[cfg(any(test, fuzzing))]
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Has at most this many bytes unpacked.
    #[cfg(any(test, fuzzing))]
    pub(super) fn restrict(&mut self, most: u64) {
        self.left = most;
    }
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the list of entries is too long",
            ));
        }
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self
            .inner
            .read(buffer.get_mut(..most).unwrap_or_default())?;
        self.left.set(left - read as u64);
        Ok(read)
    }
}

impl<R: Seek> Seek for LimitedReader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
