//! The number of the last delivered event of each session, of one receiver: a file of JSON lines, or
//! rows of the database that the nodes share.
//!
//! They have ids of sessions and numbers alone. A number is durable after the delivery, so that a
//! crash between both repeats a delivery and loses none.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rostro_common::fs::atomic::{FileAccess, write_atomic};
use rostro_common::fs::durable::sync_file;
use rostro_sessions::shared::SharedSessions;
use rostro_sessions::{SessionId, SessionStoreError};
use serde::{Deserialize, Serialize};

use crate::error::DeliveryError;

/// Version of the format.
const FORMAT: u32 = 1;

/// Number of lines that a file may have in addition to two for each session.
const MAX_EXTRA_LINES: usize = 1000;

/// First line of a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CursorsHead {
    format: u32,
}

/// Each other line of a file.
#[derive(Serialize, Deserialize)]
struct CursorLine {
    session: SessionId,
    delivered: u64,
}

/// Numbers of the last delivered events.
#[derive(Debug)]
pub(crate) struct Cursors {
    delivered: HashMap<SessionId, u64>,
    place: CursorPlace,
}

/// Where the numbers are stored.
#[derive(Debug)]
enum CursorPlace {
    File(CursorFile),
    Rows {
        shared: Arc<dyn SharedSessions>,
        receiver: String,
    },
}

/// File of a receiver.
#[derive(Debug)]
struct CursorFile {
    path: PathBuf,
    /// File to append to; none if the file must be rewritten first.
    file: Option<File>,
    /// Number of the file's lines after the head.
    lines: usize,
}

impl Cursors {
    /// Reads the rows of a receiver, or creates them with `initial` for a new one.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub(crate) fn of_rows(
        shared: &Arc<dyn SharedSessions>,
        receiver: &str,
        last_event: impl Fn(SessionId) -> Option<u64>,
        initial: impl FnOnce() -> HashMap<SessionId, u64>,
    ) -> Result<Self, SessionStoreError> {
        let delivered = match shared.cursors(receiver)? {
            // A failover may have lost events, and their numbers are given again.
            Some(mut delivered) => {
                for (session, number) in &mut delivered {
                    *number = last_event(*session).map_or(*number, |last| last.min(*number));
                }
                delivered
            }
            None => {
                let delivered = initial();
                shared.set_cursors(receiver, &delivered)?;
                delivered
            }
        };
        Ok(Self {
            delivered,
            place: CursorPlace::Rows {
                shared: Arc::clone(shared),
                receiver: receiver.to_owned(),
            },
        })
    }

    /// Opens the file, or creates it with `initial` for a new receiver. A torn last line is
    /// removed, because its event is delivered again.
    ///
    /// `last_event` returns the number of a session's last event. Cursors of sessions that do not
    /// exist are dropped, and those beyond their session are lowered, as after a restore of an older
    /// state folder.
    ///
    /// # Errors
    ///
    /// If the file cannot be used or has another format.
    pub(crate) fn open(
        path: &Path,
        last_event: impl Fn(SessionId) -> Option<u64>,
        initial: impl FnOnce() -> HashMap<SessionId, u64>,
    ) -> Result<Self, DeliveryError> {
        let mut delivered = match fs::read(path) {
            Ok(bytes) => parse(path, &bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => initial(),
            Err(error) => return Err(DeliveryError::io("read", path)(error)),
        };
        delivered.retain(|session, number| {
            let last = last_event(*session);
            *number = last.map_or(*number, |last| last.min(*number));
            last.is_some()
        });
        let mut file = CursorFile {
            path: path.to_owned(),
            file: None,
            lines: 0,
        };
        file.rewrite(&delivered)
            .map_err(DeliveryError::io("write", path))?;
        Ok(Self {
            delivered,
            place: CursorPlace::File(file),
        })
    }

    /// Returns the number of the last delivered event; 0 if there is none.
    pub(crate) fn get(&self, session: SessionId) -> u64 {
        self.delivered.get(&session).copied().unwrap_or_default()
    }

    /// Moves a cursor, durably. After an error it has moved in memory, and the next call writes it.
    ///
    /// # Errors
    ///
    /// If the disk or the database fails.
    pub(crate) fn advance(&mut self, session: SessionId, number: u64) -> io::Result<()> {
        self.skip(session, number);
        match &mut self.place {
            CursorPlace::File(file) => file.advance(&self.delivered, session, number),
            CursorPlace::Rows { shared, receiver } => shared
                .set_cursors(receiver, &HashMap::from([(session, number)]))
                .map_err(io::Error::other),
        }
    }

    /// Moves a cursor in memory. A later one of the session is written.
    pub(crate) fn skip(&mut self, session: SessionId, number: u64) {
        self.delivered.insert(session, number);
    }

    /// Drops the cursors of sessions that do not exist any more.
    pub(crate) fn retain(&mut self, exists: impl Fn(SessionId) -> bool) {
        self.delivered.retain(|session, _| exists(*session));
    }
}

impl CursorFile {
    /// Writes one of the numbers.
    fn advance(
        &mut self,
        all: &HashMap<SessionId, u64>,
        session: SessionId,
        delivered: u64,
    ) -> io::Result<()> {
        let limit = 2 * all.len() + MAX_EXTRA_LINES;
        let line = line(&CursorLine { session, delivered })?;
        match self.file.take() {
            Some(mut file) if self.lines < limit => {
                file.write_all(&line)?;
                sync_file(&file)?;
                // Only a file that was synced is appended to again.
                self.file = Some(file);
                self.lines += 1;
                Ok(())
            }
            _ => self.rewrite(all),
        }
    }

    /// Replaces the file with one line for each session.
    fn rewrite(&mut self, all: &HashMap<SessionId, u64>) -> io::Result<()> {
        self.file = None;
        let mut bytes = line(&CursorsHead { format: FORMAT })?;
        for (&session, &delivered) in all {
            bytes.extend(line(&CursorLine { session, delivered })?);
        }
        write_atomic(&self.path, FileAccess::Owner, &bytes)?;
        self.file = Some(File::options().append(true).open(&self.path)?);
        self.lines = all.len();
        Ok(())
    }
}

/// Parses a file. Lines that cannot be read are left out, because a missing cursor repeats events
/// and loses none.
fn parse(path: &Path, bytes: &[u8]) -> Result<HashMap<SessionId, u64>, DeliveryError> {
    let format = |problem: String| DeliveryError::Format {
        path: path.to_owned(),
        problem,
    };
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
    let head = lines.next().unwrap_or_default();
    let head: CursorsHead =
        serde_json::from_slice(head).map_err(|_| format("its first line is damaged".to_owned()))?;
    if head.format != FORMAT {
        let problem = format!("its format is {}, not {FORMAT}", head.format);
        return Err(format(problem));
    }
    let (mut delivered, mut damaged) = (HashMap::new(), 0_usize);
    for line in lines {
        let cursor: Option<CursorLine> = match line.ends_with(b"\n") {
            true => serde_json::from_slice(line).ok(),
            false => None,
        };
        match cursor {
            Some(cursor) => {
                delivered.insert(cursor.session, cursor.delivered);
            }
            None => damaged += 1,
        }
    }
    if damaged > 0 {
        tracing::warn!(
            "{} had {damaged} torn or damaged lines, which were removed: their events are \
             delivered again",
            path.display()
        );
    }
    Ok(delivered)
}

/// Returns a value as a line of JSON.
fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use rostro_common::fs::durable::testing::failing_with;

    use super::*;

    fn open(path: &Path) -> Result<Cursors, DeliveryError> {
        Cursors::open(path, |_| Some(u64::MAX), HashMap::new)
    }

    fn lines_of(cursors: &Cursors) -> usize {
        match &cursors.place {
            CursorPlace::File(file) => file.lines,
            CursorPlace::Rows { .. } => 0,
        }
    }

    #[test]
    fn torn_line_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.jsonl");
        let session = SessionId::random().unwrap();
        let mut cursors = open(&path).unwrap();
        cursors.advance(session, 3).unwrap();
        let before = fs::read(&path).unwrap();
        cursors.advance(session, 4).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in before.len()..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut cursors = open(&path).unwrap();
            assert_eq!(cursors.get(session), 3, "{length}");
            assert_eq!(fs::read(&path).unwrap(), before);
            cursors.advance(session, 5).unwrap();
            assert_eq!(open(&path).unwrap().get(session), 5);
        }
    }

    #[test]
    fn damaged_line_keeps_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.jsonl");
        let [first, second] = [(); 2].map(|()| SessionId::random().unwrap());
        let mut cursors = open(&path).unwrap();
        cursors.advance(first, 3).unwrap();
        cursors.advance(second, 4).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&first.to_string(), "damaged")).unwrap();
        let cursors = open(&path).unwrap();
        assert_eq!((cursors.get(first), cursors.get(second)), (0, 4));
        for (head, says) in [
            ("", "first line is damaged"),
            ("{\"format\":2}\n", "format is 2"),
        ] {
            fs::write(&path, head).unwrap();
            let error = open(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn failed_write_is_repaired() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.jsonl");
        let session = SessionId::random().unwrap();
        let mut cursors = open(&path).unwrap();
        let failed = failing_with(libc::EIO, || cursors.advance(session, 1));
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(libc::EIO));
        // The memory keeps it, and the next call replaces the file.
        assert_eq!(cursors.get(session), 1);
        cursors.advance(session, 2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert_eq!(open(&path).unwrap().get(session), 2);
        let missing = Cursors::open(&folder.path().join("none/x"), |_| None, HashMap::new);
        let Err(DeliveryError::Io { cause, .. }) = missing else {
            panic!("a missing folder")
        };
        assert_eq!(cause.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn long_file_is_compacted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.jsonl");
        let [kept, gone] = [(); 2].map(|()| SessionId::random().unwrap());
        let mut cursors = open(&path).unwrap();
        cursors.advance(gone, 1).unwrap();
        cursors.retain(|session| session == kept);
        let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
        let mut longest = 0;
        for number in 1..=(2 * MAX_EXTRA_LINES as u64) {
            cursors.advance(kept, number).unwrap();
            longest = longest.max(lines_of(&cursors));
        }
        assert!(longest <= MAX_EXTRA_LINES + 4, "{longest}");
        assert!(lines(&path) <= MAX_EXTRA_LINES + 4);
        assert!(
            !fs::read_to_string(&path)
                .unwrap()
                .contains(&gone.to_string())
        );
        assert_eq!(open(&path).unwrap().get(kept), 2 * MAX_EXTRA_LINES as u64);
        assert_eq!(lines(&path), 2);
    }
}
