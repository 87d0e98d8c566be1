//! The whole gallery as one archive: a ZIP with `people/CONTRACT/ID.csv` for each person and
//! contract, `groups/GROUP` with an id a line, and what says where it is from ([`origin`]).
//!
//! An archive that comes in is a stranger's: names, sizes, counts and rows are checked as those of
//! any caller.

mod contents;
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
use contents::MOST_ENTRIES;

pub use file::{ArchiveFile, ArchiveFolder};
pub use import::ImportOptions;

/// The most entries and people that are named in an answer.
const NAMED: usize = 100;

/// Entry with the files of the gallery that an export lacks.
const LEFT_OUT: &str = "left_out.txt";

/// Folder of tombstones, one entry for each gallery.
const TOMBSTONES: &str = "tombstones/";

/// What came of an import, or would.
#[derive(Debug)]
pub struct Imported {
    /// People who are stored now as the archive says.
    pub people: usize,
    /// Groups that have members of the archive's.
    pub groups: usize,
    /// Entries that were left out, the first of them with the reason.
    pub left_out: Vec<(String, String)>,
    /// How many were left out.
    pub left_out_count: usize,
    /// People who were left out because they were deleted since.
    pub deleted: PeopleList,
    /// People who were removed because the archive lacks them.
    pub removed: PeopleList,
    /// False where the file system cannot sync folders, so that a crash of the machine may undo the
    /// import.
    pub durable: bool,
}

impl Default for Imported {
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

/// People, of whom the first are named.
#[derive(Debug, Default)]
pub struct PeopleList {
    /// The first people, at most [`NAMED`].
    pub first: Vec<PersonId>,
    /// Number of all people.
    pub count: usize,
}

/// The turn to make or to take an archive: one at a time, because each is large.
#[derive(Debug)]
pub struct ArchivePermit(
    #[expect(dead_code, reason = "held until it is dropped")] OwnedMutexGuard<()>,
);

/// The turn to take an archive. Deletions and enrolments from its beginning on win over the import.
#[derive(Debug)]
pub struct ImportPermit {
    _watch: ImportWatch,
    _turn: ArchivePermit,
}

/// Why there is no archive, or none was taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The people cannot be read or written.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// It is no ZIP.
    #[error("the archive cannot be read: {0}")]
    Zip(ZipError),
    /// It has too many entries.
    #[error("the archive has {0} entries; at most {MOST_ENTRIES} are taken")]
    TooMany(usize),
    /// Another is made or taken.
    #[error("another archive is under way")]
    UnderWay,
    /// It takes too long.
    #[error("the import was not done in time")]
    Late,
    /// The process is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The archive cannot be written.
    #[error("the archive cannot be written: {0}")]
    Io(io::Error),
    /// It would be larger than archives may be.
    #[error("the archive would be larger than the limit; raise --max-archive-gib")]
    TooLarge,
    /// The tombstones of the archive cannot be written.
    #[error("cannot write the archive's tombstones: {0}")]
    Ledger(io::Error),
    /// People cannot be removed by an archive that may lack some for another reason.
    #[error("the archive has no change number, so that nobody can be removed by it")]
    NotNumbered,
    /// The same: these entries cannot be used.
    #[error("the archive has {} entries that cannot be used, so that nobody can be removed by it", .0.left_out_count)]
    Unusable(Box<Imported>),
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
            // A full disk, and not what is in the archive.
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
    /// The turn to make an archive.
    ///
    /// # Errors
    ///
    /// If somebody has it.
    pub fn archiving(&self) -> Result<ArchivePermit, ArchiveError> {
        Arc::clone(&self.archiving)
            .try_lock_owned()
            .map(ArchivePermit)
            .map_err(|_| ArchiveError::UnderWay)
    }

    /// The turn to take an archive.
    ///
    /// # Errors
    ///
    /// If somebody has it.
    pub fn importing(&self) -> Result<ImportPermit, ArchiveError> {
        let turn = self.archiving()?;
        Ok(ImportPermit {
            _watch: self.people.ledger().watch_import(),
            _turn: turn,
        })
    }

    /// Where archives are written on their way.
    pub fn archives(&self) -> &ArchiveFolder {
        &self.archives
    }
}

impl Imported {
    fn leave_out(&mut self, name: &str, why: String) {
        self.left_out_count += 1;
        if self.left_out.len() < NAMED {
            self.left_out.push((sanitize_name(name), why));
        }
    }
}

impl PeopleList {
    fn add(&mut self, id: &PersonId) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(id.clone());
        }
    }
}

/// What an entry of an archive is, by its name.
#[derive(Debug, PartialEq, Eq)]
enum ArchiveEntry {
    Person(PersonId, ContractId),
    Group(GroupId),
    /// Where the archive is from.
    Origin,
    /// Tombstones of a gallery.
    Tombstones(Uuid),
    /// What the export lacks.
    LeftOut,
    Folder,
}

fn entry(name: &str) -> Result<ArchiveEntry, String> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [.., ""] => Ok(ArchiveEntry::Folder),
        [origin::NAME] => Ok(ArchiveEntry::Origin),
        [LEFT_OUT] => Ok(ArchiveEntry::LeftOut),
        ["tombstones", gallery] => Ok(ArchiveEntry::Tombstones(
            Uuid::try_parse(gallery).map_err(|_| "the name is not a gallery's")?,
        )),
        ["groups", group] => {
            Ok(ArchiveEntry::Group(group.parse().map_err(|error| {
                format!("the name is no group's: {error}")
            })?))
        }
        ["people", contract, file] => {
            let (id, _) = file
                .rsplit_once('.')
                .filter(|(_, ending)| ending.eq_ignore_ascii_case("csv"))
                .ok_or("the name does not end in .csv")?;
            let id = id
                .parse()
                .map_err(|error| format!("the name is no id: {error}"))?;
            let contract = contract
                .parse()
                .map_err(|error| format!("the folder is no contract: {error}"))?;
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
    fn names_of_entries_are_people_groups_or_nothing() {
        let person = |name: &str| matches!(entry(name), Ok(ArchiveEntry::Person(..)));
        assert!(
            person("people/2222222222222222/s6.csv") && person("people/1111111111111111/a.b@c.csv")
        );
        assert!(
            matches!(entry("groups/maths"), Ok(ArchiveEntry::Group(_)))
                && entry("people/") == Ok(ArchiveEntry::Folder)
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
                    entry(wrong),
                    Ok(ArchiveEntry::Person(..) | ArchiveEntry::Group(_))
                ),
                "{wrong}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_an_archive_holds_is_read_within_bounds(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), real: bool, at: usize) {
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
