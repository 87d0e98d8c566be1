//! Any sequence of operations has the same answers in a folder and in a database.
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
use std::path::{Path, PathBuf};
use std::time::Instant;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rostro_common::cores::Cores;
use rostro_common::ids::{ContractId, EnrolmentId, PersonId};
use rostro_common::sample::Sample;
use rostro_database::{Database, DatabaseOptions, Node, PostgresStore, schema};
use rostro_gallery::groups::GroupId;
use rostro_gallery::ledger::{ArchiveOrigin, now};
use rostro_gallery::{
    BatchOutcome, CsvGallery, FolderStore, SampleLocation, StateFiles, Store, UnsentLines,
};

use crate::postgres::OwnDatabase;
use crate::support::fleet;

/// One call of a store.
#[derive(Clone, Debug)]
enum Operation {
    Replace(PersonId, Vec<Sample>),
    Put(PersonId, Vec<Sample>, SampleLocation),
    ReplaceAll(Vec<(PersonId, Vec<Sample>)>),
    Delete(PersonId),
    AddToGroup(GroupId, Vec<PersonId>),
    RemoveFromGroup(GroupId, PersonId),
    DeleteGroup(GroupId),
    Import,
    Restart,
}

/// Samples of people, without what differs from store to store: ids of enrolments.
type People = BTreeMap<PersonId, Option<Vec<String>>>;

/// What a caller can see of a store.
#[derive(Debug, PartialEq)]
struct Contents {
    ids: BTreeSet<PersonId>,
    people: People,
    loaded: People,
    groups: BTreeMap<String, BTreeSet<PersonId>>,
    deleted: BTreeSet<PersonId>,
    written: BTreeSet<PersonId>,
}

fn people() -> [PersonId; 4] {
    ["alice", "Bob", "carol", "zoë"].map(|id| id.parse().unwrap())
}

fn contracts() -> [ContractId; 3] {
    [1, 2, 3].map(|number| format!("{number:016x}").parse().unwrap())
}

/// An enrolment that no other operation has, if any.
fn enrolment() -> impl Strategy<Value = Option<EnrolmentId>> {
    prop::option::weighted(0.8, any::<u64>())
        .prop_map(|number| Some(format!("{:016x}", number?).parse().unwrap()))
}

/// Sets the enrolment of samples.
fn enrolled(mut samples: Vec<Sample>, enrolment: &Option<EnrolmentId>) -> Vec<Sample> {
    for sample in &mut samples {
        sample.enrolment.clone_from(enrolment);
    }
    samples
}

fn sample() -> impl Strategy<Value = Sample> {
    (
        prop::collection::vec(0.1_f32..1.0, 2),
        prop::option::of(0.1_f32..1.0),
        prop::option::of(0.0_f32..1.0),
    )
        .prop_map(|(embedding, raw, det_score)| Sample {
            raw: raw.map(|number| vec![number; embedding.len()]),
            embedding,
            contract: None,
            det_score,
            enrolment: None,
        })
}

/// Samples of one contract, as a request stores them.
fn samples() -> impl Strategy<Value = (ContractId, Vec<Sample>)> {
    let contract = select(contracts().to_vec());
    (contract, prop::collection::vec(sample(), 1..3)).prop_map(|(contract, mut samples)| {
        for sample in &mut samples {
            sample.contract = Some(contract.clone());
        }
        (contract, samples)
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let person = || select(people().to_vec());
    let group = || {
        select(
            ["maths", "Maths", "door"]
                .map(|name| name.parse::<GroupId>().unwrap())
                .to_vec(),
        )
    };
    let location = select(vec![SampleLocation::Own, SampleLocation::Other]);
    let by_contract = || prop::collection::btree_map(0_usize..3, samples(), 1..3);
    let batch = prop::collection::btree_map(person(), by_contract(), 1..3);
    prop_oneof![
        4 => (person(), by_contract(), enrolment()).prop_map(|(id, groups, enrolment)| {
            let samples = groups.into_values().flat_map(|(_, samples)| samples);
            Operation::Replace(id, enrolled(samples.collect(), &enrolment))
        }),
        4 => (person(), samples(), enrolment(), location).prop_map(
            |(id, (_, samples), enrolment, location)| {
                Operation::Put(id, enrolled(samples, &enrolment), location)
            }
        ),
        2 => (batch, enrolment()).prop_map(|(people, enrolment)| {
            let distinct = |groups: BTreeMap<usize, (ContractId, Vec<Sample>)>| {
                let mut seen = BTreeSet::new();
                groups
                    .into_values()
                    .filter(|(contract, _)| seen.insert(contract.to_string()))
                    .flat_map(|(_, samples)| enrolled(samples, &enrolment))
                    .collect()
            };
            let people = people.into_iter().map(|(id, groups)| (id, distinct(groups)));
            Operation::ReplaceAll(people.collect())
        }),
        3 => person().prop_map(Operation::Delete),
        2 => (group(), prop::collection::vec(person(), 0..3))
            .prop_map(|(group, ids)| Operation::AddToGroup(group, ids)),
        1 => (group(), person()).prop_map(|(group, id)| Operation::RemoveFromGroup(group, id)),
        1 => group().prop_map(Operation::DeleteGroup),
        1 => Just(Operation::Import),
        1 => Just(Operation::Restart),
    ]
}

/// Returns a sample as text, without the id of its enrolment.
fn text(sample: &Sample) -> String {
    let Sample {
        embedding,
        raw,
        contract,
        det_score,
        ..
    } = sample;
    let contract = contract.as_ref().map(ToString::to_string);
    format!("{contract:?} {embedding:?} {raw:?} {det_score:?}")
}

fn texts(samples: &[Sample]) -> Vec<String> {
    let mut texts: Vec<String> = samples.iter().map(text).collect();
    texts.sort();
    texts
}

/// Reads everything. Of the people who are stored, those of whole batches, which an import makes
/// itself, do not count as written during one.
fn contents(store: &dyn Store, origin: &ArchiveOrigin, imported: &BTreeSet<PersonId>) -> Contents {
    let read = |id: &PersonId| store.read(id).unwrap().map(|samples| texts(&samples));
    let loaded = store.load(&Cores::single()).unwrap().people;
    let groups = store.groups();
    let members = |name: &GroupId| groups.members(name).unwrap().iter().cloned().collect();
    let all = people();
    let ids = store.ids().unwrap().0;
    let is_written = |id: &PersonId| {
        ids.contains(id) && !imported.contains(id) && store.is_written_during_import(id)
    };
    Contents {
        people: all.iter().map(|id| (id.clone(), read(id))).collect(),
        loaded: loaded
            .into_iter()
            .map(|person| (person.id, Some(texts(&person.samples))))
            .collect(),
        groups: groups
            .list()
            .iter()
            .map(|(name, _)| (name.to_string(), members(name)))
            .collect(),
        deleted: all
            .iter()
            .filter(|id| store.deleted_since(id, origin).is_some())
            .cloned()
            .collect(),
        written: all.iter().filter(|id| is_written(id)).cloned().collect(),
        ids,
    }
}

/// Applies an operation. Returns what the caller is told, without numbers and paths.
fn apply(store: &dyn Store, operation: &Operation) -> String {
    match operation {
        Operation::Replace(id, samples) => {
            let write = store.replace(id, samples).unwrap();
            assert!(write.path.is_file());
            "stored".to_owned()
        }
        Operation::Put(id, samples, location) => {
            store.put(id, samples, *location).unwrap();
            "stored".to_owned()
        }
        Operation::ReplaceAll(people) => {
            let people: Vec<_> = people
                .iter()
                .map(|(id, groups)| (id, groups.as_slice()))
                .collect();
            let write = store.replace_all(&people);
            assert!(write.failure.is_none(), "{write:?}");
            let stored = |outcome: &BatchOutcome| matches!(outcome, BatchOutcome::Stored(_));
            write
                .outcomes
                .iter()
                .filter(|outcome| stored(outcome))
                .count()
                .to_string()
        }
        Operation::Delete(id) => store.delete_person(id).unwrap().was_there.to_string(),
        Operation::AddToGroup(group, ids) => match store.add_to_group(group, ids) {
            Ok(change) => change.is_changed().to_string(),
            Err(error) => error.to_string(),
        },
        Operation::RemoveFromGroup(group, id) => {
            let change = store.remove_from_group(group, id).unwrap();
            format!("{:?}", change.map(|change| change.is_changed()))
        }
        Operation::DeleteGroup(group) => {
            store.delete_group(group).unwrap().is_changed().to_string()
        }
        Operation::Import | Operation::Restart => String::new(),
    }
}

fn open_folder(folder: &Path) -> FolderStore {
    FolderStore::open_locked(&folder.join("gallery"), &Instant::now().into())
        .unwrap()
        .with_state(StateFiles::open(&state_folder(folder)).unwrap())
}

fn open_database(database: &Database, folder: &Path) -> PostgresStore {
    let files = CsvGallery::open_locked(&folder.join("gallery"), &Instant::now().into()).unwrap();
    let node = Node {
        files,
        unsent: UnsentLines::open(&state_folder(folder)).unwrap().into(),
    };
    PostgresStore::open_node(database.clone(), node, fleet("one")).unwrap()
}

fn state_folder(folder: &Path) -> PathBuf {
    let path = folder.join("state");
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Runs a sequence on both stores, and compares every answer and all contents.
fn compare(operations: &[Operation]) -> Result<(), TestCaseError> {
    let own = OwnDatabase::create();
    let database = Database::open(&DatabaseOptions::parse(own.url()).unwrap()).unwrap();
    schema::migrate(&database, None).unwrap();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut folder: Option<Box<dyn Store>> = Some(Box::new(open_folder(one.path())));
    let mut postgres: Option<Box<dyn Store>> = Some(Box::new(open_database(&database, two.path())));
    let origin = ArchiveOrigin {
        gallery: None,
        number: None,
        began: now(),
    };
    let mut watches = None;
    let mut imported = BTreeSet::new();
    for (step, operation) in operations.iter().enumerate() {
        match operation {
            Operation::Restart => {
                drop(watches.take());
                drop((folder.take(), postgres.take()));
                folder = Some(Box::new(open_folder(one.path())));
                postgres = Some(Box::new(open_database(&database, two.path())));
            }
            Operation::Import => {
                drop(watches.take());
                let (a, b) = (folder.as_ref().unwrap(), postgres.as_ref().unwrap());
                watches = Some((a.watch_import(), b.watch_import()));
                imported.clear();
            }
            Operation::ReplaceAll(people) => {
                imported.extend(people.iter().map(|(id, _)| id.clone()));
            }
            _ => {}
        }
        let (a, b) = (
            folder.as_deref().expect("open"),
            postgres.as_deref().expect("open"),
        );
        prop_assert_eq!(
            apply(a, operation),
            apply(b, operation),
            "step {}: {:?}",
            step,
            operation
        );
        prop_assert_eq!(
            contents(a, &origin, &imported),
            contents(b, &origin, &imported),
            "step {}: {:?}",
            step,
            operation
        );
    }
    drop(watches);
    Ok(())
}

#[test]
fn folder_and_database_answer_alike() {
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    });
    let operations = prop::collection::vec(operation(), 1..16);
    runner
        .run(&operations, |operations| compare(&operations))
        .unwrap();
}
