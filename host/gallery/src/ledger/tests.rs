//! Restarts, crashes and full disks.

use super::*;

fn id(text: &str) -> PersonId {
    text.parse().unwrap()
}

/// Opens the ledger like a later process.
fn reopened(gallery: &Path) -> Arc<Ledger> {
    Arc::new(Ledger::open(gallery))
}

fn origin_of(number: ArchiveNumber) -> ArchiveOrigin {
    ArchiveOrigin {
        gallery: Some(number.gallery),
        number: number.number,
        began: now(),
    }
}

/// A restart issues no number twice, after any end of the process.
#[test]
fn restart_never_repeats_number() {
    let gallery = tempfile::tempdir().unwrap();
    let mut latest = 0;
    for changes in [1, 3, 1023, 1, 5000, 0, 1] {
        let ledger = reopened(gallery.path());
        assert!(
            ledger.number() >= latest,
            "{} after {latest}",
            ledger.number()
        );
        (0..changes).for_each(|_| _ = ledger.advance());
        let number = ledger.archive_number().unwrap();
        assert_eq!(number.number, Some(ledger.number()));
        assert!(ledger.number() >= latest + changes);
        latest = ledger.number();
    }
    let gallery_id = reopened(gallery.path()).archive_number().unwrap().gallery;
    assert_eq!(
        reopened(gallery.path()).archive_number().unwrap().gallery,
        gallery_id
    );
}

/// Also after a restart, a deletion outdates older archives of its person, and nothing else.
#[test]
fn deletion_outdates_older_archives_only() {
    let gallery = tempfile::tempdir().unwrap();
    let ledger = reopened(gallery.path());
    (0..2).for_each(|_| _ = ledger.advance());
    let before = origin_of(ledger.archive_number().unwrap());
    assert!(ledger.begin_deletion(&id("alice")).has_tombstone);
    let after = origin_of(ledger.archive_number().unwrap());
    for ledger in [ledger, reopened(gallery.path())] {
        assert_eq!(
            ledger.deleted_since(&id("alice"), &before),
            Some(DeletionReason::SinceArchive)
        );
        assert_eq!(ledger.deleted_since(&id("alice"), &after), None);
        assert_eq!(ledger.deleted_since(&id("bob"), &before), None);
        // Without a number, or with that of another gallery, the time counts.
        let by_time = |began| ArchiveOrigin {
            gallery: None,
            number: None,
            began,
        };
        assert_eq!(
            ledger.deleted_since(&id("alice"), &by_time(before.began - 1)),
            Some(DeletionReason::SinceArchive)
        );
        assert_eq!(
            ledger.deleted_since(&id("alice"), &by_time(now() + 10)),
            None
        );
        let of_another = ArchiveOrigin {
            gallery: Some(Uuid::from_u128(7)),
            number: Some(0),
            began: now() + 10,
        };
        assert_eq!(ledger.deleted_since(&id("alice"), &of_another), None);
    }
    let files = fs::read_dir(gallery.path().join(FOLDER)).unwrap();
    for file in files.map(|file| fs::read(file.unwrap().path()).unwrap()) {
        assert!(
            !file.windows(5).any(|window| window == b"alice"),
            "the id is in the ledger"
        );
    }
}

/// A deletion wins over the running import for any archive, also if the ledger cannot be written.
#[test]
fn deletion_during_import_always_wins() {
    let gallery = tempfile::tempdir().unwrap();
    fs::write(gallery.path().join(FOLDER), "a file in place of the folder").unwrap();
    let ledger = reopened(gallery.path());
    let later = ArchiveOrigin {
        gallery: None,
        number: None,
        began: i64::MAX,
    };
    assert!(!ledger.begin_deletion(&id("early")).has_tombstone);
    let watch = ledger.watch_import();
    assert!(!ledger.begin_deletion(&id("alice")).has_tombstone);
    assert_eq!(
        ledger.deleted_since(&id("alice"), &later),
        Some(DeletionReason::SinceImport)
    );
    assert_eq!(ledger.deleted_since(&id("early"), &later), None);
    drop(watch);
    assert_eq!(ledger.deleted_since(&id("alice"), &later), None);
}

/// The file grows beyond the preallocated slots. Deleting the same people again needs no further
/// ones.
#[test]
fn slots_grow_and_are_reused() {
    let gallery = tempfile::tempdir().unwrap();
    let ledger = reopened(gallery.path());
    let people: Vec<PersonId> = (0..1500).map(|number| id(&format!("p{number}"))).collect();
    let before = origin_of(ledger.archive_number().unwrap());
    let length = || {
        fs::metadata(gallery.path().join(FOLDER).join("tombstones.txt"))
            .unwrap()
            .len()
    };
    assert!(
        people
            .iter()
            .all(|id| ledger.begin_deletion(id).has_tombstone)
    );
    let grown = length();
    let between = origin_of(ledger.archive_number().unwrap());
    assert!(
        people
            .iter()
            .all(|id| ledger.begin_deletion(id).has_tombstone)
    );
    assert_eq!(length(), grown);
    let second = reopened(gallery.path());
    assert_eq!(second.tombstones().len(), people.len());
    assert!(
        people
            .iter()
            .all(|id| second.deleted_since(id, &before).is_some()
                && second.deleted_since(id, &between).is_some())
    );
}

/// A torn write loses neither the number nor another tombstone.
#[test]
fn torn_write_keeps_older_state() {
    let gallery = tempfile::tempdir().unwrap();
    let ledger = reopened(gallery.path());
    let before = origin_of(ledger.archive_number().unwrap());
    assert!(
        ledger.begin_deletion(&id("alice")).has_tombstone
            && ledger.begin_deletion(&id("bob")).has_tombstone
    );
    (0..1100).for_each(|_| _ = ledger.advance());
    let path = gallery.path().join(FOLDER).join("tombstones.txt");
    let whole = fs::read(&path).unwrap();
    let number = ledger.number();
    // The page of the next number, and the first free slot.
    for (begin, length) in [(0, 90), (8192 + 2 * 165, 165)] {
        for torn in (1..length).step_by(7) {
            let mut bytes = whole.clone();
            bytes[begin..begin + torn].fill(0x5a);
            fs::write(&path, bytes).unwrap();
            let second = reopened(gallery.path());
            assert!(second.number() >= number, "{torn} bytes at {begin}");
            assert!(
                ["alice", "bob"]
                    .iter()
                    .all(|name| second.deleted_since(&id(name), &before).is_some()),
                "{torn} bytes at {begin}"
            );
        }
    }
}

/// Tombstones expire after 400 days, in memory and in the file.
#[test]
fn expired_tombstone_is_removed() {
    let gallery = tempfile::tempdir().unwrap();
    let ledger = reopened(gallery.path());
    (0..1).for_each(|_| _ = ledger.advance());
    let own = ledger.archive_number().unwrap().gallery;
    let mut old = Tombstones::default();
    let key = ledger.tombstones().galleries().next().unwrap().1;
    old.add_gallery(own, key.clone());
    let day = 24 * 3600 * 1000;
    old.insert(
        own,
        key.hash("kept").0,
        Tombstone {
            number: 1,
            deleted_at: now() - 399 * day,
        },
    );
    old.insert(
        own,
        key.hash("gone").0,
        Tombstone {
            number: 1,
            deleted_at: now() - 401 * day,
        },
    );
    assert!(ledger.merge(&old).unwrap().is_empty());
    assert_eq!(reopened(gallery.path()).tombstones().len(), 1);
}

/// Adopted tombstones count by the numbers of the gallery that they come from.
#[test]
fn merged_tombstones_count_by_origin() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (reopened(one.path()), reopened(two.path()));
    let before = origin_of(source.archive_number().unwrap());
    assert!(source.begin_deletion(&id("alice")).has_tombstone);
    let after = ArchiveOrigin {
        began: 0,
        ..origin_of(source.archive_number().unwrap())
    };
    assert!(target.merge(&source.tombstones()).unwrap().is_empty());
    for target in [Arc::clone(&target), reopened(two.path())] {
        assert_eq!(
            target.deleted_since(&id("alice"), &before),
            Some(DeletionReason::SinceArchive)
        );
        assert_eq!(target.deleted_since(&id("alice"), &after), None);
    }
    // Another key for a known gallery is refused.
    let mut forged = Tombstones::default();
    forged.add_gallery(
        before.gallery.unwrap(),
        rostro_common::keyed_hash::HashKey::from_hex(&"09".repeat(32)).unwrap(),
    );
    forged.insert(
        before.gallery.unwrap(),
        [1; 32],
        Tombstone {
            number: 1,
            deleted_at: now(),
        },
    );
    assert_eq!(target.merge(&forged).unwrap().len(), 1);
    assert_eq!(target.tombstones().len(), 1);
}

/// An archive with a number that this gallery never issued is compared by time, because the gallery
/// was restored from a copy.
#[test]
fn unknown_number_is_not_trusted() {
    let gallery = tempfile::tempdir().unwrap();
    let ledger = reopened(gallery.path());
    let known = origin_of(ledger.archive_number().unwrap());
    assert_eq!(ledger.check_origin(known, true), (known, Ok(())));
    let ahead = ArchiveOrigin {
        number: Some(5000),
        ..known
    };
    let untrusted = ArchiveOrigin {
        number: None,
        ..known
    };
    assert_eq!(ledger.check_origin(ahead, false), (untrusted, Ok(())));
    assert_eq!(ledger.check_origin(ahead, true), (untrusted, Ok(())));
    assert!(ledger.number() >= 5000 && reopened(gallery.path()).number() >= 5000);
}

/// Implausible numbers in an archive's origin or tombstones are not adopted.
#[test]
fn far_number_is_not_adopted() {
    let gallery = tempfile::tempdir().unwrap();
    let ledger = reopened(gallery.path());
    let known = origin_of(ledger.archive_number().unwrap());
    for number in [1 << 53, u64::MAX, 1 << 33] {
        let (origin_of, adopted) = ledger.check_origin(
            ArchiveOrigin {
                number: Some(number),
                ..known
            },
            true,
        );
        assert!(origin_of.number.is_none() && adopted.is_err());
    }
    let own = known.gallery.unwrap();
    let (_, key) = ledger.tombstones().galleries().next().unwrap();
    let mut tombstones = Tombstones::default();
    tombstones.add_gallery(own, key.clone());
    tombstones.insert(
        own,
        key.hash("far").0,
        Tombstone {
            number: u64::MAX,
            deleted_at: now(),
        },
    );
    tombstones.insert(
        own,
        key.hash("near").0,
        Tombstone {
            number: 7,
            deleted_at: now(),
        },
    );
    assert_eq!(ledger.merge(&tombstones).unwrap().len(), 1);
    assert_eq!((ledger.tombstones().len(), ledger.number()), (1, 7));
    assert_eq!(
        ledger
            .check_origin(origin_of(ledger.archive_number().unwrap()), true)
            .1,
        Ok(())
    );
}

/// Writes are recorded as long as the import runs.
#[test]
fn writes_during_import_are_recorded() {
    let ledger = Arc::new(Ledger::none());
    ledger.record_write(&id("early"));
    let watch = ledger.watch_import();
    ledger.record_write(&id("alice"));
    assert!(
        ledger.is_written_during_import(&id("alice"))
            && !ledger.is_written_during_import(&id("early"))
    );
    drop(watch);
    assert!(!ledger.is_written_during_import(&id("alice")));
}

/// A damaged ledger is moved away, and the gallery continues with another id.
#[test]
fn damaged_ledger_is_moved_away() {
    let gallery = tempfile::tempdir().unwrap();
    let before = reopened(gallery.path()).archive_number().unwrap();
    galleries::damage(&gallery.path().join(FOLDER));
    let ledger = reopened(gallery.path());
    assert!(ledger.begin_deletion(&id("alice")).has_tombstone);
    assert_ne!(ledger.archive_number().unwrap().gallery, before.gallery);
    assert!(gallery.path().join(".ledger-damaged-1").is_dir());
}

/// An empty gallery gets a ledger at the first change, one with people at the start.
#[test]
fn ledger_appears_with_first_person() {
    let gallery = tempfile::tempdir().unwrap();
    reopened(gallery.path());
    assert_eq!(fs::read_dir(gallery.path()).unwrap().count(), 0);
    fs::write(
        gallery.path().join("alice.csv"),
        "image_number,embedding\n1,1;2\n",
    )
    .unwrap();
    reopened(gallery.path());
    assert!(gallery.path().join(FOLDER).is_dir());
}
