//! Journal of one session: a file of JSON lines. The first line is the session's head, and each
//! other line is a [`SessionChange`].
//!
//! A line is synced before it counts. A crash leaves at most a torn last line, which is removed when
//! the file is opened. A file that grew much is [rewritten](Journal::rewrite) with the events and
//! the last counts alone.

mod read;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rostro_common::fs::atomic::{AtomicFile, FileAccess};
use rostro_common::fs::durable::{sync_file, sync_folder};
use rostro_common::ids::PersonId;
use serde::{Deserialize, Serialize};

use crate::event::{EventKind, SessionEvent};
use crate::session::{SessionChange, SessionHead};

pub(crate) use read::{JournalError, open};

/// Version of the format.
const FORMAT: u32 = 1;

/// Number of bytes that a journal may grow to more than twice its length after a rewrite.
const MAX_GROWTH: u64 = 256 << 10;

/// Minimum distance of two entries of the index in bytes.
const INDEX_DISTANCE: u64 = 16 << 10;

/// First line of a journal.
#[derive(Serialize, Deserialize)]
struct HeadLine<H> {
    format: u32,
    session: H,
}

/// The events of a line.
#[derive(Deserialize)]
struct EventsOfLine {
    #[serde(default)]
    events: Vec<SessionEvent>,
}

/// Journal of one session. The file is open only during an operation, because there may be more
/// sessions than a process may open files.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// Length of the complete lines in bytes.
    length: u64,
    /// Length after the last rewrite; 0 if there was none since the start.
    rewritten: u64,
    /// True if bytes of an append that failed may follow the complete lines.
    has_tail: bool,
    index: EventIndex,
}

/// Sparse index of the lines with events.
#[derive(Debug, Default)]
struct EventIndex(Vec<EventOffset>);

/// Place of a line.
#[derive(Clone, Copy, Debug)]
struct EventOffset {
    /// Number of the line's first event.
    number: u64,
    offset: u64,
}

impl EventIndex {
    /// Adds a line, unless it is near the last one of the index.
    fn add(&mut self, offset: u64, events: &[SessionEvent]) {
        let last = self.0.last().map_or(0, |entry| entry.offset);
        if let Some(first) = events.first()
            && offset >= last + INDEX_DISTANCE
        {
            let number = first.id.number;
            self.0.push(EventOffset { number, offset });
        }
    }

    /// Returns the offset of a line from which on all events after this one follow.
    fn offset_after(&self, number: u64) -> u64 {
        let count = self.0.partition_point(|entry| entry.number <= number);
        count
            .checked_sub(1)
            .and_then(|last| self.0.get(last))
            .map_or(0, |entry| entry.offset)
    }
}

impl Journal {
    /// Creates the file of a session with its first change, durably.
    pub(crate) fn create(
        path: &Path,
        head: &SessionHead,
        change: &SessionChange,
    ) -> io::Result<Self> {
        let mut journal = Self {
            path: path.to_owned(),
            length: 0,
            rewritten: 0,
            has_tail: false,
            index: EventIndex::default(),
        };
        let file = AtomicFile::create(path, FileAccess::Owner)?;
        journal.replace(file, head, None, change, |_| false)?;
        sync_folder(folder_of(path))?;
        Ok(journal)
    }

    /// Returns the file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the file is much longer than a rewritten one would be.
    pub(crate) fn has_grown(&self) -> bool {
        self.length > 2 * self.rewritten + MAX_GROWTH
    }

    /// Appends a change and syncs it.
    ///
    /// # Errors
    ///
    /// If it cannot be written or synced. The change does not count then.
    pub(crate) fn append(&mut self, change: &SessionChange) -> io::Result<()> {
        let line = line(change)?;
        let offset = self.length;
        let mut file = self.open_trimmed()?;
        self.has_tail = true;
        let written = file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| file.write_all(&line))
            .and_then(|()| sync_file(&file));
        if let Err(error) = written {
            // Bytes that cannot be removed now are removed before the next append or deletion.
            let _ = self.trim();
            return Err(error);
        }
        self.has_tail = false;
        self.length += line.len() as u64;
        self.index.add(offset, &change.events);
        Ok(())
    }

    /// Removes what an append that failed left behind, durably.
    pub(crate) fn trim(&mut self) -> io::Result<()> {
        if self.has_tail {
            sync_file(&self.open_trimmed()?)?;
            self.has_tail = false;
        }
        Ok(())
    }

    /// Opens the file, and removes bytes after the complete lines.
    fn open_trimmed(&self) -> io::Result<File> {
        let file = File::options().write(true).open(&self.path)?;
        let length = file.metadata()?.len();
        if length < self.length {
            let text = "another program shortened the file";
            return Err(io::Error::other(text));
        }
        if length > self.length {
            file.set_len(self.length)?;
        }
        Ok(file)
    }

    /// Returns at most `most` events after the one with this number, in the order of their numbers.
    pub(crate) fn events_after(&self, number: u64, most: usize) -> io::Result<Vec<SessionEvent>> {
        let mut events = Vec::new();
        let mut lines = self.lines_from(self.index.offset_after(number))?;
        while events.len() < most
            && let Some(line) = lines.next_line()?
        {
            let line: EventsOfLine = serde_json::from_slice(line).map_err(damaged)?;
            let newer = line
                .events
                .into_iter()
                .filter(|event| event.id.number > number);
            events.extend(newer.take(most - events.len()));
        }
        Ok(events)
    }

    /// Returns true if an event is about a person or its text mentions them.
    pub(crate) fn mentions(&self, person: &PersonId) -> io::Result<bool> {
        let mut lines = self.lines_from(0)?;
        while let Some(line) = lines.next_line()? {
            let line: EventsOfLine = serde_json::from_slice(line).map_err(damaged)?;
            if line.events.iter().any(|event| event.kind.mentions(person)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Replaces the file atomically by one with the events that are not dropped, and a snapshot of
    /// the session. The caller syncs the folder.
    ///
    /// # Errors
    ///
    /// If the new file cannot be written. The old one is unchanged then.
    pub(crate) fn rewrite(
        &mut self,
        head: &SessionHead,
        snapshot: &SessionChange,
        is_dropped: impl Fn(&EventKind) -> bool,
    ) -> io::Result<()> {
        let file = AtomicFile::create(&self.path, FileAccess::Owner)?;
        let lines = self.lines_from(0)?;
        self.replace(file, head, Some(lines), snapshot, is_dropped)
    }

    /// Removes the file. The caller syncs the folder.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Writes a new file and puts it in the place of the old one.
    fn replace(
        &mut self,
        file: AtomicFile,
        head: &SessionHead,
        old: Option<Lines>,
        snapshot: &SessionChange,
        is_dropped: impl Fn(&EventKind) -> bool,
    ) -> io::Result<()> {
        let mut writer = BufWriter::new(file);
        let mut index = EventIndex::default();
        let head = HeadLine {
            format: FORMAT,
            session: head,
        };
        let mut length = write_line(&mut writer, &head)?;
        if let Some(mut old) = old {
            // The head.
            old.next_line()?;
            while let Some(line) = old.next_line()? {
                let mut change: SessionChange = serde_json::from_slice(line).map_err(damaged)?;
                change.events.retain(|event| !is_dropped(&event.kind));
                if !change.events.is_empty() {
                    change.people.clear();
                    index.add(length, &change.events);
                    length += write_line(&mut writer, &change)?;
                }
            }
        }
        index.add(length, &snapshot.events);
        length += write_line(&mut writer, snapshot)?;
        writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .commit()?;
        self.length = length;
        self.rewritten = length;
        self.has_tail = false;
        self.index = index;
        Ok(())
    }

    /// Reads the complete lines from an offset on.
    fn lines_from(&self, offset: u64) -> io::Result<Lines> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Lines {
            reader: BufReader::new(file.take(self.length.saturating_sub(offset))),
            line: Vec::new(),
        })
    }
}

/// Lines of a file.
struct Lines {
    reader: BufReader<io::Take<File>>,
    line: Vec<u8>,
}

impl Lines {
    /// Returns the next line with its line break; none at the end.
    fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let length = self.reader.read_until(b'\n', &mut self.line)?;
        Ok((length > 0).then_some(self.line.as_slice()))
    }

    /// Returns true if no line follows.
    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.reader.fill_buf()?.is_empty())
    }
}

/// Returns a value as a line of JSON.
fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Writes a value as a line of JSON. Returns its length in bytes.
fn write_line(mut writer: impl Write, value: &impl Serialize) -> io::Result<u64> {
    let line = line(value)?;
    writer.write_all(&line)?;
    Ok(line.len() as u64)
}

/// Returns the error of a line that cannot be read. It does not quote the line, because that may have
/// ids of people.
fn damaged(_: serde_json::Error) -> io::Error {
    io::Error::other("a line cannot be read")
}

/// Returns the folder of a journal.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("."))
}
