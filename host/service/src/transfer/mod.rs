//! Export and import of the whole gallery as a ZIP archive. It has `people/CONTRACT/ID.csv` for
//! each person and contract, `groups/GROUP` with an id on each line, and its origin (`origin.rs`).
//!
//! An uploaded archive is untrusted: its names, sizes, counts and rows are checked like any
//! request.

mod contents;
mod deletions;
mod export;
mod file;
mod import;
mod origin;

use std::io;
use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;
use zip::result::ZipError;

use rostro_common::ids::{ContractId, PersonId};
use rostro_common::text::sanitize_name;
use rostro_gallery::groups::GroupId;
use rostro_gallery::ledger::ImportWatch;

use super::{Service, ServiceError};
use contents::MAX_ENTRIES;

pub use deletions::{ArchiveDeletions, DeletionsError};
pub use file::{ArchiveFile, ArchiveFolder};
pub use import::ImportOptions;

/// Maximum number of entries and people that an answer names.
const MAX_NAMED: usize = 100;

/// Entry that lists the files that an export omits.
const OMITTED_FILE: &str = "left_out.txt";

/// Folder of tombstones, with an entry for each gallery.
const TOMBSTONE_FOLDER: &str = "tombstones/";

/// Result of an import, or of its dry run.
#[derive(Debug)]
pub struct ImportReport {
    /// Number of people that were stored as in the archive.
    pub people: usize,
    /// Number of groups that have members of the archive.
    pub groups: usize,
    /// Omitted entries with the reason, at most `MAX_NAMED`.
    pub left_out: Vec<(String, String)>,
    /// Number of omitted entries.
    pub left_out_count: usize,
    /// People that were omitted because they were deleted since.
    pub deleted: PeopleList,
    /// People that were removed because the archive lacks them.
    pub removed: PeopleList,
    /// False if the file system cannot sync folders, so that a crash of the machine may undo the
    /// import.
    pub durable: bool,
}

impl Default for ImportReport {
    fn default() -> Self {
        Self {
            people: 0,
            groups: 0,
            left_out: Vec::new(),
            left_out_count: 0,
            deleted: PeopleList::default(),
            removed: PeopleList::default(),
            durable: true,
        }
    }
}

/// List of people that names the first ones.
#[derive(Debug, Default)]
pub struct PeopleList {
    /// First people, at most `MAX_NAMED`.
    pub first: Vec<PersonId>,
    /// Number of all people.
    pub count: usize,
}

/// Permit to export or import an archive: one at a time, because each is large.
#[derive(Debug)]
pub struct ArchivePermit(
    #[expect(dead_code, reason = "held until it is dropped")] OwnedMutexGuard<()>,
);

/// Permit to import an archive. Deletions and enrolments after its start take precedence over the
/// import.
#[derive(Debug)]
pub struct ImportPermit {
    _watch: ImportWatch,
    _permit: ArchivePermit,
}

/// Why an export or import failed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The people cannot be read or written.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The archive is not a ZIP.
    #[error("the archive cannot be read: {0}")]
    Zip(ZipError),
    /// The archive has too many entries.
    #[error("the archive has {0} entries; at most {MAX_ENTRIES} are accepted")]
    TooMany(usize),
    /// Another export or import is running.
    #[error("another export or import is running")]
    UnderWay,
    /// The import reached its deadline.
    #[error("the import was not done in time")]
    Late,
    /// The process is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The archive cannot be written.
    #[error("the archive cannot be written: {0}")]
    Io(io::Error),
    /// The archive would exceed the size limit.
    #[error("the archive would be larger than the limit; raise --max-archive-gib")]
    TooLarge,
    /// The tombstones of the archive cannot be written.
    #[error("cannot write the archive's tombstones: {0}")]
    Ledger(io::Error),
    /// An archive without a change number cannot remove people, because it may lack them for
    /// another reason.
    #[error("the archive has no change number, so it cannot remove people")]
    NotNumbered,
    /// An archive with unusable entries cannot remove people.
    #[error("the archive has {} entries that cannot be used, so it cannot remove people", .0.left_out_count)]
    Unusable(Box<ImportReport>),
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::FileTooLarge {
            Self::TooLarge
        } else {
            Self::Io(error)
        }
    }
}

impl From<ZipError> for ArchiveError {
    fn from(error: ZipError) -> Self {
        match error {
            // The cause is the disk, not the archive.
            ZipError::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull
                        | io::ErrorKind::QuotaExceeded
                        | io::ErrorKind::FileTooLarge
                ) =>
            {
                error.into()
            }
            error => Self::Zip(error),
        }
    }
}

impl Service {
    /// Returns the permit to export an archive.
    ///
    /// # Errors
    ///
    /// If another export or import is running.
    pub fn archiving(&self) -> Result<ArchivePermit, ArchiveError> {
        Arc::clone(&self.archiving)
            .try_lock_owned()
            .map(ArchivePermit)
            .map_err(|_| ArchiveError::UnderWay)
    }

    /// Returns the permit to import an archive.
    ///
    /// # Errors
    ///
    /// If another export or import is running.
    pub fn importing(&self) -> Result<ImportPermit, ArchiveError> {
        let permit = self.archiving()?;
        Ok(ImportPermit {
            _watch: self.people.store().watch_import(),
            _permit: permit,
        })
    }

    /// Returns the folder of archives that are being exported or imported.
    pub fn archives(&self) -> &ArchiveFolder {
        &self.archives
    }
}

impl ImportReport {
    fn omit(&mut self, name: &str, reason: String) {
        self.left_out_count += 1;
        if self.left_out.len() < MAX_NAMED {
            self.left_out.push((sanitize_name(name), reason));
        }
    }
}

impl PeopleList {
    fn add(&mut self, id: &PersonId) {
        self.count += 1;
        if self.first.len() < MAX_NAMED {
            self.first.push(id.clone());
        }
    }
}

/// Kind of an entry of an archive, by its name.
#[derive(Debug, PartialEq, Eq)]
enum ArchiveEntry {
    Person(PersonId, ContractId),
    Group(GroupId),
    /// Origin of the archive.
    Origin,
    /// Tombstones of a gallery.
    Tombstones(Uuid),
    /// List of the files that the export omits.
    OmittedFiles,
    Folder,
}

fn parse_entry_name(name: &str) -> Result<ArchiveEntry, String> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [.., ""] => Ok(ArchiveEntry::Folder),
        [origin::NAME] => Ok(ArchiveEntry::Origin),
        [OMITTED_FILE] => Ok(ArchiveEntry::OmittedFiles),
        ["tombstones", gallery] => Ok(ArchiveEntry::Tombstones(
            Uuid::try_parse(gallery).map_err(|_| "the name is not a gallery's")?,
        )),
        ["groups", group] => {
            Ok(ArchiveEntry::Group(group.parse().map_err(|error| {
                format!("the name is not a group's: {error}")
            })?))
        }
        ["people", contract, file] => {
            let (id, _) = file
                .rsplit_once('.')
                .filter(|(_, ending)| ending.eq_ignore_ascii_case("csv"))
                .ok_or("the name does not end in .csv")?;
            let id = id
                .parse()
                .map_err(|error| format!("the name is not an id: {error}"))?;
            let contract = contract
                .parse()
                .map_err(|error| format!("the folder is not a contract: {error}"))?;
            Ok(ArchiveEntry::Person(id, contract))
        }
        _ => Err("it is neither people/CONTRACT/ID.csv nor groups/GROUP".to_owned()),
    }
}

#[cfg(any(test, fuzzing))]
pub mod property;

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    #[test]
    fn entry_names_are_validated() {
        let person = |name: &str| matches!(parse_entry_name(name), Ok(ArchiveEntry::Person(..)));
        assert!(
            person("people/2222222222222222/s6.csv") && person("people/1111111111111111/a.b@c.csv")
        );
        assert!(
            matches!(parse_entry_name("groups/maths"), Ok(ArchiveEntry::Group(_)))
                && parse_entry_name("people/") == Ok(ArchiveEntry::Folder)
        );
        for wrong in [
            "s6.csv",
            "people/s6.csv",
            "people/1111111111111111/../s6.csv",
            "/people/1111111111111111/s6.csv",
            "people/1111111111111111/s6.txt",
            "people/1111111111111111/.csv",
            "people/x/s6.csv",
            "people/unmarked/s6.csv",
            "groups/.hidden",
            "groups/a/b",
            "people\\unmarked\\s6.csv",
            "",
            "people/1111111111111111/Unknown.csv",
        ] {
            assert!(
                !matches!(
                    parse_entry_name(wrong),
                    Ok(ArchiveEntry::Person(..) | ArchiveEntry::Group(_))
                ),
                "{wrong}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_archive_is_read_within_bounds(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), real: bool, at: usize) {
            if real {
                let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
                archive.start_file("people/1111111111111111/s6.csv", SimpleFileOptions::default()).unwrap();
                archive.write_all(b"image_number,embedding\n1,1;2\n").unwrap();
                let mut whole = archive.finish().unwrap().into_inner();
                let length = whole.len();
                for (place, byte) in bytes.iter().take(3).enumerate() {
                    whole[at.wrapping_mul(31).wrapping_add(place * 7) % length] ^= byte;
                }
                bytes = whole;
            }
            property::holds(bytes);
        }
    }
}
