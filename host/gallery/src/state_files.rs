//! The files of the state folder that are a part of the store: the record of revisions, and the
//! audit log.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use rostro_common::fs::atomic::{AtomicFile, FileAccess};
use rostro_common::fs::durable::sync_folder;

use crate::audit_file::{AuditFile, ShorterCopy};
use crate::template_file::TemplateFile;

/// Name of the audit log in the state folder.
pub const AUDIT_LOG: &str = "audit.jsonl";

/// Name of the record of revisions in the state folder.
pub const REVISIONS: &str = "revisions.json";

/// The record of revisions, the audit log and kept templates in a state folder, which the caller has
/// locked.
#[derive(Debug)]
pub struct StateFiles {
    record: PathBuf,
    audit: Mutex<AuditFile>,
    templates: TemplateFile,
}

impl StateFiles {
    /// Opens the files in a folder.
    ///
    /// # Errors
    ///
    /// If the audit log cannot be written.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let log = folder.join(AUDIT_LOG);
        let audit = AuditFile::open(&log).map_err(|error| {
            let text = format!("cannot write the audit log {}: {error}", log.display());
            io::Error::new(error.kind(), text)
        })?;
        Ok(Self {
            record: folder.join(REVISIONS),
            audit: Mutex::new(audit),
            templates: TemplateFile::new(folder),
        })
    }

    pub(crate) fn read_revisions(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.record) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write_revisions(&self, record: &[u8]) -> io::Result<()> {
        let mut file = AtomicFile::create(&self.record, FileAccess::Owner)?;
        io::Write::write_all(&mut file, record)?;
        file.commit()?;
        // The record is in place, so a failure here does not undo the write.
        let folder = self.record.parent().unwrap_or(Path::new("."));
        if let Err(error) = sync_folder(folder) {
            tracing::warn!(
                "cannot sync the folder of {}: {error}; a crash may bring back the old file",
                self.record.display()
            );
        }
        Ok(())
    }

    pub(crate) fn templates(&self) -> &TemplateFile {
        &self.templates
    }

    pub(crate) fn append_audit(&self, lines: &[u8]) -> io::Result<Arc<File>> {
        self.audit().append(lines)
    }

    pub(crate) fn reopen_audit(&self) -> io::Result<()> {
        self.audit().reopen()
    }

    /// Removes lines, and files that log rotation made, from before a time. Returns their bytes.
    pub(crate) fn remove_audit_before(&self, cutoff: Timestamp) -> io::Result<u64> {
        let (path, rotated) = {
            let audit = self.audit();
            (audit.path().to_owned(), audit.rotated()?)
        };
        let mut bytes = match ShorterCopy::of(&path, cutoff)? {
            Some(copy) => self.audit().replace_by(copy)?,
            None => 0,
        };
        for rotated in rotated {
            let metadata = rotated.metadata()?;
            if Timestamp::try_from(metadata.modified()?).is_ok_and(|modified| modified < cutoff) {
                fs::remove_file(&rotated)?;
                bytes += metadata.len();
            }
        }
        Ok(bytes)
    }

    fn audit(&self) -> MutexGuard<'_, AuditFile> {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
