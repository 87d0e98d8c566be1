//! What follows the restore of a backup, against a real server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../../tests/e2e/postgres.rs"]
mod postgres;
mod support;

use std::collections::BTreeSet;
use std::time::Instant;

use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_database::{DatabaseError, PostgresStore, begin_epoch, schema};
use rostro_gallery::Store;
use rostro_gallery::ledger::ArchiveOrigin;
use uuid::Uuid;

use crate::postgres::OwnDatabase;
use crate::support::open;

/// Opens the database alone, with connections of its own.
fn store(own: &OwnDatabase) -> PostgresStore {
    PostgresStore::open_alone(open(own), &Instant::now().into()).unwrap()
}

fn person(id: &str) -> PersonId {
    id.parse().unwrap()
}

fn enrol(store: &PostgresStore, id: &str) {
    let sample = Sample {
        embedding: vec![0.5, 0.25],
        raw: None,
        contract: Some("1111111111111111".parse().unwrap()),
        det_score: None,
        enrolment: None,
    };
    store.replace(&person(id), &[sample]).unwrap();
}

/// Deletions that the backup lacks are repeated, for people who were enrolled again as well, because
/// the backup has their deleted samples. Later changes have higher numbers than lost ones.
#[test]
fn restore_repeats_lost_deletions() {
    let own = OwnDatabase::create();
    let database = open(&own);
    schema::migrate(&database, None).unwrap();
    let before = store(&own);
    for id in ["alice", "bob", "carol", "dave"] {
        enrol(&before, id);
    }
    let maths = "maths".parse().unwrap();
    let members = ["alice", "carol", "erin"].map(person);
    before.add_to_group(&maths, &members).unwrap();
    before.delete_person(&person("dave")).unwrap();
    enrol(&before, "dave");
    own.execute(postgres::BACK_UP);
    for id in ["alice", "bob", "erin"] {
        before.delete_person(&person(id)).unwrap();
    }
    enrol(&before, "bob");
    let (tombstones, number) = (
        before.tombstones().unwrap(),
        before.archive_number().unwrap(),
    );
    drop(before);
    own.execute(postgres::RESTORE);
    // Texts of a policy in the backup.
    let session = "3f2b8c1e-9a47-4d7e-8b55-0c9d1e2f3a4b";
    own.execute(&format!(
        "INSERT INTO rostro.session VALUES ('{session}', '{session}', NULL, '{{}}', '{{}}', true, 0)"
    ));
    for (number, who) in (1..).zip(["alice", "carol"]) {
        let event = format!(
            r#"{{"id":"{session}-{number}","number":{number},"at":"2026-01-01T00:00:00Z",
                "kind":"policy","code":"note","message":"{who} waved"}}"#
        );
        own.execute(&format!(
            "INSERT INTO rostro.session_event VALUES ('{session}', {number}, NULL, true, '{event}')"
        ));
    }

    let origin = ArchiveOrigin {
        gallery: Some(number.gallery),
        number: number.number,
        began: 0,
    };
    let other = ArchiveOrigin {
        gallery: Some(Uuid::nil()),
        ..origin
    };
    let refused = begin_epoch(&database, Some((other, &tombstones)));
    assert!(
        matches!(refused, Err(DatabaseError::OtherGallery)),
        "{refused:?}"
    );
    let restored = begin_epoch(&database, Some((origin, &tombstones))).unwrap();
    assert_eq!(restored.deleted, ["alice", "bob"]);
    let numbers = own.query("SELECT number FROM rostro.session_event");
    assert_eq!(numbers.trim(), "2");
    let after = store(&own);
    let (ids, _) = after.ids().unwrap();
    assert_eq!(ids, BTreeSet::from(["carol", "dave"].map(person)));
    let members = after.groups().members(&maths).unwrap();
    assert!(members.iter().eq([&person("carol")]), "{members:?}");
    assert!(after.archive_number().unwrap().number >= number.number);
    let again = begin_epoch(&database, Some((origin, &tombstones))).unwrap();
    assert!(again.deleted.is_empty());
}
