//! Sessions that nodes share, against a real server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../../tests/e2e/postgres.rs"]
mod postgres;
mod support;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rostro_database::FleetOptions;
use rostro_gallery::Store;
use rostro_sessions::shared::SharedSessions;
use rostro_sessions::{
    CorrectedStatus, CorrectionRequest, NamedPerson, NewSession, ObservedFrame, PolicyEvent,
    PresenceRule, SessionEvent, SessionId, SessionLimits, SessionStore, SessionStoreError,
};

use crate::postgres::OwnDatabase;
use crate::support::fleet;
use crate::support::node::{TestNode, eventually, migrated, person};

const LIMITS: SessionLimits = SessionLimits {
    open_per_owner: 3,
    kept_per_owner: 5,
    events: 30,
    keep_days: 1,
};

/// A node with its sessions.
struct SessionNode {
    node: TestNode,
    shared: Arc<dyn SharedSessions>,
    store: SessionStore,
}

impl SessionNode {
    fn join(own: &OwnDatabase, name: &str) -> Self {
        let options = FleetOptions {
            address: Some(format!("http://{name}.example:4000")),
            ..fleet(name)
        };
        let node = TestNode::try_join(own, options).unwrap();
        let shared = node.store.sessions();
        let store = SessionStore::of_node(Arc::clone(&shared), LIMITS);
        Self {
            node,
            shared,
            store,
        }
    }

    fn create(&self, owner: &str) -> SessionId {
        self.store.create(new(owner), at(0)).unwrap().id
    }

    fn observe(
        &self,
        id: SessionId,
        frame: ObservedFrame,
    ) -> Result<Vec<SessionEvent>, SessionStoreError> {
        let (mark, now) = (self.store.removal_mark(), frame.at);
        self.store.observe(id, frame, mark, now)
    }

    /// Deletes a person as a service does, in its own sessions, too.
    fn delete(&self, id: &str) {
        self.node.delete(id, Duration::from_secs(5)).unwrap();
        self.store.remove_person(&person(id), at(900)).unwrap();
    }
}

fn two_nodes(own: &OwnDatabase) -> (SessionNode, SessionNode) {
    (SessionNode::join(own, "one"), SessionNode::join(own, "two"))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn new(owner: &str) -> NewSession {
    NewSession {
        stream: "door".parse().unwrap(),
        group: None,
        rule: PresenceRule::default(),
        owner: Some(owner.to_owned()),
        revision: "r1".to_owned(),
    }
}

fn frame(second: i64, people: &[&str]) -> ObservedFrame {
    let named = |id: &&str| NamedPerson {
        id: person(id),
        similarity: 0.61,
    };
    ObservedFrame {
        seq: None,
        at: at(second),
        people: people.iter().map(named).collect(),
        policy_events: Vec::new(),
    }
}

/// Returns a frame without faces and with an event of the policy.
fn noted(second: i64, message: &str) -> ObservedFrame {
    ObservedFrame {
        policy_events: vec![PolicyEvent {
            code: "note".to_owned(),
            person: None,
            value: Some(0.5),
            message: message.to_owned(),
        }],
        ..frame(second, &[])
    }
}

fn kinds(events: &[SessionEvent]) -> Vec<&'static str> {
    events.iter().map(|event| event.kind.name()).collect()
}

/// Ends the lease of a node, as other nodes do when it stops renewing.
fn expel(own: &OwnDatabase, name: &str) {
    own.execute(&format!(
        "UPDATE rostro.lease SET is_expelled = true WHERE node = '{name}'"
    ));
}

/// Returns every row of sessions as text.
fn rows(own: &OwnDatabase) -> String {
    ["session", "session_person", "session_event"]
        .map(|table| own.query(&format!("SELECT * FROM rostro.{table}")))
        .concat()
}

#[test]
fn other_node_names_the_owner() {
    let own = migrated();
    let (one, two) = two_nodes(&own);
    let id = one.create("school");
    let error = two.store.summary(id).unwrap_err();
    let SessionStoreError::Elsewhere { node, address, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(node, "one");
    assert_eq!(address.as_deref(), Some("http://one.example:4000"));
    assert_eq!(two.store.list().unwrap(), one.store.list().unwrap());
    let unknown = two.store.summary(SessionId::random().unwrap()).unwrap_err();
    assert_eq!(unknown.code(), "unknown_session");
}

/// The session goes on where its events ended, and the former node writes nothing more.
#[test]
fn expelled_node_loses_its_sessions() {
    let own = migrated();
    let (one, two) = two_nodes(&own);
    one.node.enrol("alice");
    one.node.enrol("bob");
    let id = one.create("school");
    for second in [1, 2] {
        one.observe(id, frame(second, &["alice"])).unwrap();
    }
    let before = (
        one.store.get(id, &[]).unwrap(),
        one.store.events_after(id, 0, 10).unwrap(),
    );
    assert_eq!(kinds(&before.1), ["started", "arrived"]);
    // A request that runs on the node, and one that begins after it joined again.
    expel(&own, "one");
    let after = (
        two.store.get(id, &[]).unwrap(),
        two.store.events_after(id, 0, 10).unwrap(),
    );
    assert_eq!(before, after);
    let late = one.observe(id, frame(3, &["bob"]));
    let code = late.as_ref().map_err(SessionStoreError::code);
    assert!(
        matches!(code, Ok(events) if events.is_empty())
            || matches!(
                code,
                Err("session_moved" | "lease_lost" | "session_elsewhere")
            ),
        "{late:?}"
    );
    eventually("the first node joins again", || {
        one.store
            .summary(id)
            .is_err_and(|error| error.code() == "session_elsewhere")
    });
    let events = [3, 4].map(|second| two.observe(id, frame(second, &["bob"])).unwrap());
    assert_eq!(kinds(&events.concat()), ["arrived"]);
    assert_eq!(events[1][0].id.number, 3);
    assert_eq!(two.store.events_after(id, 0, 10).unwrap().len(), 3);
}

/// A write of the former node changes nothing, although its session is in memory.
#[test]
fn write_of_former_owner_is_refused() {
    let own = migrated();
    let (one, two) = two_nodes(&own);
    one.node.enrol("alice");
    let id = one.create("school");
    one.observe(id, frame(1, &["alice"])).unwrap();
    // The row alone, so that the node does not notice.
    own.execute(
        "UPDATE rostro.session SET lease = (SELECT lease FROM rostro.lease WHERE node = 'two')",
    );
    let error = one.observe(id, frame(2, &["alice"])).unwrap_err();
    assert_eq!(error.code(), "session_moved");
    let error = one.observe(id, frame(3, &["alice"])).unwrap_err();
    assert_eq!(error.code(), "session_elsewhere");
    assert_eq!(two.store.summary(id).unwrap().last_event, 1);
}

/// The sessions of a node that ended, too, and texts of the policy.
#[test]
fn deletion_reaches_every_session() {
    let own = migrated();
    let (one, two) = two_nodes(&own);
    for id in ["s6", "s60"] {
        one.node.enrol(id);
    }
    let ids = [one.create("school"), two.create("school")];
    for (node, id) in [&one, &two].into_iter().zip(ids) {
        for second in [1, 2] {
            node.observe(id, frame(second, &["s6", "s60"])).unwrap();
        }
        for message in ["s6 waved", "s60 waved"] {
            node.observe(id, noted(5, message)).unwrap();
        }
    }
    let desk = CorrectionRequest {
        person: person("s6"),
        status: Some(CorrectedStatus::Late),
        by: Some("desk".to_owned()),
    };
    let mark = two.store.removal_mark();
    two.store.correct(ids[1], &desk, mark, at(6)).unwrap();
    one.node.store.leave();
    two.delete("s6");
    let text = rows(&own);
    assert!(!text.contains("s6 ") && !text.contains("\"s6\""), "{text}");
    assert!(text.contains("s60"), "{text}");
    for id in ids {
        let events = two.store.events_after(id, 0, 20).unwrap();
        let policy = events.iter().filter(|event| event.kind.name() == "policy");
        assert_eq!(policy.count(), 1);
        let view = two.store.get(id, &[]).unwrap();
        let people: Vec<&str> = view.people().map(|person| person.id.as_str()).collect();
        assert_eq!(people, ["s60"]);
    }
    let removed = two.store.events_after(ids[1], 0, 20).unwrap();
    assert_eq!(removed.last().unwrap().kind.name(), "person_removed");
}

/// A frame that names a person that another node deleted leaves nothing of them.
#[test]
fn late_frame_stores_no_deleted_person() {
    let own = migrated();
    let (one, two) = two_nodes(&own);
    one.node.enrol("alice");
    one.node.enrol("bob");
    let id = one.create("school");
    one.observe(id, frame(1, &["alice", "bob"])).unwrap();
    one.node.is_paused.store(true, Ordering::SeqCst);
    two.node.store.delete_person(&person("alice")).unwrap();
    let events = one.observe(id, frame(2, &["alice", "bob"])).unwrap();
    assert_eq!(events.len(), 2);
    let refused = one.observe(id, noted(3, "alice waved")).unwrap_err();
    assert_eq!(refused.code(), "deletion_running");
    assert!(!rows(&own).contains("alice"));
    one.node.is_paused.store(false, Ordering::SeqCst);
    eventually("the deletion is applied", || {
        one.observe(id, noted(3, "hello")).is_ok()
    });
    one.store.remove_person(&person("alice"), at(4)).unwrap();
    let stored = one.store.events_after(id, 0, 10).unwrap();
    assert_eq!(
        kinds(&stored),
        ["started", "arrived", "policy", "person_removed"]
    );
}

#[test]
fn limits_count_sessions_of_all_nodes() {
    let own = migrated();
    let (one, two) = two_nodes(&own);
    let first = one.create("school");
    for node in [&one, &two] {
        node.create("school");
    }
    let refused = two.store.create(new("school"), at(0)).unwrap_err();
    assert_eq!(refused.code(), "too_many_sessions");
    two.create("office");
    one.store.end(first, at(1)).unwrap();
    two.create("school");
    assert_eq!(two.store.list().unwrap().len(), 5);
}

/// Old sessions of ended nodes go with those of this one.
#[test]
fn old_sessions_are_deleted() {
    let own = migrated();
    let (one, two) = two_nodes(&own);
    let (old, own_old) = (one.create("school"), two.create("school"));
    let day = 86_400;
    assert!(two.store.sweep(at(day - 1)).unwrap().is_empty());
    one.node.store.leave();
    let swept = two.store.sweep(at(day + 1)).unwrap();
    assert_eq!(
        swept.into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from([old, own_old])
    );
    assert!(two.store.list().unwrap().is_empty());
}

/// A row that cannot be read hides no other session.
#[test]
fn damaged_session_is_left_out() {
    let own = migrated();
    let one = SessionNode::join(&own, "one");
    let (damaged, whole) = (one.create("school"), one.create("school"));
    own.execute(&format!(
        "UPDATE rostro.session SET state = '{{' WHERE id = '{damaged}'"
    ));
    let listed = one.store.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, whole);
    let again = SessionStore::of_node(Arc::clone(&one.shared), LIMITS);
    let error = again.summary(damaged).unwrap_err();
    assert_eq!(error.code(), "sessions_failed");
    assert!(error.to_string().contains("a row of a session"), "{error}");
}

/// Frames with people and events of the policy, and deletions of these people, do not wait for each
/// other in a circle.
#[test]
fn deletions_do_not_block_events() {
    let own = migrated();
    let one = SessionNode::join(&own, "one");
    let id = one.create("school");
    std::thread::scope(|scope| {
        let feed = scope.spawn(|| {
            let mut stored = 0;
            for second in 1..=60 {
                let mut frame = noted(second, "hello");
                frame.people = self::frame(second, &["alice", "bob"]).people;
                match one.observe(id, frame) {
                    Ok(_) => stored += 1,
                    Err(error) => assert_eq!(error.code(), "deletion_running", "{error}"),
                }
            }
            stored
        });
        for _ in 0..20 {
            for who in ["alice", "bob"] {
                one.node.enrol(who);
                let begun = std::time::Instant::now();
                one.delete(who);
                assert!(begun.elapsed() < Duration::from_millis(900), "{who}");
            }
        }
        assert!(feed.join().unwrap() > 0);
    });
    assert!(!rows(&own).contains("alice"));
}

/// The node that had it lives on, and does not have it in memory any more.
#[test]
fn ended_session_of_live_node_is_deleted() {
    let own = migrated();
    let (one, two) = two_nodes(&own);
    let id = one.create("school");
    one.store.end(id, at(1)).unwrap();
    one.store.checkpoint().unwrap();
    let day = 86_400;
    assert!(two.store.sweep(at(day)).unwrap().is_empty());
    assert_eq!(two.store.sweep(at(day + 2)).unwrap(), [id]);
    let error = one.store.summary(id).unwrap_err();
    assert_eq!(error.code(), "unknown_session");
}

/// Until the former lease ends, a redirect would lead to the node itself.
#[test]
fn restarted_node_does_not_redirect_to_itself() {
    let own = migrated();
    let one = SessionNode::join(&own, "one");
    let id = one.create("school");
    let SessionNode { node, .. } = one;
    node.kill();
    let again = SessionNode::join(&own, "one");
    let error = again.store.summary(id).unwrap_err();
    assert_eq!(error.code(), "session_moved");
    eventually("the former lease ends", || again.store.summary(id).is_ok());
}

/// One node delivers until its lease ends, and the next one knows what was delivered.
#[test]
fn one_node_delivers() {
    let own = migrated();
    let (one, two) = two_nodes(&own);
    let id = one.create("school");
    assert!(one.shared.delivers().unwrap());
    assert!(!two.shared.delivers().unwrap());
    assert_eq!(one.shared.cursors("desk").unwrap(), None);
    let cursors = HashMap::from([(id, 7), (SessionId::random().unwrap(), 1)]);
    one.shared.set_cursors("desk", &cursors).unwrap();
    let topics = BTreeSet::from(["rostro/door".to_owned()]);
    one.shared.set_topics("desk", &topics).unwrap();
    expel(&own, "one");
    assert!(two.shared.delivers().unwrap());
    assert!(!one.shared.delivers().unwrap());
    let known = two.shared.cursors("desk").unwrap();
    assert_eq!(known, Some(HashMap::from([(id, 7)])));
    assert_eq!(two.shared.topics("desk").unwrap(), topics);
    two.store.list().unwrap();
    own.execute("DELETE FROM rostro.session");
    assert_eq!(two.shared.cursors("desk").unwrap(), Some(HashMap::new()));
}

/// An operation of a session.
#[derive(Clone, Debug)]
enum Step {
    Frame(Vec<&'static str>),
    Note(&'static str),
    Correct(&'static str, Option<CorrectedStatus>),
    Bind,
    End,
    Remove(&'static str),
    Checkpoint,
    /// The node reads the session anew.
    TakeOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || prop::sample::select(vec!["a", "b", "c"]);
    let status = prop::option::of(prop::sample::select(vec![
        CorrectedStatus::Present,
        CorrectedStatus::Absent,
        CorrectedStatus::Late,
    ]));
    let step = prop_oneof![
        8 => prop::collection::vec(who(), 0..4).prop_map(Step::Frame),
        2 => prop::sample::select(vec!["ab", "hello"]).prop_map(Step::Note),
        2 => (who(), status).prop_map(|(who, status)| Step::Correct(who, status)),
        1 => Just(Step::Bind),
        1 => Just(Step::End),
        1 => who().prop_map(Step::Remove),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::TakeOver),
    ];
    prop::collection::vec(step, 1..25)
}

/// Does a step, and returns what the caller sees.
fn run(store: &SessionStore, id: SessionId, second: i64, step: &Step) -> String {
    let (mark, now) = (store.removal_mark(), at(second));
    let events = match step {
        Step::Frame(people) => store.observe(id, frame(second, people), mark, now),
        Step::Note(message) => store.observe(id, noted(second, message), mark, now),
        Step::Correct(who, status) => {
            let request = CorrectionRequest {
                person: person(who),
                status: *status,
                by: None,
            };
            store.correct(id, &request, mark, now)
        }
        Step::Bind => store
            .bind(id, format!("r{second}"), now)
            .map(|()| Vec::new()),
        Step::End => store.end(id, now),
        Step::Remove(_) | Step::Checkpoint | Step::TakeOver => Ok(Vec::new()),
    };
    match events {
        Ok(events) => format!("{:?}", kinds(&events)),
        Err(error) => error.code().to_owned(),
    }
}

/// Any sequence of operations gives the same answers from rows as from files, whenever another node
/// takes over after a checkpoint.
#[test]
fn rows_answer_as_files() {
    let own = migrated();
    let one = SessionNode::join(&own, "one");
    let folder = tempfile::tempdir().unwrap();
    let limits = SessionLimits {
        open_per_owner: 1000,
        kept_per_owner: 1000,
        ..LIMITS
    };
    let (files, _) = SessionStore::open(folder.path(), limits).unwrap();
    let mut runner = TestRunner::new(Config::with_cases(32));
    let checked = runner.run(&steps(), |steps| {
        let mut rows = SessionStore::of_node(Arc::clone(&one.shared), limits);
        for id in ["a", "b", "c"] {
            one.node.enrol(id);
        }
        let ids = [&files, &rows].map(|store| store.create(new("school"), at(0)).unwrap().id);
        for (second, step) in (1..).zip(&steps) {
            match step {
                Step::Remove(who) => {
                    one.node.delete(who, Duration::from_secs(5)).unwrap();
                    for store in [&files, &rows] {
                        store.remove_person(&person(who), at(second)).unwrap();
                    }
                    one.node.enrol(who);
                }
                Step::Checkpoint => rows.checkpoint().unwrap(),
                Step::TakeOver => {
                    rows.checkpoint().unwrap();
                    rows = SessionStore::of_node(Arc::clone(&one.shared), limits);
                }
                _ => {}
            }
            let answers = [&files, &rows]
                .into_iter()
                .zip(ids)
                .map(|(store, id)| run(store, id, second, step));
            let answers: Vec<String> = answers.collect();
            prop_assert_eq!(&answers[0], &answers[1], "{:?}", step);
            let [mut one, mut two] =
                [(&files, ids[0]), (&rows, ids[1])].map(|(store, id)| store.get(id, &[]).unwrap());
            for view in [&mut one, &mut two] {
                view.summary.id = ids[0];
            }
            prop_assert_eq!(one, two, "{:?}", step);
        }
        for (store, id) in [&files, &rows].into_iter().zip(ids) {
            store.delete(id).unwrap();
        }
        Ok(())
    });
    checked.unwrap();
}
