//! Templates that nodes share, against a real server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/e2e/postgres.rs"]
mod postgres;
mod support;

use std::time::Instant;

use rostro_common::cores::Cores;
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_database::{PostgresStore, schema};
use rostro_gallery::{KeptTemplates, SampleLocation, Store};

use crate::postgres::OwnDatabase;
use crate::support::open;

fn person(id: &str) -> PersonId {
    id.parse().unwrap()
}

fn sample(number: f32) -> Sample {
    Sample {
        embedding: vec![number; 4],
        raw: None,
        contract: None,
        det_score: None,
        enrolment: None,
    }
}

fn key() -> Sha256Digest {
    Sha256Digest::of(b"view")
}

/// Returns a database with `alice` and `bob`, who have templates.
fn filled() -> (OwnDatabase, PostgresStore) {
    let own = OwnDatabase::create();
    let database = open(&own);
    schema::migrate(&database, None).unwrap();
    let store = PostgresStore::open_alone(database, &Instant::now().into()).unwrap();
    for (number, id) in [(1.0, "alice"), (2.0, "bob")] {
        store.replace(&person(id), &[sample(number)]).unwrap();
    }
    drop(store);
    // Opened anew, so that the templates are as of these changes.
    let store = PostgresStore::open_alone(open(&own), &Instant::now().into()).unwrap();
    let mut templates = store.kept_templates(key());
    for (number, id) in [(1.0, "alice"), (2.0, "bob")] {
        let samples = KeptTemplates::digest(&[vec![number; 4]]);
        templates.insert_made(person(id), samples, vec![vec![number; 2]; 2]);
    }
    store.keep_templates(key(), &templates);
    (own, store)
}

/// Returns the people who have templates, which were read without samples.
fn kept(store: &PostgresStore) -> Vec<String> {
    let loaded = store.load_for(key(), 2, &Cores::single()).unwrap();
    let (with, without): (Vec<_>, Vec<_>) = loaded
        .people
        .into_iter()
        .partition(|person| person.templates.is_some());
    assert!(with.iter().all(|person| person.samples.is_empty()));
    assert!(without.iter().all(|person| !person.samples.is_empty()));
    with.iter().map(|person| person.id.to_string()).collect()
}

#[test]
fn kept_templates_are_read_back() {
    let (_own, store) = filled();
    assert_eq!(kept(&store), ["alice", "bob"]);
    let loaded = store.load_for(key(), 2, &Cores::single()).unwrap();
    let templates = loaded
        .people
        .iter()
        .map(|person| person.templates.as_deref());
    let expected = [1.0, 2.0].map(|number| vec![vec![number; 2]; 2]);
    assert!(templates.eq(expected.iter().map(|templates| Some(&**templates))));
    let other = Sha256Digest::of(b"other");
    let loaded = store.load_for(other, 2, &Cores::single()).unwrap();
    assert!(
        loaded
            .people
            .iter()
            .all(|person| person.templates.is_none())
    );
    assert_eq!(loaded.people.len(), 2);
}

/// A person without samples of the contract is not read again.
#[test]
fn people_without_templates_are_kept() {
    let (_own, store) = filled();
    let mut templates = store.kept_templates(key());
    templates.insert_without(person("bob"));
    store.keep_templates(key(), &templates);
    assert_eq!(kept(&store), ["alice", "bob"]);
    let loaded = store.load_for(key(), 2, &Cores::single()).unwrap();
    assert_eq!(loaded.people[1].templates, Some(Vec::new()));
}

/// A person's templates leave the database with the samples that they were made of, even if another
/// program changes these.
#[test]
fn replaced_samples_leave_no_templates() {
    let (own, store) = filled();
    store.replace(&person("alice"), &[sample(3.0)]).unwrap();
    assert_eq!(kept(&store), ["bob"]);
    store
        .put(&person("bob"), &[sample(4.0)], SampleLocation::Own)
        .unwrap();
    assert!(kept(&store).is_empty());
    let (others, store) = filled();
    let change = "UPDATE rostro.sample SET det_score = 1 WHERE person = \
                  (SELECT person FROM rostro.person WHERE id = 'bob')";
    others.execute(change);
    assert_eq!(kept(&store), ["alice"]);
    drop((own, others));
}

#[test]
fn deleted_people_leave_no_templates() {
    let (_own, store) = filled();
    store.delete_person(&person("alice")).unwrap();
    assert_eq!(kept(&store), ["bob"]);
    store.replace_all(&[(&person("bob"), &[sample(2.0)])]);
    assert!(kept(&store).is_empty());
}

/// Templates of samples that were replaced while they were made are not stored.
#[test]
fn outdated_templates_are_not_kept() {
    let (_own, store) = filled();
    let mut templates = store.kept_templates(key());
    store.replace(&person("alice"), &[sample(3.0)]).unwrap();
    store.delete_person(&person("bob")).unwrap();
    for (number, id) in [(1.0, "alice"), (2.0, "bob")] {
        let samples = KeptTemplates::digest(&[vec![number; 4]]);
        templates.insert_made(person(id), samples, vec![vec![number; 2]]);
    }
    store.keep_templates(key(), &templates);
    assert!(kept(&store).is_empty());
}

#[test]
fn unused_templates_expire() {
    let (own, store) = filled();
    own.execute("UPDATE rostro.template_key SET used_at = now() - interval '31 days'");
    let other = Sha256Digest::of(b"other");
    store.keep_templates(other, &store.kept_templates(other));
    assert!(kept(&store).is_empty());
}
