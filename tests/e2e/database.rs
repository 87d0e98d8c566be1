//! People in PostgreSQL: what a service without its folders knows, deletes and refuses.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::Method;

use crate::harness::{Options, Server, drawn, rostro};
use crate::postgres::{OwnDatabase, Postgres};

/// Time for a service to reach a database that is back.
const RETURN: Duration = Duration::from_secs(10);

/// Options of a service on a database, with the schema in it.
pub(crate) fn on(database: &OwnDatabase) -> Options {
    Options::drawn().arg("--database", database.url())
}

/// A database with the schema.
pub(crate) fn migrated() -> OwnDatabase {
    let database = Postgres::shared().database();
    let output = rostro()
        .args(["database", "migrate", "--database", database.url()])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    database
}

pub(crate) fn enroll(server: &Server, person: &str) -> Value {
    let photos = [1, 2].map(|number| drawn(&format!("{person}-{number}.png")));
    server.enroll(person, photos).ok()
}

fn delete(server: &Server, person: &str) -> Value {
    server
        .ask_admin(&Method::DELETE, &format!("/v1/people/{person}"), &[], &[])
        .ok()
}

/// A service with empty folders knows the people and groups of the database, and no file of a
/// person is left after the deletion.
#[test]
fn database_outlives_node_folders() {
    let database = migrated();
    let first = on(&database).start();
    let enrolled = enroll(&first, "alice");
    assert!(Path::new(enrolled["filepath"].as_str().unwrap()).is_file());
    enroll(&first, "bob");
    first
        .ask_admin(&Method::PUT, "/v1/groups/maths/people/bob", &[], &[])
        .ok();
    drop(first);
    let gallery = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let second = || {
        on(&database)
            .gallery(gallery.path())
            .state(state.path())
            .start()
    };
    let server = second();
    assert!(
        server
            .names(drawn("group.png"))
            .contains(&"alice".to_owned())
    );
    let group = server
        .ask_admin(&Method::GET, "/v1/groups/maths", &[], &[])
        .ok();
    assert!(group.to_string().contains("bob"), "{group}");
    enroll(&server, "alice");
    assert_eq!(server.people_files(), ["alice.csv"]);
    delete(&server, "alice");
    assert!(server.people_files().is_empty());
    assert!(
        !server
            .names(drawn("group.png"))
            .contains(&"alice".to_owned())
    );
    drop(server);
    let server = second();
    let names = server.names(drawn("group.png"));
    assert!(names.contains(&"bob".to_owned()) && !names.contains(&"alice".to_owned()));
}

/// Nodes that share a database recognise each other's people, and no node names a person after the
/// deletion was answered.
#[test]
fn nodes_share_people() {
    let database = migrated();
    let (first, second) = (on(&database).start(), on(&database).start());
    let knows =
        |server: &Server, person: &str| server.names(drawn("group.png")).contains(&person.into());
    for _ in 0..3 {
        enroll(&first, "alice");
        let begun = Instant::now();
        while !knows(&second, "alice") {
            assert!(begun.elapsed() < Duration::from_secs(5), "{}", second.log());
        }
        delete(&second, "alice");
        assert!(!knows(&first, "alice") && !knows(&second, "alice"));
        assert!(first.people_files().is_empty());
    }
}

/// A node without the database answers until its lease ends, and again when the database is back.
#[test]
fn lapsed_lease_refuses_recognition() {
    let postgres = Postgres::start();
    let database = postgres.database();
    assert!(
        rostro()
            .args(["database", "migrate", "--database", database.url()])
            .status()
            .unwrap()
            .success()
    );
    let server = on(&database).arg("--lease", "2").start();
    enroll(&server, "alice");
    let frame = || server.recognize(drawn("group.png"));
    postgres.stop();
    assert_eq!(frame().status, 200);
    let begun = Instant::now();
    while frame().status == 200 {
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
    frame().error(503, "lease_lost");
    server
        .ask(&Method::GET, "/readyz", &[], &[])
        .error(503, "lease_lost");
    postgres.start_again();
    let begun = Instant::now();
    while frame().status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(2), "{}", server.log());
    }
    assert!(
        server
            .names(drawn("group.png"))
            .contains(&"alice".to_owned())
    );
}

/// A folder with people that the database does not have is not emptied.
#[test]
fn folder_with_people_is_refused() {
    let (database, gallery) = (migrated(), tempfile::tempdir().unwrap());
    enroll(&Options::drawn().gallery(gallery.path()).start(), "alice");
    let error = on(&database).gallery(gallery.path()).refuse();
    assert!(
        error.contains("1 people") && error.contains("--gallery"),
        "{error}"
    );
    assert!(gallery.path().join("alice.csv").is_file());
}

/// A folder of copies is not served as a gallery of its own, because its next start with the
/// database would remove people enrolled there.
#[test]
fn folder_of_copies_is_refused() {
    let (database, gallery) = (migrated(), tempfile::tempdir().unwrap());
    enroll(&on(&database).gallery(gallery.path()).start(), "alice");
    let error = Options::drawn().gallery(gallery.path()).refuse();
    assert!(error.contains("--database"), "{error}");
}

/// A locked table refuses changes in time, and recognition goes on.
#[test]
fn locked_tables_refuse_changes() {
    let database = migrated();
    let server = on(&database).start();
    enroll(&server, "alice");
    std::thread::scope(|threads| {
        let lock = "BEGIN; LOCK TABLE rostro.person; SELECT pg_sleep(9); ROLLBACK";
        let locking = threads.spawn(|| Postgres::shared().execute_in(&database, lock));
        std::thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        let photos = [1, 2].map(|number| drawn(&format!("bob-{number}.png")));
        server
            .enroll("bob", photos)
            .error(503, "database_unavailable");
        assert!(begun.elapsed() < Duration::from_secs(8));
        assert!(
            server
                .names(drawn("group.png"))
                .contains(&"alice".to_owned())
        );
        locking.join().unwrap();
    });
    enroll(&server, "bob");
}

#[test]
fn missing_schema_names_command() {
    let database = Postgres::shared().database();
    let error = on(&database).refuse();
    assert!(error.contains("rostro database migrate"), "{error}");
}

/// Without its database a service recognises people and changes nothing.
#[test]
fn lost_database_refuses_changes() {
    let postgres = Postgres::start();
    let database = postgres.database();
    assert!(
        rostro()
            .args(["database", "migrate", "--database", database.url()])
            .status()
            .unwrap()
            .success()
    );
    let server = on(&database).start();
    enroll(&server, "alice");
    postgres.stop();
    assert!(
        server
            .names(drawn("group.png"))
            .contains(&"alice".to_owned())
    );
    let photos = [1, 2].map(|number| drawn(&format!("bob-{number}.png")));
    server
        .enroll("bob", photos)
        .error(503, "database_unavailable");
    server
        .ask_admin(&Method::DELETE, "/v1/people/alice", &[], &[])
        .error(503, "database_unavailable");
    postgres.start_again();
    let begun = Instant::now();
    let photos = || [1, 2].map(|number| drawn(&format!("bob-{number}.png")));
    while server.enroll("bob", photos()).status != 200 {
        assert!(begun.elapsed() < RETURN, "{}", server.log());
    }
    assert_eq!(server.people_files().len(), 2);
}
