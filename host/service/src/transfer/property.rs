//! Properties of every archive.
#![expect(clippy::unwrap_used, reason = "of tests and fuzz targets alone")]

use std::io::Cursor;

use rostro_gallery::csv_file::property as csv;

use super::contents::Contents;
use super::{ArchiveEntry, ImportReport, origin, parse_entry_name};

/// Small limits for an entry and for all, so that excess is found soon.
const ENTRY: u64 = 500;
const ALL: u64 = 2000;

/// Panics unless limits hold for any claimed size, names of people and groups are canonical, and
/// the reasons of omitted entries are printable. Returns the unpacked entries.
pub fn holds(bytes: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let Ok(mut contents) = Contents::open(Cursor::new(bytes)) else {
        return Vec::new();
    };
    contents.restrict(ALL);
    let mut report = ImportReport::default();
    let mut read = Vec::new();
    let mut total = 0;
    for index in 0..contents.len() {
        let Some(name) = contents.name(index) else {
            continue;
        };
        let is_person = match parse_entry_name(&name) {
            Ok(ArchiveEntry::Person(id, contract)) => {
                assert!(
                    matches!(parse_entry_name(&format!("people/{contract}/{id}.csv")), Ok(ArchiveEntry::Person(again, _)) if again == id),
                    "{name}"
                );
                true
            }
            Ok(ArchiveEntry::Group(group)) => {
                assert!(
                    matches!(parse_entry_name(&format!("groups/{group}")), Ok(ArchiveEntry::Group(again)) if again == group),
                    "{name}"
                );
                false
            }
            Ok(ArchiveEntry::Origin) => {
                let _ = contents
                    .read(index, origin::MAX_BYTES)
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
            Ok(ArchiveEntry::Folder | ArchiveEntry::OmittedFiles) => continue,
            Err(reason) => {
                report.omit(&name, reason);
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
    assert!(total <= ALL - contents.remaining());
    assert!(report.left_out.len() <= report.left_out_count.min(super::MAX_NAMED));
    assert!(report.left_out.iter().all(|(name, reason)| {
        ![name, reason]
            .into_iter()
            .any(|text| text.contains(char::is_control))
    }));
    serde_json::to_string(&report.left_out).unwrap();
    read
}
