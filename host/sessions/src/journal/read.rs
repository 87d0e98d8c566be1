//! Reads a journal back, and repairs a torn end.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use rostro_common::fs::durable::sync_file;

use crate::ids::SessionId;
use crate::session::{Session, SessionChange, SessionHead};

use super::{EventIndex, FORMAT, HeadLine, Journal, Lines};

/// Reason why a journal cannot be opened.
#[derive(Debug)]
pub(crate) enum JournalError {
    /// The disk failed, or the file cannot be read.
    Io(io::Error),
    /// The content is damaged. The text never quotes it, because it may have ids of people.
    Damaged(String),
}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Opens the journal of a session and replays it. A torn last line is removed durably, because a
/// crash interrupted it before its change was answered.
///
/// # Errors
///
/// If the file cannot be read, or a line other than the last one is damaged.
pub(crate) fn open(
    path: &Path,
    id: SessionId,
    max_events: u64,
) -> Result<(Session, Journal), JournalError> {
    let file = File::open(path)?;
    let file_length = file.metadata()?.len();
    let mut lines = Lines {
        reader: BufReader::new(file.take(u64::MAX)),
        line: Vec::new(),
    };
    let head = head(&mut lines, id)?;
    let mut session = Session::new(head, max_events);
    let mut journal = Journal {
        path: path.to_owned(),
        length: lines.line.len() as u64,
        rewritten: 0,
        has_tail: false,
        index: EventIndex::default(),
    };
    let mut number = 1;
    while let Some(line) = lines.next_line()? {
        number += 1;
        let length = line.len() as u64;
        // A change without its line break was not written completely, even if it is valid.
        let change: Option<SessionChange> = match line.ends_with(b"\n") {
            true => serde_json::from_slice(line).ok(),
            false => None,
        };
        let Some(change) = change else {
            // A crash of the machine leaves a line without its end, or zeros in it.
            let is_torn = !line.ends_with(b"\n") || line.contains(&0);
            if is_torn && lines.is_at_end()? {
                break;
            }
            let text = format!("line {number} is not a change of a session");
            return Err(JournalError::Damaged(text));
        };
        session
            .replay(&change)
            .map_err(|error| JournalError::Damaged(format!("line {number}: {error}")))?;
        journal.index.add(journal.length, &change.events);
        journal.length += length;
    }
    if journal.length < file_length {
        tracing::warn!(
            "{} ended within a line, which was removed: a crash interrupted a change that was not \
             answered",
            path.display()
        );
        let file = File::options().write(true).open(path)?;
        file.set_len(journal.length)?;
        sync_file(&file)?;
    }
    Ok((session, journal))
}

/// Reads the first line.
fn head(lines: &mut Lines, id: SessionId) -> Result<SessionHead, JournalError> {
    let damaged = |text: &str| JournalError::Damaged(text.to_owned());
    let line = lines
        .next_line()?
        .filter(|line| line.ends_with(b"\n"))
        .ok_or_else(|| damaged("the first line is not complete"))?;
    let line: HeadLine<SessionHead> = serde_json::from_slice(line)
        .map_err(|_| damaged("the first line is not the head of a session"))?;
    if line.format != FORMAT {
        let text = format!("its format is {}, not {FORMAT}", line.format);
        return Err(JournalError::Damaged(text));
    }
    if line.session.id != id {
        return Err(damaged("its name is not the id of its session"));
    }
    Ok(line.session)
}
