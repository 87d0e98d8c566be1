//! What holds of every archive that is read, whoever made it.
#![expect(clippy::unwrap_used, reason = "of tests and fuzz targets alone")]

use std::io::Cursor;

use rostro_gallery::csv_file::property as csv;

use super::contents::Contents;
use super::{ArchiveEntry, Imported, entry, origin};

/// Little room, so that what is too large is found soon: of an entry, and of all.
const ENTRY: u64 = 500;
const ALL: u64 = 2000;

/// No more is unpacked than may be, however many bytes an archive says that it has; what is taken
/// for a person's or a group's entry is named just so; and what is said of the others can be shown.
/// Gives what was unpacked.
pub fn holds(bytes: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let Ok(mut contents) = Contents::open(Cursor::new(bytes)) else {
        return Vec::new();
    };
    contents.restrict(ALL);
    let mut imported = Imported::default();
    let mut read = Vec::new();
    let mut total = 0;
    for index in 0..contents.len() {
        let Some(name) = contents.name(index) else {
            continue;
        };
        let is_person = match entry(&name) {
            Ok(ArchiveEntry::Person(id, contract)) => {
                assert!(
                    matches!(entry(&format!("people/{contract}/{id}.csv")), Ok(ArchiveEntry::Person(again, _)) if again == id),
                    "{name}"
                );
                true
            }
            Ok(ArchiveEntry::Group(group)) => {
                assert!(
                    matches!(entry(&format!("groups/{group}")), Ok(ArchiveEntry::Group(again)) if again == group),
                    "{name}"
                );
                false
            }
            Ok(ArchiveEntry::Origin) => {
                let _ = contents
                    .read(index, origin::LARGEST)
                    .map(|bytes| origin::read(&bytes));
                continue;
            }
            Ok(ArchiveEntry::Tombstones(gallery)) => {
                let mut tombstones = rostro_gallery::ledger::Tombstones::default();
                let _ = contents
                    .read(index, ENTRY)
                    .map(|bytes| origin::read_tombstones(bytes, gallery, &mut tombstones));
                continue;
            }
            Ok(ArchiveEntry::Folder | ArchiveEntry::LeftOut) => continue,
            Err(why) => {
                imported.leave_out(&name, why);
                continue;
            }
        };
        contents.written_at(index);
        let Ok(bytes) = contents.read(index, ENTRY) else {
            continue;
        };
        assert!(bytes.len() as u64 <= ENTRY);
        total += bytes.len() as u64;
        if is_person {
            csv::holds(&bytes);
        }
        read.push((name, bytes));
    }
    assert!(total <= ALL - contents.left());
    assert!(imported.left_out.len() <= imported.left_out_count.min(super::NAMED));
    assert!(imported.left_out.iter().all(|(name, why)| {
        ![name, why]
            .into_iter()
            .any(|text| text.contains(char::is_control))
    }));
    serde_json::to_string(&imported.left_out).unwrap();
    read
}
