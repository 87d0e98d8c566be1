//! The files of the state folder that are a part of the store: the record of revisions, and the
//! audit log.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use rostro_common::digest::Sha256Digest;
use rostro_common::fs::atomic::{AtomicFile, FileAccess};
use rostro_common::fs::durable::sync_folder;

use crate::audit::file::{AuditFile, ShorterCopy};
use crate::error::GalleryError;
use crate::templates::{KeptTemplates, TemplateFile, no_templates};

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

    /// Returns the record of revisions, see [`crate::Store::read_revisions`].
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn read_revisions(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.record) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the record of revisions.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write_revisions(&self, record: &[u8]) -> io::Result<()> {
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

    /// Returns the templates that are kept under a key, see [`crate::Store::kept_templates`].
    pub fn kept_templates(&self, key: Sha256Digest) -> KeptTemplates {
        let file = &self.templates;
        file.read(key).unwrap_or_else(|error| {
            tracing::warn!(
                "cannot read the templates {}, which are made again: {error}",
                file.path().display()
            );
            no_templates()
        })
    }

    /// Keeps templates instead of those of before, see [`crate::Store::keep_templates`].
    pub fn keep_templates(&self, key: Sha256Digest, templates: &KeptTemplates) {
        let file = &self.templates;
        // The templates of before may be a deleted person's.
        if let Err(error) = file.remove().and_then(|()| file.write(key, templates)) {
            tracing::warn!(
                "cannot replace the templates {}, which are made again at the next start: {error}",
                file.path().display()
            );
        }
    }

    /// Removes the kept templates, durably, before a person's samples are replaced or deleted.
    ///
    /// # Errors
    ///
    /// If they cannot be removed.
    pub fn remove_templates(&self) -> Result<(), GalleryError> {
        let file = &self.templates;
        file.remove().map_err(|cause| GalleryError::Templates {
            path: file.path().to_owned(),
            cause,
        })
    }

    /// Appends whole lines to the audit log. The caller syncs the returned file.
    ///
    /// # Errors
    ///
    /// If they cannot be written as a whole.
    pub fn append_audit(&self, lines: &[u8]) -> io::Result<Arc<File>> {
        self.audit().append(lines)
    }

    /// Opens the audit log anew.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn reopen_audit(&self) -> io::Result<()> {
        self.audit().reopen()
    }

    /// Removes lines, and files that log rotation made, from before a time. Returns their bytes.
    ///
    /// # Errors
    ///
    /// If the log cannot be changed.
    pub fn remove_audit_before(&self, cutoff: Timestamp) -> io::Result<u64> {
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
