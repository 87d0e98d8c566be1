//! Connections, certificates and rights, against a real server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../../tests/e2e/postgres.rs"]
mod postgres;
mod support;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rostro_database::{DatabaseError, schema};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::postgres::{OwnDatabase, Postgres};
use crate::support::{open, refusal, try_open};

/// Returns the host and port of the shared server.
fn server_address() -> String {
    let url = Postgres::shared().url("postgres", "postgres");
    let (_, rest) = url.split_once('@').unwrap();
    rest.split_once('/').unwrap().0.to_owned()
}

/// An authority, and the TLS settings of a server with a certificate from it.
struct Authority {
    folder: TempDir,
    server: Arc<ServerConfig>,
}

impl Authority {
    /// Makes a certificate for `localhost` that ends in a year.
    fn new(last_year: i32) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self {
            folder,
            server: Arc::new(server),
        }
    }

    /// Returns the file with the authority.
    fn file(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }
}

/// Starts TLS in front of the shared server, which was built without it. Returns the port.
fn serve_tls(runtime: &Runtime, tls: Arc<ServerConfig>) -> u16 {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (server, acceptor) = (server_address(), TlsAcceptor::from(tls));
    runtime.spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let (server, acceptor) = (server.clone(), acceptor.clone());
            tokio::spawn(async move {
                // The client's request for TLS, and the server's consent.
                client.read_exact(&mut [0; 8]).await.unwrap();
                client.write_all(b"S").await.unwrap();
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[test]
fn certificate_chain_and_name_count() {
    let runtime = Runtime::new().unwrap();
    let trusted = Authority::new(2100);
    let expired = Authority::new(2020);
    let port = serve_tls(&runtime, trusted.server.clone());
    let own = Postgres::shared().database();
    let address = |host: &str, port: u16, authority: &str| {
        format!(
            "postgresql://postgres@{host}:{port}/{}?sslmode=require&sslrootcert={authority}",
            own.name()
        )
    };
    try_open(&address("localhost", port, &trusted.file())).unwrap();
    let expired_port = serve_tls(&runtime, expired.server.clone());
    for (address, remedy) in [
        (address("127.0.0.1", port, &trusted.file()), "another name"),
        (
            address("localhost", port, &expired.file()),
            "sslrootcert=FILE",
        ),
        (address("localhost", port, "system"), "sslrootcert=FILE"),
        (
            address("localhost", expired_port, &expired.file()),
            "has expired",
        ),
        (address("localhost", port, "/missing.pem"), "/missing.pem"),
    ] {
        let error = refusal(&address);
        assert!(error.contains(remedy), "{address}: {error}");
    }
}

#[test]
fn server_without_tls_is_refused() {
    let authority = Authority::new(2100);
    let error = refusal(&format!(
        "{}?sslmode=verify-full&sslrootcert={}",
        Postgres::shared().url("postgres", "postgres"),
        authority.file()
    ));
    assert!(error.contains("does not support TLS"), "{error}");
    assert!(error.contains("give the server a certificate"), "{error}");
}

/// A frozen server accepts connections and answers none.
#[test]
fn frozen_host_is_passed_over() {
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let own = Postgres::shared().database();
    let begun = Instant::now();
    let url = own.url().replace(
        "127.0.0.1:",
        &format!("{},127.0.0.1:", frozen.local_addr().unwrap()),
    );
    let database = try_open(&format!("{url}?connect_timeout=1")).unwrap();
    // Later connections begin with the host that answered.
    schema::migrate(&database, None).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3));
    let error = refusal(&format!(
        "postgresql://{}/a?connect_timeout=1",
        frozen.local_addr().unwrap()
    ));
    assert!(error.contains("does not answer"), "{error}");
}

/// The service drops its database on threads of its own runtime, too.
#[test]
fn database_drops_within_runtime() {
    let database = open(&OwnDatabase::create());
    Runtime::new().unwrap().block_on(async { drop(database) });
}

/// A role has the rights on the tables of later migrations, too, and none on the history.
#[test]
fn granted_rights_cover_later_tables() {
    let (server, own) = (Postgres::shared(), Postgres::shared().database());
    server.execute("CREATE ROLE later LOGIN");
    schema::migrate(&open(&own), Some("later")).unwrap();
    let as_service = try_open(&server.url(own.name(), "later")).unwrap();
    schema::check(&as_service).unwrap();
    own.execute("CREATE TABLE rostro.added (id int)");
    schema::check_rights(&as_service).unwrap();
    schema::count(&as_service).unwrap();
    own.execute("REVOKE DELETE ON rostro.person FROM later");
    own.execute("REVOKE UPDATE, INSERT ON rostro.added FROM later");
    let error = schema::check_rights(&as_service).unwrap_err().to_string();
    assert!(error.contains("DELETE on person"), "{error}");
    assert!(error.contains("INSERT on added"), "{error}");
    assert!(!error.contains("migration:"), "{error}");
    assert!(error.contains("--grant-to later"), "{error}");
}

/// A service without rights is told of them, and not of a schema that lacks.
#[test]
fn role_without_rights_is_told() {
    let (server, own) = (Postgres::shared(), Postgres::shared().database());
    server.execute("CREATE ROLE stranger LOGIN");
    schema::migrate(&open(&own), None).unwrap();
    let as_stranger = try_open(&server.url(own.name(), "stranger")).unwrap();
    let error = schema::check(&as_stranger).unwrap_err().to_string();
    assert!(error.contains("--grant-to ROLE"), "{error}");
    let error = schema::migrate(&as_stranger, None).unwrap_err().to_string();
    assert!(error.contains("permission denied"), "{error}");
    let error = schema::migrate(&open(&own), Some("missing")).unwrap_err();
    assert!(error.to_string().contains("createuser"), "{error}");
}

/// An owner of the schema needs no rights on the database.
#[test]
fn schema_owner_can_migrate() {
    let (server, own) = (Postgres::shared(), Postgres::shared().database());
    server.execute("CREATE ROLE owner LOGIN");
    let as_owner = try_open(&server.url(own.name(), "owner")).unwrap();
    let error = schema::migrate(&as_owner, None).unwrap_err().to_string();
    assert!(error.contains("permission denied for database"), "{error}");
    assert!(error.contains("that may create it"), "{error}");
    own.execute("CREATE SCHEMA rostro AUTHORIZATION owner");
    schema::migrate(&as_owner, None).unwrap();
    schema::check_rights(&as_owner).unwrap();
}

/// Nodes of two versions may each migrate before they start.
#[test]
fn next_version_is_left_alone() {
    let own = OwnDatabase::create();
    let database = open(&own);
    schema::migrate(&database, None).unwrap();
    let next = schema::latest() + 1;
    let row = format!("INSERT INTO rostro.migration VALUES ({next}, 'next', '', '0')");
    own.execute(&row);
    let migrated = schema::migrate(&database, None).unwrap();
    assert_eq!((migrated.applied.len(), migrated.version), (0, next));
    schema::check(&database).unwrap();
}

#[test]
fn foreign_histories_are_refused() {
    let other_columns = "CREATE SCHEMA rostro; CREATE TABLE rostro.migration (id int)";
    let other_migration = "CREATE SCHEMA rostro; \
                           CREATE TABLE rostro.migration (version int, name text, checksum text); \
                           INSERT INTO rostro.migration VALUES (1, 'orders', '1')";
    let no_names = "CREATE SCHEMA rostro; \
                    CREATE TABLE rostro.migration (version int, name text, checksum text); \
                    INSERT INTO rostro.migration VALUES (1)";
    for statements in [other_columns, other_migration, no_names] {
        let own = OwnDatabase::create();
        own.execute(statements);
        let database = open(&own);
        for error in [
            schema::check(&database).map(drop).unwrap_err(),
            schema::migrate(&database, None).map(drop).unwrap_err(),
        ] {
            assert!(matches!(error, DatabaseError::ForeignSchema(_)), "{error}");
        }
    }
}

#[test]
fn useless_authorities_name_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    for text in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        fs::write(&file, text).unwrap();
        let error = refusal(&format!(
            "postgresql://db.invalid/rostro?sslrootcert={}",
            file.display()
        ));
        assert!(error.contains("ca.pem"), "{error}");
    }
}
