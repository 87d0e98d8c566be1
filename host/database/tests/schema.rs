//! Migrations, versions, rights and bad addresses, against a real server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../../tests/e2e/postgres.rs"]
mod postgres;
mod support;

use std::path::Path;
use std::time::Instant;

use rostro_common::cores::Cores;
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_database::schema::{self, HalfvecView, Migrated};
use rostro_database::{Database, DatabaseError, Node, PostgresStore, find_damage};
use rostro_gallery::{CsvGallery, Store, StoreError, UnsentLines};

use crate::postgres::{OwnDatabase, Postgres};
use crate::support::{fleet, open, refusal, try_open};

fn store(database: &Database, folder: &Path) -> Result<PostgresStore, StoreError> {
    let now = || Instant::now().into();
    let files = CsvGallery::open_locked(&folder.join("gallery"), &now()).unwrap();
    let state = folder.join("state");
    std::fs::create_dir_all(&state).unwrap();
    let unsent = UnsentLines::open(&state).unwrap().into();
    PostgresStore::open_node(database.clone(), Node { files, unsent }, fleet("one"))
}

fn alice() -> PersonId {
    "alice".parse().unwrap()
}

fn sample(embedding: Vec<f32>) -> Sample {
    Sample {
        embedding,
        raw: None,
        contract: Some("1111111111111111".parse().unwrap()),
        det_score: None,
        enrolment: None,
    }
}

#[test]
fn second_migration_changes_nothing() {
    let own = OwnDatabase::create();
    let database = open(&own);
    let first = schema::migrate(&database, None).unwrap();
    assert_eq!(first.version, schema::latest());
    assert!(!first.applied.is_empty());
    assert_eq!(
        schema::migrate(&database, None).unwrap(),
        Migrated {
            applied: Vec::new(),
            version: schema::latest(),
            halfvec: HalfvecView::Present
        }
    );
    assert_eq!(schema::check(&database).unwrap().version, schema::latest());
}

#[test]
fn concurrent_migrations_apply_once() {
    let own = OwnDatabase::create();
    let applied: usize = std::thread::scope(|threads| {
        let migrate = || schema::migrate(&open(&own), None).unwrap().applied.len();
        let running: Vec<_> = (0..4).map(|_| threads.spawn(migrate)).collect();
        running.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert_eq!(applied, usize::try_from(schema::latest()).unwrap());
}

/// A program runs with its own version and the next one.
#[test]
fn versions_bound_the_program() {
    let own = OwnDatabase::create();
    let database = open(&own);
    assert!(matches!(
        schema::check(&database),
        Err(DatabaseError::NoSchema)
    ));
    schema::migrate(&database, None).unwrap();
    let add = |version: u32| {
        let row = format!(
            "INSERT INTO rostro.migration (version, name, applied_on, checksum) \
             VALUES ({version}, 'later', '', '0')"
        );
        own.execute(&row);
    };
    add(schema::latest() + 1);
    schema::check(&database).unwrap();
    add(schema::latest() + 2);
    let error = schema::check(&database).unwrap_err().to_string();
    assert!(error.contains("upgrade the program"), "{error}");
    let error = schema::migrate(&database, None).unwrap_err().to_string();
    assert!(error.contains("upgrade the program"), "{error}");
    own.execute("UPDATE rostro.migration SET version = 0 WHERE version = 1");
    own.execute("DELETE FROM rostro.migration WHERE version > 0");
    let error = schema::check(&database).unwrap_err().to_string();
    assert!(error.contains("rostro database migrate"), "{error}");
}

#[test]
fn foreign_schema_is_refused() {
    let own = OwnDatabase::create();
    let statements = "CREATE SCHEMA rostro; CREATE TABLE rostro.orders (id int)";
    own.execute(statements);
    let database = open(&own);
    for error in [
        schema::check(&database).map(drop).unwrap_err(),
        schema::migrate(&database, None).map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().contains("another program's"), "{error}");
    }
}

/// The role of a service needs the rights that `migrate` gives it, and has no others.
#[test]
fn service_role_needs_its_rights() {
    let (server, folder) = (Postgres::shared(), tempfile::tempdir().unwrap());
    let own = server.database();
    server.execute("CREATE ROLE service LOGIN");
    schema::migrate(&open(&own), None).unwrap();
    let as_service = try_open(&server.url(own.name(), "service")).unwrap();
    let error = store(&as_service, folder.path()).unwrap_err().to_string();
    assert!(error.contains("--grant-to"), "{error}");
    schema::migrate(&open(&own), Some("service")).unwrap();
    let store = store(&as_service, folder.path()).unwrap();
    store.replace(&alice(), &[sample(vec![0.5])]).unwrap();
    let error = schema::migrate(&as_service, None).unwrap_err().to_string();
    assert!(error.contains("permission denied"), "{error}");
}

#[test]
fn bad_addresses_name_remedy() {
    let server = Postgres::shared();
    server.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'");
    let url = server.url("postgres", "guarded:wrong");
    let error = refusal(&url);
    assert!(error.contains("check its user and password"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
    try_open(&server.url("postgres", "guarded:right")).unwrap();
    let error = refusal(&server.url("missing", "postgres"));
    assert!(error.contains("createdb"), "{error}");
    let error = refusal("postgresql://postgres@127.0.0.1:1/rostro");
    assert!(error.contains("check that the server runs"), "{error}");
    // The server has no certificate.
    let error = refusal(&format!(
        "{}?sslmode=verify-full",
        server.url("postgres", "postgres")
    ));
    assert!(error.contains("certificate"), "{error}");
}

/// A standby is not used.
#[test]
fn standby_is_refused() {
    let postgres = Postgres::start();
    let standby = postgres.standby();
    let error = refusal(&standby.url("postgres", "postgres"));
    assert!(error.contains("the server is a standby"), "{error}");
}

/// A primary that accepts no writes is not taken for a standby.
#[test]
fn read_only_server_is_refused() {
    let own = OwnDatabase::create();
    let statement = format!(
        "ALTER DATABASE {} SET default_transaction_read_only = on",
        own.name()
    );
    own.execute(&statement);
    let error = refusal(own.url());
    assert!(
        error.contains("default_transaction_read_only = off"),
        "{error}"
    );
}

/// Every bit of a number is stored. A damaged row costs its person alone, and is named.
#[test]
fn numbers_are_lossless_damage_is_named() {
    let (own, folder) = (OwnDatabase::create(), tempfile::tempdir().unwrap());
    let database = open(&own);
    schema::migrate(&database, None).unwrap();
    let store = store(&database, folder.path()).unwrap();
    let numbers = vec![f32::MIN_POSITIVE / 4.0, f32::MAX, -0.0, 0.1, 1.0 / 3.0];
    store.replace(&alice(), &[sample(numbers.clone())]).unwrap();
    let stored = store.read(&alice()).unwrap().unwrap();
    let bits = |numbers: &[f32]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
    let embedding = &stored.first().unwrap().embedding;
    assert_eq!(bits(embedding), bits(&numbers));
    let bob: PersonId = "bob".parse().unwrap();
    store.replace(&bob, &[sample(vec![0.5])]).unwrap();
    assert_eq!(find_damage(&database).unwrap(), []);
    let damage = "UPDATE rostro.sample SET embedding = '{NaN}' \
                  WHERE person = (SELECT person FROM rostro.person WHERE id = 'bob')";
    own.execute(damage);
    let loaded = store.load(&Cores::single()).unwrap();
    let counts: Vec<usize> = loaded
        .people
        .iter()
        .map(|person| person.samples.len())
        .collect();
    assert_eq!(counts, [1, 0]);
    let damaged = |reason: &str| {
        let rows = find_damage(&database).unwrap();
        let [row] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        assert!(row.reason.contains(reason), "{row:?}");
        (row.id.clone(), row.position)
    };
    assert_eq!(damaged("not finite"), ("bob".to_owned(), Some(0)));
    let without_samples = "DELETE FROM rostro.sample WHERE embedding = '{NaN}'";
    own.execute(without_samples);
    assert_eq!(damaged("no samples"), ("bob".to_owned(), None));
    let other_id = "UPDATE rostro.person SET id = ' bob' WHERE id = 'bob'";
    own.execute(other_id);
    assert_eq!(damaged("id is invalid"), (" bob".to_owned(), None));
    assert_eq!(store.load(&Cores::single()).unwrap().people.len(), 1);
}

/// Query for the people who are nearest to some numbers.
const NEAREST: &str = "SELECT id FROM rostro.embedding_halfvec \
                       WHERE contract = '1111111111111111' \
                       ORDER BY embedding <=> '[1, 0.1, 0]' LIMIT 2";

/// The view finds the nearest people, and gives no number for those that `halfvec` cannot hold.
#[test]
fn halfvec_view_orders_by_distance() {
    let (server, folder) = (Postgres::shared(), tempfile::tempdir().unwrap());
    let own = server.database();
    server.execute("CREATE ROLE reader LOGIN");
    let database = open(&own);
    let migrated = schema::migrate(&database, Some("reader")).unwrap();
    assert_eq!(migrated.halfvec, HalfvecView::Present);
    let store = store(&database, folder.path()).unwrap();
    for (id, numbers) in [
        ("alice", vec![0.0, 1.0, 0.5]),
        ("bob", vec![2.0, 0.25, 0.0]),
        ("carol", vec![0.5, 0.5, 0.0]),
        ("dave", vec![f32::MAX, 0.0, 0.0]),
    ] {
        store
            .replace(&id.parse().unwrap(), &[sample(numbers)])
            .unwrap();
    }
    let damage = "INSERT INTO rostro.sample (person, position, embedding) \
                  SELECT person, 1 + n, CASE n WHEN 0 THEN '{NaN}' ELSE '{}' END::real[] \
                  FROM rostro.person, generate_series(0, 1) n WHERE id = 'alice'";
    own.execute(damage);
    let query = format!("SET ROLE reader; {NEAREST}");
    assert_eq!(own.query(&query), "SET\nbob\ncarol");
    let unusable = "SELECT string_agg(id, ' ' ORDER BY id) FROM rostro.embedding_halfvec \
                    WHERE embedding IS NULL";
    assert_eq!(own.query(unusable), "alice alice dave");
}

/// The view uses the extension where an administrator installed it.
#[test]
fn halfvec_view_finds_schema_of_extension() {
    let own = Postgres::shared().database();
    let elsewhere = "CREATE SCHEMA \"My extensions\"; \
                     CREATE EXTENSION vector SCHEMA \"My extensions\"";
    own.execute(elsewhere);
    let migrated = schema::migrate(&open(&own), None).unwrap();
    assert_eq!(migrated.halfvec, HalfvecView::Present);
}

/// A server without the extension, an old one, and a role that may not create it do without the
/// view. A later migration makes it.
#[test]
fn missing_extension_leaves_view_out() {
    let server = Postgres::shared();
    server.execute("CREATE ROLE owner LOGIN");
    let reason = |url: &str| {
        let migrated = schema::migrate(&try_open(url).unwrap(), None).unwrap();
        match migrated.halfvec {
            HalfvecView::LeftOut(reason) => reason,
            HalfvecView::Present => panic!("the view was made"),
        }
    };
    let without = server.database();
    let no_files = format!(
        "ALTER DATABASE {} SET extension_control_path = '/nonexistent'",
        without.name()
    );
    server.execute(&no_files);
    let text = reason(without.url());
    assert!(text.contains("does not have the extension"), "{text}");

    let own = server.database();
    server.execute(&format!("ALTER DATABASE {} OWNER TO owner", own.name()));
    let url = server.url(own.name(), "owner");
    let text = reason(&url);
    assert!(text.contains("CREATE EXTENSION vector"), "{text}");
    own.execute("CREATE EXTENSION vector");
    let migrated = schema::migrate(&try_open(&url).unwrap(), None).unwrap();
    assert_eq!(migrated.halfvec, HalfvecView::Present);

    let old = server.database();
    let without_type = "CREATE EXTENSION vector; ALTER TYPE halfvec RENAME TO absent";
    old.execute(without_type);
    let text = reason(old.url());
    assert!(text.contains("older than 0.7"), "{text}");
}
