//! Lines of the audit log that a database could not take yet, in a file of the state folder.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rostro_common::fs::durable::sync_folder;

use super::file::AuditFile;

/// Name of the file that lines are appended to.
pub const UNSENT_LINES: &str = "audit-unsent.jsonl";

/// Name of the file while its lines are sent.
const SENDING: &str = "audit-sending.jsonl";

/// Lines that wait for their database.
#[derive(Debug)]
pub struct UnsentLines {
    folder: PathBuf,
    file: Mutex<AuditFile>,
    /// Held while lines are sent.
    sending: Mutex<()>,
    has_lines: AtomicBool,
}

impl UnsentLines {
    /// Opens the file in a folder, with the lines that an earlier process left.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(UNSENT_LINES);
        let is_left = |path: &Path| fs::metadata(path).is_ok_and(|file| file.len() > 0);
        let has_lines = is_left(&path) || folder.join(SENDING).exists();
        Ok(Self {
            folder: folder.to_owned(),
            file: Mutex::new(AuditFile::open(&path)?),
            sending: Mutex::default(),
            has_lines: AtomicBool::new(has_lines),
        })
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(UNSENT_LINES)
    }

    /// Returns true if lines wait.
    #[must_use]
    pub fn has_lines(&self) -> bool {
        self.has_lines.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let files = [UNSENT_LINES, SENDING].map(|name| fs::metadata(self.folder.join(name)));
        files.into_iter().flatten().map(|file| file.len()).sum()
    }

    /// Appends whole lines durably.
    ///
    /// # Errors
    ///
    /// If they cannot be written completely.
    pub fn append(&self, lines: &[u8]) -> io::Result<()> {
        let file = self.lock_file().append(lines)?;
        self.has_lines.store(true, Ordering::SeqCst);
        file.sync_data()
    }

    /// Sends the lines that wait, and removes those that were taken. After a crash lines may be sent
    /// twice.
    ///
    /// # Errors
    ///
    /// If they are not taken; they still wait.
    pub fn send(&self, mut send: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let _sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.folder.join(SENDING);
        while self.has_lines() {
            if !path.exists() {
                // Lines that are appended from here on go into a new file, and wait again.
                let mut file = self.lock_file();
                self.has_lines.store(false, Ordering::SeqCst);
                match fs::rename(file.path(), &path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                    renamed => renamed?,
                }
                file.reopen()?;
            }
            let sent = fs::read(&path).and_then(|lines| send(&lines));
            if sent.is_err() {
                self.has_lines.store(true, Ordering::SeqCst);
                return sent;
            }
            fs::remove_file(&path)?;
            let _ = sync_folder(&self.folder);
        }
        Ok(())
    }

    fn lock_file(&self) -> std::sync::MutexGuard<'_, AuditFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(lines: &UnsentLines) -> String {
        let mut all = String::new();
        let sent = lines.send(|lines| {
            all.push_str(std::str::from_utf8(lines).unwrap());
            Ok(())
        });
        sent.unwrap();
        all
    }

    #[test]
    fn lines_wait_until_taken() {
        let folder = tempfile::tempdir().unwrap();
        let lines = UnsentLines::open(folder.path()).unwrap();
        assert!(!lines.has_lines());
        lines.append(b"{1}\n").unwrap();
        lines
            .send(|_| Err(io::Error::other("the database is away")))
            .unwrap_err();
        lines.append(b"{2}\n").unwrap();
        assert!(lines.has_lines());
        assert_eq!(lines.bytes(), 8);
        drop(lines);
        let lines = UnsentLines::open(folder.path()).unwrap();
        assert_eq!(sent(&lines), "{1}\n{2}\n");
        assert!(!lines.has_lines());
        assert_eq!(lines.bytes(), 0);
        assert_eq!(sent(&lines), "");
        lines.append(b"{3}\n").unwrap();
        assert_eq!(sent(&lines), "{3}\n");
        assert!(!UnsentLines::open(folder.path()).unwrap().has_lines());
    }
}
