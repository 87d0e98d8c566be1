//! The audit log of all nodes, against a real server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/e2e/postgres.rs"]
mod postgres;
mod support;

use std::time::Instant;

use jiff::Timestamp;
use rostro_common::keyed_hash::HashKey;
use rostro_database::{PostgresStore, read_audit_keys, read_audit_lines, schema};
use rostro_gallery::{AuditKey, Store};

use crate::postgres::OwnDatabase;
use crate::support::open;

fn opened() -> (OwnDatabase, PostgresStore) {
    let own = OwnDatabase::create();
    let database = open(&own);
    schema::migrate(&database, None).unwrap();
    let store = PostgresStore::open_alone(database, &Instant::now().into()).unwrap();
    (own, store)
}

fn append(store: &PostgresStore, lines: &str) {
    let append = store.append_audit(lines.as_bytes()).unwrap();
    append.wait().unwrap();
}

fn lines(own: &OwnDatabase) -> Vec<String> {
    let mut lines = Vec::new();
    read_audit_lines(&open(own), |line| {
        lines.push(String::from_utf8_lossy(line).into_owned());
    })
    .unwrap();
    lines
}

fn line(time: &str, action: &str) -> String {
    format!("{{\"time\":\"{time}\",\"action\":\"{action}\"}}")
}

/// Lines that are sent twice are stored once, in the order of their times, and removed by them.
#[test]
fn lines_are_stored_once() {
    let (own, store) = opened();
    let late = line("2026-12-02T10:00:00.000000002Z", "late");
    let early = line("2026-12-02T10:00:00.000000001Z", "early \\u0000 'x'");
    let old = line("2024-12-02T10:00:00Z", "old");
    append(&store, &format!("{late}\n{early}\n"));
    append(&store, &format!("{early}\n{old}\n{{\"time\":\"torn"));
    // Times of one microsecond have the order of their writing.
    assert_eq!(lines(&own), [old.clone(), late.clone(), early.clone()]);
    let cutoff: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
    let removed = store.remove_audit_before(cutoff).unwrap();
    assert_eq!(removed, old.len() as u64);
    assert_eq!(lines(&own), [late, early]);
}

/// Of two nodes that add a key at once one does, so that both use it.
#[test]
fn key_is_added_once() {
    let (own, store) = opened();
    let key = |second| AuditKey {
        made: Timestamp::new(second, 5).unwrap(),
        key: HashKey::random().unwrap(),
    };
    let [first, other, second] = [key(10), key(11), key(20)];
    store.add_audit_key(&first, None).unwrap();
    store.add_audit_key(&other, None).unwrap();
    store.add_audit_key(&second, Some(first.made)).unwrap();
    let keys = store.audit_keys().unwrap().unwrap();
    assert_eq!(keys, [first.clone(), second.clone()]);
    store.remove_audit_keys(&[first.made]).unwrap();
    assert_eq!(read_audit_keys(&open(&own)).unwrap(), [second]);
}

/// Keys that were removed or replaced by SQL are written back, and stay otherwise.
#[test]
fn removed_key_is_written_back() {
    let (own, store) = opened();
    let key = AuditKey {
        made: Timestamp::new(10, 5).unwrap(),
        key: HashKey::random().unwrap(),
    };
    store.add_audit_key(&key, None).unwrap();
    let known = [key];
    assert_eq!(store.restore_audit_keys(&known).unwrap(), 0);
    let damages = [
        "DELETE FROM rostro.audit_key",
        "UPDATE rostro.audit_key SET key = sha256('')",
    ];
    for damage in damages {
        own.execute(damage);
        assert_eq!(store.restore_audit_keys(&known).unwrap(), 1);
        assert_eq!(store.audit_keys().unwrap().unwrap(), known);
    }
}
