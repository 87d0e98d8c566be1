//! Tests of the outbox, with restarts at any point.

use std::path::PathBuf;

use rostro_sessions::{CorrectedStatus, CorrectionRequest, EventKind};

use crate::message::kind_name;
use crate::outbox::Outbox;
use crate::receivers::EventFilter;

use super::*;

fn open_with(sessions: &Sessions, filter: EventFilter) -> Outbox {
    let store = Arc::clone(&sessions.store);
    Outbox::open(sessions.path(), "desk", store, filter, LIMITS).unwrap()
}

fn open(sessions: &Sessions) -> Outbox {
    open_with(sessions, EventFilter::default())
}

fn cursors(sessions: &Sessions) -> PathBuf {
    sessions.path().join("desk.jsonl")
}

/// Delivers all events of a session that wait, and returns their kinds.
fn drain(outbox: &mut Outbox, session: SessionId) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    while let Some(event) = outbox.next_event(session).unwrap() {
        kinds.push(kind_name(&event.kind));
        outbox.delivered(event.id);
    }
    kinds
}

/// A crash after the request and before the cursor repeats the event.
#[test]
fn crash_repeats_event() {
    let mut sessions = Sessions::new();
    let id = sessions.create("door");
    sessions.see(id, 1, &["a", "b"]);
    for number in 1..=3 {
        let sent = open(&sessions).next_event(id).unwrap().unwrap();
        sessions.restart();
        let mut outbox = open(&sessions);
        let again = outbox.next_event(id).unwrap().unwrap();
        assert_eq!((again.id.number, &again), (number, &sent));
        outbox.delivered(again.id);
    }
    assert_eq!(open(&sessions).next_event(id).unwrap(), None);
}

#[test]
fn deleted_person_is_not_retried() {
    let sessions = Sessions::new();
    let id = sessions.create("door");
    let mut outbox = open(&sessions);
    drain(&mut outbox, id);
    sessions.see(id, 1, &["s6", "b"]);
    let event = outbox.next_event(id).unwrap().unwrap();
    assert_eq!(event.kind.person().unwrap().as_str(), "s6");
    outbox.failed(id, Instant::now(), None);
    sessions.remove("s6");
    assert_eq!(drain(&mut outbox, id), ["arrived", "person_removed"]);
    let text = fs::read_to_string(cursors(&sessions)).unwrap();
    assert!(!text.contains("s6"));
}

#[test]
fn new_receiver_gets_open_sessions() {
    let sessions = Sessions::new();
    let [open_session, ended] = ["door", "hall"].map(|stream| sessions.create(stream));
    sessions.see(open_session, 1, &["a"]);
    sessions.store.end(ended, at(2)).unwrap();
    drop(open(&sessions));
    let later = sessions.create("yard");
    sessions.store.end(later, at(3)).unwrap();
    let request = CorrectionRequest {
        person: "a".parse().unwrap(),
        status: Some(CorrectedStatus::Late),
        by: None,
    };
    let mark = sessions.store.removal_mark();
    sessions
        .store
        .correct(ended, &request, mark, at(4))
        .unwrap();
    let mut outbox = open(&sessions);
    assert_eq!(drain(&mut outbox, open_session), ["started", "arrived"]);
    assert_eq!(drain(&mut outbox, later), ["started", "ended"]);
    // Only what happened since the receiver is known.
    assert_eq!(drain(&mut outbox, ended), ["corrected"]);
}

#[test]
fn deleted_session_leaves_no_cursor() {
    let sessions = Sessions::new();
    let ids = ["door", "hall", "yard"].map(|stream| sessions.create(stream));
    let mut outbox = open(&sessions);
    for id in ids {
        drain(&mut outbox, id);
    }
    sessions.store.delete(ids[0]).unwrap();
    assert_eq!(outbox.sessions().unwrap().len(), 2);
    assert!(outbox.next_event(ids[0]).is_err());
    drop(outbox);
    sessions.store.delete(ids[1]).unwrap();
    open(&sessions);
    let text = fs::read_to_string(cursors(&sessions)).unwrap();
    let is_kept = ids.map(|id| text.contains(&id.to_string()));
    assert_eq!(is_kept, [false, false, true]);
}

#[test]
fn filter_skips_unwanted_events() {
    let sessions = Sessions::new();
    let [door, _] = ["door", "hall"].map(|stream| sessions.create(stream));
    for second in 1..200 {
        sessions.note(door, second);
    }
    sessions.see(door, 200, &["a"]);
    sessions.note(door, 201);
    let mut outbox = open_with(&sessions, filter(&["arrived"], &["door"]));
    let wanted = outbox.sessions().unwrap();
    assert_eq!((wanted.len(), wanted[0].id), (1, door));
    assert_eq!(drain(&mut outbox, door), ["arrived"]);
    assert_eq!(outbox.waiting(&wanted), 0);
}

/// Returns a filter, as of a file.
fn filter(kinds: &[&str], streams: &[&str]) -> EventFilter {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), SECRET).unwrap();
    let file = folder.path().join("receivers.toml");
    let text = format!(
        "[[webhook]]\nname = \"x\"\nurl = \"http://localhost\"\nsecret_file = \"secret\"\n\
         kinds = {kinds:?}\nstreams = {streams:?}\n"
    );
    fs::write(&file, text).unwrap();
    Receivers::read(&file).unwrap().webhooks.remove(0).filter
}

#[test]
fn restored_journal_lowers_cursor() {
    let mut sessions = Sessions::new();
    let id = sessions.create("door");
    let journal = sessions.path().join(format!("sessions/{id}.jsonl"));
    let old = fs::read(&journal).unwrap();
    sessions.see(id, 1, &["a", "b"]);
    drain(&mut open(&sessions), id);
    fs::write(&journal, old).unwrap();
    sessions.restart();
    let mut outbox = open(&sessions);
    assert_eq!(outbox.next_event(id).unwrap(), None);
    sessions.see(id, 2, &["c"]);
    let event = outbox.next_event(id).unwrap().unwrap();
    assert!(matches!(event.kind, EventKind::Arrived { .. }));
}
