//! Deletions that an archive records, without its people.

use std::io::{Read, Seek};

use rostro_gallery::ledger::{ArchiveOrigin, Tombstones};

use super::contents::Contents;
use super::{ArchiveEntry, ArchiveError, origin, parse_entry_name};

/// Deletions that an archive has of its gallery, and of galleries that this one imported.
#[derive(Debug)]
pub struct ArchiveDeletions {
    /// Origin of the archive.
    pub origin: ArchiveOrigin,
    /// The deletions.
    pub tombstones: Tombstones,
}

/// Why the deletions of an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DeletionsError {
    /// The file is not an archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An entry is damaged.
    #[error("cannot read {0} of the archive: {1}")]
    Entry(String, String),
    /// The archive does not name its gallery.
    #[error("the archive has no gallery.json; name an export of this program")]
    NoOrigin,
}

impl ArchiveDeletions {
    /// Reads the deletions of an archive.
    ///
    /// # Errors
    ///
    /// [`DeletionsError`].
    pub fn read(archive: impl Read + Seek) -> Result<Self, DeletionsError> {
        let mut contents = Contents::open(archive)?;
        let (mut found, mut tombstones) = (None, Tombstones::default());
        for index in 0..contents.len() {
            let Some(name) = contents.name(index) else {
                continue;
            };
            let read = match parse_entry_name(&name) {
                Ok(ArchiveEntry::Origin) => contents
                    .read(index, origin::MAX_BYTES)
                    .and_then(|bytes| origin::read(&bytes))
                    .map(|origin| found = Some(origin)),
                Ok(ArchiveEntry::Tombstones(gallery)) => contents
                    .read(index, origin::MAX_TOMBSTONE_BYTES)
                    .and_then(|bytes| origin::read_tombstones(bytes, gallery, &mut tombstones)),
                _ => Ok(()),
            };
            read.map_err(|reason| DeletionsError::Entry(name, reason))?;
        }
        Ok(Self {
            origin: found.ok_or(DeletionsError::NoOrigin)?,
            tombstones,
        })
    }
}
