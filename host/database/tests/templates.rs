//! Templates that nodes share, against a real server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/e2e/postgres.rs"]
mod postgres;
mod support;

use std::time::Instant;

use rostro_common::digest::Sha256Digest;
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_database::{PostgresStore, schema};
use rostro_gallery::{KeptTemplates, SampleLocation, Store};

use crate::postgres::{OwnDatabase, Postgres};
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
    let own = Postgres::shared().database();
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
    assert!(templates.is_empty());
    for (number, id) in [(1.0, "alice"), (2.0, "bob")] {
        let samples = KeptTemplates::digest(&[vec![number; 4]]);
        templates.insert_made(person(id), samples, vec![vec![number; 2]; 2]);
    }
    store.keep_templates(key(), &templates);
    (own, store)
}

/// Returns the numbers of the people who have templates.
fn kept(store: &PostgresStore) -> Vec<f32> {
    let templates = store.kept_templates(key());
    let mut numbers: Vec<f32> = templates.iter().map(|(_, made)| made[0][0]).collect();
    numbers.sort_by(f32::total_cmp);
    numbers
}

#[test]
fn kept_templates_are_read_back() {
    let (_own, store) = filled();
    let templates = store.kept_templates(key());
    let samples = KeptTemplates::digest(&[vec![2.0; 4]]);
    assert_eq!(templates.get(&samples), Some(&vec![vec![2.0; 2]; 2]));
    assert_eq!(kept(&store), [1.0, 2.0]);
    assert!(store.kept_templates(Sha256Digest::of(b"other")).is_empty());
}

/// A person's templates leave the database with the samples that they were made of.
#[test]
fn replaced_samples_leave_no_templates() {
    let (_own, store) = filled();
    store.replace(&person("alice"), &[sample(3.0)]).unwrap();
    assert_eq!(kept(&store), [2.0]);
    store
        .put(&person("bob"), &[sample(4.0)], SampleLocation::Own)
        .unwrap();
    assert!(kept(&store).is_empty());
}

#[test]
fn deleted_people_leave_no_templates() {
    let (_own, store) = filled();
    store.delete_person(&person("alice")).unwrap();
    assert_eq!(kept(&store), [2.0]);
    store.replace_all(&[(&person("bob"), &[sample(2.0)])]);
    assert!(kept(&store).is_empty());
}

/// Templates of samples that were replaced while they were made are not stored.
#[test]
fn outdated_templates_are_not_kept() {
    let (_own, store) = filled();
    let mut templates = store.kept_templates(key()).successor();
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
    Postgres::shared().execute_in(
        &own,
        "UPDATE rostro.template_key SET used_at = now() - interval '31 days'",
    );
    let other = Sha256Digest::of(b"other");
    store.keep_templates(other, &store.kept_templates(other));
    assert!(kept(&store).is_empty());
}
