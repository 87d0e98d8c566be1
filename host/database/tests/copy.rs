//! Copies between a folder and a database, against a real server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../../tests/e2e/postgres.rs"]
mod postgres;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use rostro_common::cores::Cores;
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_database::{CopyError, PostgresStore, copy, schema};
use rostro_gallery::ledger::{ArchiveOrigin, now};
use rostro_gallery::{FolderStore, Store};

use crate::postgres::OwnDatabase;
use crate::support::open;

/// People with the bits of their embeddings, groups with their members, and deleted people.
type Contents = (
    BTreeMap<PersonId, Vec<Vec<u32>>>,
    BTreeMap<String, BTreeSet<PersonId>>,
    BTreeSet<PersonId>,
);

fn people() -> [PersonId; 3] {
    ["alice", "bob", "zoë"].map(|id| id.parse().unwrap())
}

fn sample(first: f32) -> Sample {
    Sample {
        embedding: vec![first, 1.0 / 3.0],
        raw: Some(vec![first, 0.5]),
        contract: Some("1111111111111111".parse().unwrap()),
        det_score: Some(0.75),
        enrolment: Some("2222222222222222".parse().unwrap()),
    }
}

fn folder(path: &Path) -> FolderStore {
    FolderStore::open_locked(path, &Instant::now().into()).unwrap()
}

fn database(own: &OwnDatabase) -> PostgresStore {
    PostgresStore::open_alone(open(own), &Instant::now().into()).unwrap()
}

fn contents(store: &dyn Store) -> Contents {
    let origin = ArchiveOrigin {
        gallery: None,
        number: None,
        began: now() - 1_000_000,
    };
    let people_of = store.load(&Cores::single()).unwrap().people;
    let groups = store.groups();
    (
        people_of
            .into_iter()
            .map(|person| {
                let bits = |sample: &Sample| sample.embedding.iter().map(|n| n.to_bits()).collect();
                (person.id, person.samples.iter().map(bits).collect())
            })
            .collect(),
        groups
            .list()
            .iter()
            .map(|(group, _)| {
                let members = groups.members(group).unwrap();
                (group.to_string(), members.iter().cloned().collect())
            })
            .collect(),
        people()
            .into_iter()
            .filter(|id| store.deleted_since(id, &origin).is_some())
            .collect(),
    )
}

/// Groups without members and deletions are copied as people are, there and back.
#[test]
fn folder_survives_database() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let own = OwnDatabase::create();
    schema::migrate(&open(&own), None).unwrap();
    let [alice, bob, zoe] = people();
    let before = folder(one.path());
    for id in [&alice, &bob, &zoe] {
        before.replace(id, &[sample(0.1), sample(-0.0)]).unwrap();
    }
    for (group, members) in [("door", vec![]), ("maths", vec![alice, zoe.clone()])] {
        before
            .add_to_group(&group.parse().unwrap(), &members)
            .unwrap();
    }
    before.delete_person(&bob).unwrap();
    let expected = contents(&before);
    assert_eq!(expected.1["door"], BTreeSet::new());
    assert_eq!(expected.2, BTreeSet::from([bob]));

    let copy_to = |from: &dyn Store, to: &dyn Store, replace| {
        copy(from, to, replace, &Cores::single(), |_, _| ())
    };
    let stored = database(&own);
    let report = copy_to(&before, &stored, false).unwrap();
    assert_eq!(
        (
            report.people,
            report.samples,
            report.groups,
            report.tombstones
        ),
        (2, 4, 2, 1)
    );
    assert_eq!(contents(&stored), expected);
    let refused = copy_to(&before, &stored, false);
    assert!(matches!(refused, Err(CopyError::NotEmpty(2))));
    copy_to(&before, &stored, true).unwrap();
    let after = folder(two.path());
    copy_to(&stored, &after, false).unwrap();
    assert_eq!(contents(&after), expected);
}
