//! The whole gallery as one archive: a ZIP with `people/CONTRACT/ID.csv` for each person and contract, and `groups/GROUP` with an id a line.
//!
//! An archive that comes in is a stranger's: names, sizes, counts and rows are checked as those of any caller.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::sync::{MutexGuard, TryLockError};
use std::time::Instant;

use bytes::Bytes;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::enroll::MOST_PHOTOS;
use super::{Service, ServiceError};
use crate::audit::{Action, Ending};
use crate::deployment::Actor;
use crate::gallery::{GalleryError, LARGEST_PERSON, parse_samples, write_samples};
use crate::groups::{self, GroupId, GroupsError};
use crate::people::PeopleError;
use crate::person::{ContractId, PersonId, Sample};
use crate::printed::printed_name;

/// The most entries that are taken: a hundred thousand people, and groups.
const MOST_ENTRIES: usize = 120_000;

/// The most entries that are named in an answer.
const NAMED: usize = 100;

/// People whose import the audit log records with one write.
const NOTED: usize = 256;

/// The most bytes that all entries together are unpacked to.
const MOST_BYTES: u64 = 8 << 30;

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
    /// Another is made or taken.
    #[error("another archive is under way")]
    UnderWay,
    /// It takes too long.
    #[error("the import was not done in time")]
    Late,
    /// The archive cannot be written.
    #[error("the archive cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl Service {
    /// The turn to make or to take an archive: one at a time, because each is large.
    ///
    /// # Errors
    ///
    /// If somebody has it.
    pub(crate) fn archiving(&self) -> Result<MutexGuard<'_, ()>, ArchiveError> {
        match self.archiving.try_lock() {
            Ok(turn) => Ok(turn),
            // It guards nothing that could be half done.
            Err(TryLockError::Poisoned(turn)) => Ok(turn.into_inner()),
            Err(TryLockError::WouldBlock) => Err(ArchiveError::UnderWay),
        }
    }

    /// Everybody, of every contract, and every group, as a file that has no name and is gone with its handle.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be read, or there is no room for the archive.
    pub(crate) fn export(&self, actor: &Actor) -> Result<File, ArchiveError> {
        let exported = self.export_all();
        self.deployment.note_gallery(actor, Action::Export, if exported.is_ok() { Ending::Done } else { Ending::Failed });
        exported
    }

    fn export_all(&self) -> Result<File, ArchiveError> {
        let loaded = self.people.stored().map_err(ServiceError::from)?;
        let mut archive = ZipWriter::new(tempfile::tempfile()?);
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        for stored in loaded.people {
            let mut contracts: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
            for sample in stored.samples {
                // Every sample has one, once any revision has served.
                let Some(contract) = &sample.contract else { continue };
                contracts.entry(contract.to_string()).or_default().push(sample);
            }
            for (contract, samples) in contracts {
                archive.start_file(format!("people/{contract}/{}.csv", stored.id), options)?;
                write_samples(&samples, &mut archive)?;
            }
        }
        if !loaded.problems.is_empty() {
            tracing::warn!(files = loaded.problems.len(), "the export lacks files of the gallery that cannot be read");
            archive.start_file("left_out.txt", options)?;
            for problem in &loaded.problems {
                writeln!(archive, "{problem}")?;
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
        Ok(file)
    }

    /// Stores everybody of an archive, each in place of all that was stored under that id, of every contract, and adds to groups. Who is
    /// not in it stays as they are. What cannot be used is left out and named.
    ///
    /// # Errors
    ///
    /// If it is no archive, or the gallery cannot be written; those before the failure are stored then.
    pub(crate) fn import(&self, archive: Bytes, actor: &Actor, deadline: Instant) -> Result<Imported, ArchiveError> {
        self.deployment.note_gallery(actor, Action::Import, Ending::Begun);
        let imported = self.import_all(archive, actor, deadline);
        self.deployment.note_gallery(actor, Action::Import, if imported.is_ok() { Ending::Done } else { Ending::Failed });
        imported
    }

    fn import_all(&self, archive: Bytes, actor: &Actor, deadline: Instant) -> Result<Imported, ArchiveError> {
        let archive = ZipArchive::new(Cursor::new(archive))?;
        if archive.len() > MOST_ENTRIES {
            return Err(ArchiveError::TooMany(archive.len()));
        }
        let mut imported = Imported::default();
        let mut people: BTreeMap<PersonId, Vec<(usize, ContractId)>> = BTreeMap::new();
        let mut groups: Vec<(GroupId, usize)> = Vec::new();
        for index in 0..archive.len() {
            let Some(name) = name(&archive, index) else { continue };
            match entry(&name) {
                Ok(Entry::Person(id, contract)) => people.entry(id).or_default().push((index, contract)),
                Ok(Entry::Group(group)) => groups.push((group, index)),
                Ok(Entry::Folder) => {}
                Err(why) => imported.leave_out(&name, why),
            }
        }
        let mut unpacked = Unpacked { archive, left: MOST_BYTES };
        // Recorded also if the import ends early.
        let mut noted = scopeguard::guard(Vec::new(), |ids| self.note_imported(actor, &ids));
        for (id, entries) in people {
            let _turn = self.people.turns().wait(&id, deadline).map_err(ServiceError::from)?;
            let mut contracts: Vec<Vec<Sample>> = Vec::new();
            for (index, contract) in entries {
                in_time(deadline)?;
                let read = unpacked.contents(index, LARGEST_PERSON);
                match read.and_then(|bytes| samples_of(&bytes, &contract)) {
                    Ok(samples) => contracts.push(samples),
                    Err(why) => imported.leave_out(&format!("people/{contract}/{id}.csv"), why),
                }
            }
            if self.import_person(&id, contracts, &mut imported, deadline)? {
                imported.people += 1;
                noted.push(id);
            }
            if noted.len() >= NOTED {
                self.note_imported(actor, &noted);
                noted.clear();
            }
        }
        drop(noted);
        for (group, index) in groups {
            in_time(deadline)?;
            let name = format!("groups/{group}");
            let text = unpacked
                .contents(index, groups::LARGEST as u64)
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is no text".to_owned()));
            match text {
                Ok(text) => imported.groups += usize::from(self.import_group(&group, &name, &text, actor, &mut imported)?),
                Err(why) => imported.leave_out(&name, why),
            }
        }
        Ok(imported)
    }

    fn note_imported(&self, actor: &Actor, ids: &[PersonId]) {
        self.deployment.note_people(actor, Action::ImportPerson, Ending::Done, ids);
    }

    /// Adds the members that an archive has of a group; whether there were any.
    fn import_group(&self, group: &GroupId, name: &str, text: &str, actor: &Actor, imported: &mut Imported) -> Result<bool, ArchiveError> {
        let live = self.deployment.active();
        let mut members = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.parse::<PersonId>() {
                Ok(id) if live.view.knows(&id).is_some() => members.push(id),
                Ok(_) => imported.leave_out(name, "a line is the id of nobody who is stored".to_owned()),
                Err(_) => imported.leave_out(name, "a line is no id".to_owned()),
            }
        }
        match self.groups().add_all(group, &members) {
            Ok(_) => {}
            Err(error @ (GroupsError::TooMany | GroupsError::TooLarge | GroupsError::Damaged | GroupsError::NameTaken)) => {
                imported.leave_out(name, error.to_string());
                return Ok(false);
            }
            Err(error) => return Err(ServiceError::from(PeopleError::from(error)).into()),
        }
        self.deployment.note_people(actor, Action::AddToGroup, Ending::Done, &members);
        // Who was deleted meanwhile must not stay in it.
        for id in members.iter().filter(|id| live.view.knows(id).is_none()) {
            self.groups().forget(id).map_err(|error| ServiceError::from(PeopleError::from(error)))?;
        }
        Ok(!members.is_empty())
    }

    /// Stores one person's samples of all contracts that the archive has, in place of all that is stored of them; whether any can be used. The
    /// person's turn is held.
    fn import_person(
        &self,
        id: &PersonId,
        mut contracts: Vec<Vec<Sample>>,
        imported: &mut Imported,
        deadline: Instant,
    ) -> Result<bool, ArchiveError> {
        let live = self.deployment.active();
        let active = live.revision.contract();
        let mut templates = Vec::new();
        let is_active = |samples: &Vec<Sample>| samples.first().is_some_and(|sample| sample.contract.as_ref() == Some(&active.id));
        if let Some(place) = contracts.iter().position(is_active) {
            // Into the person's own file.
            contracts.swap(0, place);
            let samples = contracts.first().map_or([].as_slice(), Vec::as_slice);
            let made = if samples.iter().any(|sample| sample.embedding.len() != active.dimension) {
                Err(format!("an embedding of another length than {}, which its contract has", active.dimension))
            } else {
                match live.view.templates_of(samples, &deadline.into()) {
                    Ok(templates) => Ok(templates.unwrap_or_default()),
                    Err(PeopleError::Run(error)) if error.is_of_the_moment() => return Err(ServiceError::from(error).into()),
                    Err(error) => Err(format!("no templates can be made of it: {error}")),
                }
            };
            match made {
                Ok(made) => templates = made,
                Err(why) => {
                    imported.leave_out(&format!("people/{}/{id}.csv", active.id), why);
                    contracts.remove(0);
                }
            }
        }
        if contracts.is_empty() {
            return Ok(false);
        }
        match self.people.replace(id, &together(contracts), &live.view, &templates) {
            Ok(_) => Ok(true),
            // More than is read again, or an id that cannot be told from another.
            Err(error @ (PeopleError::Gallery(GalleryError::TooLarge { .. }) | PeopleError::IdTaken)) => {
                imported.leave_out(&format!("people/…/{id}.csv"), error.to_string());
                Ok(false)
            }
            Err(error) => Err(ServiceError::from(error).into()),
        }
    }
}

/// Reads one person's samples of one contract.
fn samples_of(bytes: &[u8], contract: &ContractId) -> Result<Vec<Sample>, String> {
    let samples = parse_samples(bytes).map_err(|error| error.to_string())?;
    if samples.iter().any(|sample| sample.contract.as_ref() != Some(contract)) {
        return Err("a row is of another contract than its folder".to_owned());
    }
    if samples.len() > MOST_PHOTOS {
        return Err(format!("it has {} photos; at most {MOST_PHOTOS} are kept of a person", samples.len()));
    }
    Ok(samples)
}

/// Returns the samples of all contracts in one list. If they do not name one and the same enrolment, as in archives of programs before
/// enrolment ids, only the first contract's are matched: the others may be an older person's under the same id.
fn together(contracts: Vec<Vec<Sample>>) -> Vec<Sample> {
    let is_alone = contracts.len() == 1;
    let enrolment = contracts.first().and_then(|samples| samples.first()).and_then(|sample| sample.enrolment.clone());
    let is_one = is_alone || enrolment.is_some() && contracts.iter().flatten().all(|sample| sample.enrolment == enrolment);
    let mut samples: Vec<Sample> = contracts.into_iter().flatten().collect();
    if !is_one {
        for sample in &mut samples {
            sample.enrolment = None;
        }
    }
    samples
}

/// An archive that is unpacked entry by entry, and only so far.
struct Unpacked {
    archive: ZipArchive<Cursor<Bytes>>,
    /// Bytes that may still be.
    left: u64,
}

impl Unpacked {
    /// An entry's bytes, however many its head says that there are.
    fn contents(&mut self, index: usize, most: u64) -> Result<Vec<u8>, String> {
        let entry = self.archive.by_index(index).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        entry.take(most.min(self.left) + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let length = bytes.len() as u64;
        if length > self.left {
            self.left = 0;
            return Err("the archive is unpacked to more than it may be".to_owned());
        }
        self.left -= length;
        if length > most { Err(format!("it has more than {most} bytes")) } else { Ok(bytes) }
    }
}

fn in_time(deadline: Instant) -> Result<(), ArchiveError> {
    if Instant::now() < deadline { Ok(()) } else { Err(ArchiveError::Late) }
}

impl Imported {
    fn leave_out(&mut self, name: &str, why: String) {
        self.left_out_count += 1;
        if self.left_out.len() < NAMED {
            self.left_out.push((printed_name(name), why));
        }
    }
}

/// What an entry of an archive is, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Person(PersonId, ContractId),
    Group(GroupId),
    Folder,
}

fn entry(name: &str) -> Result<Entry, String> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [.., ""] => Ok(Entry::Folder),
        ["groups", group] => Ok(Entry::Group(group.parse().map_err(|error| format!("the name is no group's: {error}"))?)),
        ["people", contract, file] => {
            let (id, _) =
                file.rsplit_once('.').filter(|(_, ending)| ending.eq_ignore_ascii_case("csv")).ok_or("the name does not end in .csv")?;
            let id = id.parse().map_err(|error| format!("the name is no id: {error}"))?;
            let contract = contract.parse().map_err(|error| format!("the folder is no contract: {error}"))?;
            Ok(Entry::Person(id, contract))
        }
        _ => Err("it is neither people/CONTRACT/ID.csv nor groups/GROUP".to_owned()),
    }
}

fn name(archive: &ZipArchive<Cursor<Bytes>>, index: usize) -> Option<String> {
    archive.name_for_index(index)?.ok().map(std::borrow::Cow::into_owned)
}

#[cfg(any(test, fuzzing))]
pub(crate) mod property;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries_are_people_groups_or_nothing() {
        let person = |name: &str| matches!(entry(name), Ok(Entry::Person(..)));
        assert!(person("people/2222222222222222/s6.csv") && person("people/1111111111111111/a.b@c.csv"));
        assert!(matches!(entry("groups/maths"), Ok(Entry::Group(_))) && entry("people/") == Ok(Entry::Folder));
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
            assert!(!matches!(entry(wrong), Ok(Entry::Person(..) | Entry::Group(_))), "{wrong}");
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
            property::holds(bytes.into());
        }
    }
}
