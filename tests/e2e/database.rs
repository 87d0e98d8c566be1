//! People in PostgreSQL: what a service without its folders knows, deletes and refuses.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::Method;

use crate::harness::{
    Options, Server, component, drawn, eventually, holds_within, output_of, rostro,
};
use crate::operator::bytes;
use crate::postgres::{BACK_UP, OwnDatabase, Postgres, RESTORE};

/// Time for a service to reach a database that is back.
const RETURN: Duration = Duration::from_secs(10);

/// Longest time until a node finds an enrolment without its notification.
const UNNOTIFIED: Duration = Duration::from_millis(1500);

/// Length of a lease by default.
const LEASE: Duration = Duration::from_secs(5);

/// Options of a service on a database, with the schema in it.
pub(crate) fn on(database: &OwnDatabase) -> Options {
    Options::drawn().arg("--database", database.url())
}

/// A database with the schema.
pub(crate) fn migrated() -> OwnDatabase {
    let database = OwnDatabase::create();
    migrate(&database);
    database
}

pub(crate) fn migrate(database: &OwnDatabase) {
    let output = rostro()
        .args(["database", "migrate", "--database", database.url()])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn knows(server: &Server, person: &str) -> bool {
    server
        .names(drawn("group.png"))
        .contains(&person.to_owned())
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

/// Returns the lines of a person in the audit log of all nodes.
fn audit(database: &OwnDatabase, person: &str) -> Vec<Value> {
    let mut command = rostro();
    command
        .args(["audit", "--json", "--person", person])
        .args(["--database", database.url()]);
    serde_json::from_str(&output_of(&mut command)).unwrap()
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
    assert!(knows(&server, "alice"));
    // Made by this start, and for the next.
    assert!(server.log().contains("people=2 kept_templates=0"));
    let group = server
        .ask_admin(&Method::GET, "/v1/groups/maths", &[], &[])
        .ok();
    assert!(group.to_string().contains("bob"), "{group}");
    enroll(&server, "alice");
    assert_eq!(server.people_files(), ["alice.csv"]);
    delete(&server, "alice");
    assert!(server.people_files().is_empty());
    assert!(!knows(&server, "alice"));
    drop(server);
    let server = second();
    assert!(server.log().contains("people=1 kept_templates=1"));
    assert!(!state.path().join("templates").exists());
    let names = server.names(drawn("group.png"));
    assert!(names.contains(&"bob".to_owned()) && !names.contains(&"alice".to_owned()));
}

/// Nodes that share a database recognise each other's people, and no node names a person after the
/// deletion was answered.
#[test]
fn nodes_share_people() {
    let database = migrated();
    let node = |name: &str| on(&database).arg("--node", name).start();
    let (first, second) = (node("first"), node("second"));
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
    let lines = audit(&database, "alice");
    assert_eq!(lines.len(), 6, "{lines:?}");
    let nodes: Vec<&Value> = lines.iter().map(|line| &line["node"]).collect();
    assert_eq!(nodes, ["first", "second"].repeat(3));
}

/// A node finds a change without its notification within a second.
#[test]
fn lost_notification_is_made_up() {
    let database = migrated();
    let server = on(&database).start();
    enroll(&server, "alice");
    assert!(knows(&server, "alice"));
    database.execute(
        "WITH gone AS (DELETE FROM rostro.person WHERE id = 'alice' RETURNING person), \
         numbered AS (UPDATE rostro.gallery SET counter = counter + 1 RETURNING counter) \
         INSERT INTO rostro.change (number, person, is_awaited) \
         SELECT counter, person, true FROM gone, numbered",
    );
    let begun = Instant::now();
    while knows(&server, "alice") {
        assert!(begun.elapsed() < Duration::from_secs(3), "{}", server.log());
    }
    println!("forgotten after {:?}", begun.elapsed());
    assert!(server.people_files().is_empty());
}

/// A person whose change a node cannot load does not delay the changes of others.
#[test]
fn unloadable_person_delays_no_deletion() {
    let database = migrated();
    let node = |name: &str| on(&database).arg("--node", name).start();
    let (first, second) = (node("first"), node("second"));
    enroll(&first, "alice");
    enroll(&first, "bob");
    eventually("both are known", || knows(&second, "bob"));
    // The server cannot read a sample of theirs, as after damage of its disk.
    database.execute(
        "ALTER TABLE rostro.sample RENAME TO intact; \
         CREATE VIEW rostro.sample AS SELECT person, position, contract, enrolment, \
         CASE person WHEN 2 THEN 1 / (person - 2) ELSE det_score END::real AS det_score, \
         embedding, raw FROM rostro.intact; \
         WITH numbered AS (UPDATE rostro.gallery SET counter = counter + 1 RETURNING counter) \
         INSERT INTO rostro.change (number, person) SELECT counter, 2 FROM numbered",
    );
    let begun = Instant::now();
    delete(&first, "alice");
    assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());
    for server in [&first, &second] {
        assert!(!knows(server, "alice"));
        server.wait_for_log("cannot load person 2, which another node stored");
        assert!(!server.log().contains("bob"), "{}", server.log());
    }
    // What changed meanwhile is loaded once it can be read.
    database.execute(
        "DROP VIEW rostro.sample; ALTER TABLE rostro.intact RENAME TO sample; \
         DELETE FROM rostro.sample WHERE person = 2",
    );
    let is_forgotten = || !knows(&first, "bob") && !knows(&second, "bob");
    assert!(holds_within(RETURN, is_forgotten), "{}", second.log());
}

/// A node recognises a person whom it was not notified of.
#[test]
fn unnotified_enrolment_is_found() {
    let database = migrated();
    let server = on(&database).start();
    enroll(&server, "alice");
    database.execute("CREATE TABLE kept AS TABLE rostro.sample");
    delete(&server, "alice");
    assert!(!knows(&server, "carol"));
    database.execute(
        "WITH numbered AS (UPDATE rostro.gallery SET counter = counter + 1 RETURNING counter), \
         enrolled AS (INSERT INTO rostro.person (id, case_key, number) \
            SELECT 'carol', 'carol', counter FROM numbered RETURNING person), \
         stored AS (INSERT INTO rostro.sample \
                (person, position, contract, enrolment, det_score, embedding, raw) \
            SELECT enrolled.person, position, contract, enrolment, det_score, embedding, raw \
            FROM kept, enrolled) \
         INSERT INTO rostro.change (number, person) \
         SELECT counter, person FROM numbered, enrolled",
    );
    let begun = Instant::now();
    while !knows(&server, "carol") {
        assert!(begun.elapsed() < UNNOTIFIED, "{}", server.log());
    }
    println!("recognised after {:?}", begun.elapsed());
}

/// A role that may only read serves nothing, and a check says so before.
#[test]
fn reading_role_is_refused() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    migrate(&database);
    database.execute(
        "CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA rostro TO reader; \
         GRANT SELECT ON ALL TABLES IN SCHEMA rostro TO reader",
    );
    let url = postgres.url(database.name(), "reader");
    let error = Options::drawn().arg("--database", &url).refuse();
    assert!(error.contains("--grant-to reader"), "{error}");
    let output = rostro()
        .args(["serve", "--check", "--pack", "testing", "--database", &url])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("--grant-to reader"),
        "{error}"
    );
}

#[test]
fn watched_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = on(&migrated()).arg("--pipelines", folder.path()).refuse();
    assert!(error.contains("rostro pipeline push"), "{error}");
}

/// A node without the database answers until its lease ends, and again when the database is back.
#[test]
fn lapsed_lease_refuses_recognition() {
    let postgres = Postgres::start();
    let database = postgres.database();
    migrate(&database);
    let server = on(&database).start();
    enroll(&server, "alice");
    let frame = || server.recognize(drawn("group.png"));
    postgres.stop();
    assert_eq!(frame().status, 200);
    let begun = Instant::now();
    while frame().status == 200 {
        assert!(begun.elapsed() < LEASE);
    }
    frame().error(503, "lease_lost");
    server
        .ask(&Method::GET, "/readyz", &[], &[])
        .error(503, "lease_lost");
    postgres.start_again();
    let begun = Instant::now();
    while frame().status != 200 {
        assert!(begun.elapsed() < RETURN, "{}", server.log());
    }
    println!("recognition is back after {:?}", begun.elapsed());
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
        let locking = threads.spawn(|| database.execute(lock));
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
    let database = OwnDatabase::create();
    let error = on(&database).refuse();
    assert!(error.contains("rostro database migrate"), "{error}");
}

/// Without its database a service recognises people and changes nothing.
#[test]
fn lost_database_refuses_changes() {
    let postgres = Postgres::start();
    let database = postgres.database();
    migrate(&database);
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
    // Lines that waited on the node for the database.
    let has = |person: &str, action: &str, outcome: &str| {
        audit(&database, person)
            .iter()
            .any(|line| line["action"] == action && line["outcome"] == outcome)
    };
    let begun = Instant::now();
    while !(has("alice", "delete-person", "failed") && has("bob", "enrol", "failed")) {
        assert!(begun.elapsed() < RETURN, "{}", server.log());
    }
    assert!(has("alice", "enrol", "done") && has("bob", "enrol", "done"));
}

/// A row that cannot be used costs its person alone. The log names it by keys, and the check by the
/// id of the person.
#[test]
fn damaged_row_is_named() {
    let database = migrated();
    let server = on(&database).start();
    enroll(&server, "alice");
    enroll(&server, "bob");
    drop(server);
    let damage = "UPDATE rostro.sample SET embedding = '{NaN}' \
                  WHERE person = (SELECT person FROM rostro.person WHERE id = 'bob')";
    database.execute(damage);
    let server = on(&database).start();
    server.wait_for_log("person 2 sample 0, person 2 sample 1");
    assert!(!server.log().contains("bob"), "{}", server.log());
    let names = server.names(drawn("group.png"));
    assert!(names.contains(&"alice".to_owned()) && !names.contains(&"bob".to_owned()));
    let (success, text) = check(&database, &[]);
    assert!(
        !success && text.contains("bob (person 2, sample 1)") && text.contains("enrol the people"),
        "{text}"
    );
    enroll(&server, "bob");
    assert!(server.names(drawn("group.png")).contains(&"bob".to_owned()));
    let (success, text) = check(&database, &[]);
    assert!(success && text.contains("0 damaged rows"), "{text}");
}

/// Runs `rostro database check`. Returns its success, and all that it wrote.
pub(crate) fn check(database: &OwnDatabase, flags: &[&str]) -> (bool, String) {
    let output = rostro()
        .args(["database", "check", "--database", database.url()])
        .args(flags)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    (output.status.success(), text)
}

/// A server without room refuses enrolments, and nothing else. What was stored stays.
#[test]
fn full_disk_refuses_enrolments() {
    let postgres = Postgres::start_with_disk("1m");
    let database = postgres.database();
    migrate(&database);
    let location = format!(
        "CREATE TABLESPACE small LOCATION '{}'",
        postgres.disk().display()
    );
    postgres.execute(&location);
    let tables = "ALTER TABLE rostro.sample ALTER embedding SET STORAGE PLAIN; \
                  ALTER TABLE rostro.sample SET TABLESPACE small; \
                  CREATE TABLE reserve TABLESPACE small AS SELECT generate_series(1, 8000); \
                  INSERT INTO rostro.person (id, case_key, number) VALUES ('filler', 'filler', 0)";
    database.execute(tables);
    let server = on(&database).start();
    enroll(&server, "alice");
    let fill = |rows: u32, numbers: u32| {
        let statement = format!(
            "INSERT INTO rostro.sample (person, position, embedding) \
             SELECT person, (SELECT count(*) FROM rostro.sample) + row, \
             array_fill(0.5::real, ARRAY[{numbers}]) \
             FROM rostro.person, generate_series(1, {rows}) AS row WHERE id = 'filler'"
        );
        database.try_execute(&statement)
    };
    for (rows, numbers) in [(50, 1_900), (1, 1_900), (10, 50), (1, 1)] {
        while fill(rows, numbers) {}
    }
    let photos = [1, 2].map(|number| drawn(&format!("bob-{number}.png")));
    let refused = server.enroll("bob", photos);
    refused.error(503, "database_unavailable");
    let log = server.log_of(&refused);
    assert!(log.contains("make room on the server's disk"), "{log}");
    assert!(knows(&server, "alice"));
    server.ask(&Method::GET, "/readyz", &[], &[]).ok();
    database.execute("DROP TABLE reserve");
    enroll(&server, "bob");
    assert!(knows(&server, "alice") && knows(&server, "bob"));
    delete(&server, "alice");
    assert!(!knows(&server, "alice"));
}

/// The latest export has the deletions that an older backup lacks.
#[test]
fn check_repeats_deletions_after_restore() {
    let database = migrated();
    let server = on(&database).start();
    enroll(&server, "alice");
    enroll(&server, "bob");
    database.execute(BACK_UP);
    delete(&server, "alice");
    let archive = ureq::get(format!("{}/v1/gallery", server.admin));
    let archive = archive.call().unwrap().into_body().read_to_vec().unwrap();
    drop(server);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.zip");
    std::fs::write(&file, archive).unwrap();
    database.execute(RESTORE);
    let flags = ["--after-restore", "--tombstones", file.to_str().unwrap()];
    let (success, text) = check(&database, &flags);
    assert!(success && text.contains("deleted again: alice"), "{text}");
    let server = on(&database).start();
    assert!(!knows(&server, "alice") && knows(&server, "bob"));
    std::fs::write(&file, "no archive").unwrap();
    let (success, text) = check(&database, &flags);
    assert!(!success && text.contains("archive"), "{text}");
}

/// Runs `rostro database import` or `export` with the folders in `parent`.
fn move_between(database: &OwnDatabase, command: &str, parent: &Path, more: &[&str]) -> Output {
    rostro()
        .args(["database", command, "--database", database.url()])
        .arg("--gallery")
        .arg(parent.join("gallery"))
        .arg("--state")
        .arg(parent.join("state"))
        .args(more)
        .output()
        .unwrap()
}

/// A folder moves into a database and back: people, groups, deletions, and which revision serves.
#[test]
fn folder_moves_with_revisions() {
    let (database, folder) = (migrated(), tempfile::tempdir().unwrap());
    let (back, path) = (tempfile::tempdir().unwrap(), folder.path());
    let in_folder = |path: &Path| {
        Options::drawn()
            .gallery(&path.join("gallery"))
            .state(&path.join("state"))
    };
    let server = in_folder(path).start();
    enroll(&server, "alice");
    enroll(&server, "bob");
    delete(&server, "bob");
    let first = server.active();
    let variant = server.staged(&bytes(component("variant")), "");
    server.activate(&variant);
    let refused = move_between(&database, "import", path, &[]);
    assert!(!refused.status.success());
    drop(server);

    let text = |output: Output| {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let copied = text(move_between(
        &database,
        "import",
        path,
        &["--wait-for-lock", "10"],
    ));
    assert!(
        copied.contains("copied 1 people with 2 samples") && copied.contains("2 revisions"),
        "{copied}"
    );
    // A node without state compiles the components that were copied.
    let node = on(&database).start();
    assert_eq!(node.active(), variant);
    assert!(!knows(&node, "alice"));
    eventually("the previous revision is staged again", || {
        node.admin_post("/v1/rollback").status == 200
    });
    assert_eq!(node.active(), first);
    assert!(knows(&node, "alice"));
    drop(node);

    let again = move_between(&database, "import", path, &[]);
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(error.contains("--replace"), "{error}");
    let copied = text(move_between(
        &database,
        "export",
        back.path(),
        &["--wait-for-lock", "10"],
    ));
    assert!(copied.contains("2 revisions"), "{copied}");
    let server = in_folder(back.path()).start();
    assert_eq!(server.active(), first);
    assert!(knows(&server, "alice"));
    assert_eq!(server.people_files().len(), 1);
}

/// An export that is refused leaves neither folders nor files.
#[test]
fn refused_export_leaves_nothing() {
    let (database, folder) = (migrated(), tempfile::tempdir().unwrap());
    let refuse = |more: &[&str], reason: &str| {
        let refused = move_between(&database, "export", &folder.path().join("new"), more);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && error.contains(reason),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    };
    let server = on(&database).start();
    enroll(&server, "alice");
    refuse(&[], "uses this database");
    drop(server);
    database.execute("UPDATE rostro.component SET bytes = 'x'");
    refuse(&["--wait-for-lock", "10"], "do not have its digest");
}

/// A component that an active revision lacks refuses the import, and the database stays as it was.
#[test]
fn import_needs_components() {
    let (database, folder) = (migrated(), tempfile::tempdir().unwrap());
    let path = folder.path();
    let state = path.join("state");
    let server = Options::drawn()
        .gallery(&path.join("gallery"))
        .state(&state)
        .start();
    enroll(&server, "alice");
    drop(server);
    for file in std::fs::read_dir(state.join("components")).unwrap() {
        std::fs::write(file.unwrap().path(), "damaged").unwrap();
    }
    let refused = move_between(&database, "import", path, &["--wait-for-lock", "10"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("cannot read the component"), "{error}");
    let rows =
        "SELECT (SELECT count(*) FROM rostro.person) + (SELECT count(*) FROM rostro.revisions)";
    assert_eq!(database.query(rows), "0");
}
