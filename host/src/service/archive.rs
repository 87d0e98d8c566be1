//! The whole gallery as one archive: a ZIP with `people/CONTRACT/ID.csv` for each person and contract, and `groups/GROUP` with an id a line.
//!
//! An archive that comes in is a stranger's: names, sizes, counts and rows are checked as those of any caller.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::time::Instant;

use bytes::Bytes;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{Service, ServiceError};
use crate::deployment::Actor;
use crate::gallery::{parse_samples, write_samples};
use crate::groups::GroupId;
use crate::people::PeopleError;
use crate::person::{ContractId, PersonId, Sample};

/// The most entries that are taken: a hundred thousand people, and groups.
const MOST_ENTRIES: usize = 120_000;

/// The largest entry that is read, in bytes, as large as a person's file may be.
const LARGEST_ENTRY: u64 = 4 << 20;

/// The most entries that are named in an answer.
const NAMED: usize = 100;

/// How samples are called that state no contract.
const UNMARKED: &str = "unmarked";

/// What came of an import.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// People who are stored now as the archive says.
    pub people: usize,
    /// Groups that have members of the archive's.
    pub groups: usize,
    /// Entries that were left out, the first of them with the reason.
    pub left_out: Vec<(String, String)>,
    /// How many were left out.
    pub left_out_count: usize,
}

/// Why there is no archive, or none was taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// The people cannot be read or written.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// It is no ZIP.
    #[error("the archive cannot be read: {0}")]
    Zip(#[from] ZipError),
    /// It has too many entries.
    #[error("the archive has {0} entries; at most {MOST_ENTRIES} are taken")]
    TooMany(usize),
    /// The archive cannot be written.
    #[error("the archive cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl Service {
    /// Everybody, of every contract, and every group, as a file that has no name and is gone with its handle.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be read, or there is no room for the archive.
    pub(crate) fn export(&self, actor: &Actor) -> Result<File, ArchiveError> {
        let loaded = self.people.stored().map_err(ServiceError::from)?;
        let mut archive = ZipWriter::new(tempfile::tempfile()?);
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        for stored in loaded {
            let mut contracts: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
            for sample in stored.samples {
                let contract = sample.contract.as_ref().map_or_else(|| UNMARKED.to_owned(), ToString::to_string);
                contracts.entry(contract).or_default().push(sample);
            }
            for (contract, samples) in contracts {
                archive.start_file(format!("people/{contract}/{}.csv", stored.id), options)?;
                write_samples(&samples, &mut archive)?;
            }
        }
        for (group, _) in self.groups().list() {
            archive.start_file(format!("groups/{group}"), options)?;
            let members = self.groups().members(&group).unwrap_or_default();
            let mut members: Vec<&PersonId> = members.iter().collect();
            members.sort();
            for id in members {
                writeln!(archive, "{id}")?;
            }
        }
        let mut file = archive.finish()?;
        file.seek(SeekFrom::Start(0))?;
        self.deployment.note_person(actor, "export", "done");
        Ok(file)
    }

    /// Stores everybody of an archive, each in place of what was stored under that id for the same contract, and adds to groups. Who is
    /// not in it stays as they are. What cannot be used is left out and named.
    ///
    /// # Errors
    ///
    /// If it is no archive, or the gallery cannot be written; those before the failure are stored then.
    pub(crate) fn import(&self, archive: Bytes, actor: &Actor, deadline: Instant) -> Result<Imported, ArchiveError> {
        let mut archive = ZipArchive::new(Cursor::new(archive))?;
        if archive.len() > MOST_ENTRIES {
            return Err(ArchiveError::TooMany(archive.len()));
        }
        let mut imported = Imported::default();
        let mut people: BTreeMap<PersonId, Vec<usize>> = BTreeMap::new();
        let mut groups: Vec<(GroupId, usize)> = Vec::new();
        for index in 0..archive.len() {
            let Some(name) = name(&archive, index) else { continue };
            match entry(&name) {
                Ok(Entry::Person(id, _)) => people.entry(id).or_default().push(index),
                Ok(Entry::Group(group)) => groups.push((group, index)),
                Ok(Entry::Folder) => {}
                Err(why) => imported.leave_out(&name, why),
            }
        }
        for (id, entries) in people {
            let _turn = self.people.turns().wait(&id, deadline).map_err(ServiceError::from)?;
            let mut stored = false;
            for index in entries {
                let name = name(&archive, index).unwrap_or_default();
                match self.import_samples(&mut archive, index, &id, deadline) {
                    Ok(()) => stored = true,
                    Err(Left::Out(why)) => imported.leave_out(&name, why),
                    Err(Left::Failed(error)) => return Err(ServiceError::from(error).into()),
                }
            }
            imported.people += usize::from(stored);
        }
        for (group, index) in groups {
            let name = format!("groups/{group}");
            let text = match contents(&mut archive, index).map(String::from_utf8) {
                Ok(Ok(text)) => text,
                Ok(Err(_)) => {
                    imported.leave_out(&name, "it is no text".to_owned());
                    continue;
                }
                Err(why) => {
                    imported.leave_out(&name, why);
                    continue;
                }
            };
            let mut added = false;
            for line in text.lines().filter(|line| !line.is_empty()) {
                match line.parse::<PersonId>().map(|id| self.add_to_group(&group, &id, deadline)) {
                    Ok(Ok(Some(_))) => added = true,
                    Ok(Ok(None)) => imported.leave_out(&name, "a line is the id of nobody who is stored".to_owned()),
                    Ok(Err(error)) => return Err(error.into()),
                    Err(_) => imported.leave_out(&name, "a line is no id".to_owned()),
                }
            }
            imported.groups += usize::from(added);
        }
        self.deployment.note_person(actor, "import", "done");
        Ok(imported)
    }

    /// Stores one person's samples of one contract. The person's turn is held.
    fn import_samples(&self, archive: &mut ZipArchive<Cursor<Bytes>>, index: usize, id: &PersonId, deadline: Instant) -> Result<(), Left> {
        let bytes = contents(archive, index).map_err(Left::Out)?;
        let samples = parse_samples(bytes.as_slice()).map_err(|error| Left::Out(error.to_string()))?;
        let Ok(Entry::Person(_, contract)) = entry(&name(archive, index).unwrap_or_default()) else {
            return Err(Left::Out("it is nobody's".to_owned()));
        };
        if samples.iter().any(|sample| sample.contract != contract) {
            return Err(Left::Out("a row is of another contract than its folder".to_owned()));
        }
        let live = self.deployment.active();
        let templates = match live.view.templates_of(&samples, deadline) {
            Ok(templates) => templates.unwrap_or_default(),
            Err(error) => return Err(Left::Out(format!("no templates can be made of it: {error}"))),
        };
        if templates.is_empty() {
            // Of another recogniser: stored, and found again when that is active.
            return self.people.store(id, &samples).map_err(Left::Failed);
        }
        self.people.replace(id, &samples, &live.view, &templates).map(drop).map_err(Left::Failed)
    }
}

impl Imported {
    fn leave_out(&mut self, name: &str, why: String) {
        self.left_out_count += 1;
        if self.left_out.len() < NAMED {
            let shown: String = name.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
            self.left_out.push((shown, why));
        }
    }
}

/// Why samples were not stored.
enum Left {
    /// They cannot be used.
    Out(String),
    /// The gallery cannot be written.
    Failed(PeopleError),
}

/// What an entry of an archive is, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Person(PersonId, Option<ContractId>),
    Group(GroupId),
    Folder,
}

fn entry(name: &str) -> Result<Entry, String> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [.., ""] => Ok(Entry::Folder),
        ["groups", group] => Ok(Entry::Group(group.parse().map_err(|error| format!("the name is no group's: {error}"))?)),
        ["people", contract, file] => {
            let id = file.strip_suffix(".csv").ok_or("the name does not end in .csv")?;
            let id = id.parse().map_err(|error| format!("the name is no id: {error}"))?;
            let contract = match *contract {
                UNMARKED => None,
                other => Some(other.parse().map_err(|error| format!("the folder is no contract: {error}"))?),
            };
            Ok(Entry::Person(id, contract))
        }
        _ => Err("it is neither people/CONTRACT/ID.csv nor groups/GROUP".to_owned()),
    }
}

fn name(archive: &ZipArchive<Cursor<Bytes>>, index: usize) -> Option<String> {
    archive.name_for_index(index)?.ok().map(std::borrow::Cow::into_owned)
}

/// An entry's bytes, however many its head says that there are.
fn contents(archive: &mut ZipArchive<Cursor<Bytes>>, index: usize) -> Result<Vec<u8>, String> {
    let entry = archive.by_index(index).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    entry.take(LARGEST_ENTRY + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST_ENTRY { Err(format!("it has more than {LARGEST_ENTRY} bytes")) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries_are_people_groups_or_nothing() {
        let person = |name: &str| matches!(entry(name), Ok(Entry::Person(..)));
        assert!(person("people/unmarked/s6.csv") && person("people/1111111111111111/a.b@c.csv"));
        assert!(matches!(entry("groups/maths"), Ok(Entry::Group(_))) && entry("people/") == Ok(Entry::Folder));
        for wrong in [
            "s6.csv",
            "people/s6.csv",
            "people/unmarked/../s6.csv",
            "/people/unmarked/s6.csv",
            "people/unmarked/s6.txt",
            "people/unmarked/.csv",
            "people/x/s6.csv",
            "groups/.hidden",
            "groups/a/b",
            "people\\unmarked\\s6.csv",
            "",
            "people/unmarked/Unknown.csv",
        ] {
            assert!(!matches!(entry(wrong), Ok(Entry::Person(..) | Entry::Group(_))), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_reading_an_archive_panic(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), real: bool, at: usize) {
            if real {
                let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
                archive.start_file("people/unmarked/s6.csv", SimpleFileOptions::default()).unwrap();
                archive.write_all(b"image_number,embedding\n1,1;2\n").unwrap();
                let mut whole = archive.finish().unwrap().into_inner();
                let length = whole.len();
                for (place, byte) in bytes.iter().take(3).enumerate() {
                    whole[at.wrapping_mul(31).wrapping_add(place * 7) % length] ^= byte;
                }
                bytes = whole;
            }
            if let Ok(mut archive) = ZipArchive::new(Cursor::new(Bytes::from(bytes))) {
                for index in 0..archive.len().min(10) {
                    let _ = name(&archive, index).map(|name| entry(&name));
                    let _ = contents(&mut archive, index).map(|bytes| parse_samples(bytes.as_slice()).is_ok());
                }
            }
        }
    }
}
