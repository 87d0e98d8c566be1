//! Revisions of nodes that share a database: each node stages them, and serves by one record.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::database::{check, enroll, migrated, on};
use crate::hammer::{Activation, Hammer};
use crate::harness::{Options, Server, component, drawn, eventually};
use crate::operator::bytes;
use crate::postgres::OwnDatabase;
use crate::revisions::{model, pack};

/// Options of a node with a name.
fn node(database: &OwnDatabase, name: &str) -> Options {
    on(database).arg("--node", name)
}

/// Returns the nodes of a revision that are in a state.
fn nodes_in(server: &Server, id: &str, state: &str) -> Vec<String> {
    let revision = server.admin_get(&format!("/v1/revisions/{id}"));
    let nodes = revision["nodes"].as_array().cloned().unwrap_or_default();
    let is_in = |node: &&Value| node["state"] == state;
    let names = nodes.iter().filter(is_in).map(|node| &node["node"]);
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

fn names(server: &Server) -> Vec<String> {
    server.names(drawn("alice-probe.png"))
}

/// Pushes the variant, which recognises no person, and waits until both nodes have staged it.
fn staged_variant(one: &Server) -> String {
    let id = one.staged(&bytes(component("variant")), "");
    eventually("both nodes stage it", || {
        nodes_in(one, &id, "staged").len() == 2
    });
    id
}

/// A component that is pushed to one node serves on all of them, from the answer of the activation
/// on. Any node rolls back.
#[test]
fn activation_reaches_every_node() {
    let database = migrated();
    let one = node(&database, "one").start();
    enroll(&one, "alice");
    let two = node(&database, "two").start();
    let first = one.active();
    let second = staged_variant(&one);
    assert_eq!(names(&two), ["alice"]);
    one.activate(&second);
    assert_eq!(
        (names(&one), names(&two)),
        (vec!["Unknown".into()], vec!["Unknown".into()])
    );
    assert_eq!(two.active(), second);
    two.admin_post("/v1/rollback").ok();
    assert_eq!(
        (names(&one), names(&two)),
        (vec!["alice".into()], vec!["alice".into()])
    );
    assert_eq!(one.active(), first);
    let list = two.pipeline(&["list"]).output().unwrap();
    assert!(list.status.success());
}

/// A component with other bytes than its digest's is refused by name, and repaired by a push.
#[test]
fn damaged_component_is_pushed_again() {
    let database = migrated();
    let one = node(&database, "one").start();
    let active = one.active();
    database.execute("UPDATE rostro.component SET bytes = 'x'");
    let error = node(&database, "two").refuse();
    assert!(error.contains("do not have its digest"), "{error}");
    let check_fails = |reason: &str| {
        let (success, text) = check(&database, &[]);
        let line = format!("revision {active}: component");
        assert!(!success && text.contains(&line), "{text}");
        assert!(
            text.contains(reason) && text.contains("pipeline push"),
            "{text}"
        );
    };
    check_fails("do not have its digest");
    database.execute("DELETE FROM rostro.component");
    check_fails("it is missing");
    assert_eq!(one.staged(&bytes(component("insightface")), ""), active);
    let (success, text) = check(&database, &[]);
    assert!(success, "{text}");
    assert_eq!(node(&database, "two").start().active(), active);
}

/// A node that joins serves what the others serve, and not its configured pipeline. A node that
/// starts again does so, too.
#[test]
fn joining_node_serves_shared_revision() {
    let database = migrated();
    let one = node(&database, "one").start();
    enroll(&one, "alice");
    let first = one.active();
    let id = one.staged(&bytes(component("variant")), "");
    one.activate(&id);
    let two = node(&database, "two").start();
    assert_eq!(names(&two), ["Unknown"]);
    assert!(
        two.log().contains("`rostro pipeline activate"),
        "{}",
        two.log()
    );
    drop(one);
    let one = node(&database, "one").start();
    assert_eq!(names(&one), ["Unknown"]);
    eventually("both nodes stage the previous revision", || {
        nodes_in(&one, &first, "staged").len() == 2
    });
    // A node knows of itself first, and tells the others at its next renewal.
    eventually("the other node rolls back", || {
        let answer = two.admin_post("/v1/rollback");
        if answer.status != 200 {
            answer.error(409, "not_ready");
            return false;
        }
        true
    });
    assert_eq!(
        (names(&one), names(&two)),
        (vec!["alice".into()], vec!["alice".into()])
    );
}

/// A node with files that no revision of the database has warns of it.
#[test]
fn new_files_name_push() {
    const WARNING: &str = "`rostro pipeline push`";
    let database = migrated();
    let one = node(&database, "one").start();
    let other = || node(&database, "two").pipeline(component("variant"));
    let two = other().start();
    assert_eq!(two.active(), one.active());
    assert!(two.log().contains(WARNING), "{}", two.log());
    drop(one);
    let one = node(&database, "one").start();
    assert!(!one.log().contains("does not serve"), "{}", one.log());
}

/// A node with other models of the pack names the command that repairs it.
#[test]
fn other_models_name_install() {
    let database = migrated();
    let with = |name: &str, recognizer: &str| {
        let models = tempfile::tempdir().unwrap();
        let files = [
            ("detector", model("detector")),
            ("recognizer", model(recognizer)),
        ];
        pack(models.path(), "own", &files);
        let options = node(&database, name).pack("own");
        (options.arg("--models", models.path()), models)
    };
    let (one, _models) = with("one", "recognizer");
    let _one = one.start();
    let (two, _models) = with("two", "detector");
    let error = two.refuse();
    assert!(
        error.contains("rostro models install --force") && !error.contains("cannot stage"),
        "{error}"
    );
}

/// No request that begins after an answered activation is served by an earlier revision, at the
/// node that was not asked.
#[test]
fn swaps_on_one_node_hold_on_another() {
    let database = migrated();
    let one = node(&database, "one").start();
    enroll(&one, "alice");
    let two = node(&database, "two").start();
    let ids = [one.active(), staged_variant(&one)];
    let hammer = Hammer::begin(&two.url, &drawn("alice-probe.png"), 4);
    hammer.wait_for(20);
    let mut activations: Vec<Activation> = Vec::new();
    for swap in 1..=20 {
        let next = &ids[swap % 2];
        let asked = Instant::now();
        one.activate(next);
        activations.push(Activation {
            asked,
            answered: Instant::now(),
            revision: next.clone(),
        });
        hammer.wait_for(8);
    }
    let shots = hammer.end();
    let expected = HashMap::from([(&ids[0], "alice"), (&ids[1], "Unknown")]);
    let mut clear = 0;
    for shot in &shots {
        assert_eq!(shot.status, Some(200), "{shot:?}");
        assert_eq!(expected[&shot.revision], shot.identity, "{shot:?}");
        if let Some(allowed) = shot.may_be_served_by(&activations) {
            assert!(allowed.contains(&shot.revision.as_str()), "{shot:?}");
            clear += usize::from(allowed.len() == 1);
        }
    }
    assert!(clear > shots.len() / 10, "{clear} of {}", shots.len());
}

/// A revision that a node cannot stage is activated only if the operator says so. That node then
/// answers nothing.
#[test]
fn partial_activation_silences_other_nodes() {
    let database = migrated();
    let models = tempfile::tempdir().unwrap();
    let files = ["detector", "recognizer"].map(|role| (role, model(role)));
    pack(models.path(), "own", &files);
    let one = node(&database, "one")
        .arg("--models", models.path().to_str().unwrap())
        .start();
    enroll(&one, "alice");
    let two = node(&database, "two").start();
    let id = one.staged(&bytes(component("variant")), "pack=own");
    eventually("the other node fails", || {
        nodes_in(&one, &id, "failed") == ["two"]
    });
    let activate = format!("/v1/revisions/{id}/activate");
    let refused = one.admin_post(&activate).error(409, "not_ready");
    assert!(refused.to_string().contains("two"), "{refused}");
    one.admin_post(&format!("{activate}?partial=true")).ok();
    assert_eq!(names(&one), ["Unknown"]);
    two.recognize(drawn("alice-probe.png"))
        .error(503, "lease_lost");
    one.admin_post("/v1/rollback").ok();
    assert_eq!(
        (names(&one), names(&two)),
        (vec!["alice".into()], vec!["alice".into()])
    );
}

/// A revision whose staging the database interrupts is staged when it answers again.
#[test]
fn interrupted_staging_is_repeated() {
    let database = migrated();
    let one = node(&database, "one").start();
    enroll(&one, "alice");
    let _two = node(&database, "two").start();
    let id = std::thread::scope(|threads| {
        // Longer than staging on two cores and the timeout of a lock, 5 s.
        let lock = "BEGIN; LOCK TABLE rostro.sample; SELECT pg_sleep(25); ROLLBACK";
        let locking = threads.spawn(|| database.execute(lock));
        std::thread::sleep(Duration::from_millis(500));
        let pushed = one.push(&bytes(component("variant")), "").json;
        let id = pushed["revision"]["id"].as_str().unwrap().to_owned();
        eventually("both nodes fail", || {
            nodes_in(&one, &id, "failed").len() == 2
        });
        locking.join().unwrap();
        id
    });
    eventually("both nodes stage it", || {
        nodes_in(&one, &id, "staged").len() == 2
    });
    one.activate(&id);
}
