//! PgBouncer between services and their database.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use ureq::http::Method;

use crate::harness::{Options, Server, drawn, holds_within, rostro};
use crate::postgres::{OwnDatabase, Postgres, own, unprivileged};

/// Longest time for PgBouncer to start, and for a change to reach another node.
const SOON: Duration = Duration::from_secs(10);

/// Time within which a node sees another one's change by its notification. The timer, which finds
/// a change without one, fires each second.
const NOTIFIED: Duration = Duration::from_millis(500);

/// Running PgBouncer, which is stopped on drop.
struct PgBouncer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl PgBouncer {
    /// Starts PgBouncer in front of the shared server. Every setting but the mode is a default, or
    /// says where the server and the users are.
    fn start(mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let users = folder.path().join("users");
        std::fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\npool_mode = {mode}\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\n",
            Postgres::shared().address().port(),
            users.display()
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, configuration).unwrap();
        own(folder.path());
        let program = [
            "/usr/sbin/pgbouncer",
            "/usr/local/sbin/pgbouncer",
            "/usr/bin/pgbouncer",
        ]
        .into_iter()
        .find(|path| Path::new(path).exists());
        let program = program.expect("PgBouncer is missing; run sudo apt-get install pgbouncer");
        // It refuses to run as root.
        let mut child = unprivileged(program)
            .args(["--quiet".as_ref(), file.as_os_str()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let listens = holds_within(SOON, || {
            assert!(child.try_wait().unwrap().is_none(), "PgBouncer ended");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        assert!(listens, "PgBouncer does not listen");
        Self {
            child,
            port,
            _folder: folder,
        }
    }

    /// Returns the address of a database behind it.
    fn url(&self, database: &OwnDatabase) -> String {
        let Self { port, .. } = self;
        format!("postgresql://postgres@127.0.0.1:{port}/{}", database.name())
    }
}

fn migrate(url: &str) {
    let mut command = rostro();
    command.args(["database", "migrate", "--database", url]);
    assert!(command.status().unwrap().success());
}

fn knows(server: &Server, person: &str) -> bool {
    server
        .names(drawn("group.png"))
        .contains(&person.to_owned())
}

/// Sessions that belong to one client carry everything that a fleet needs.
#[test]
fn session_mode_serves_nodes() {
    let (database, pooler) = (Postgres::shared().database(), PgBouncer::start("session"));
    let url = pooler.url(&database);
    migrate(&url);
    let start = || Options::drawn().arg("--database", &url).start();
    let (first, second) = (start(), start());
    let photos = [1, 2].map(|number| drawn(&format!("alice-{number}.png")));
    first.enroll("alice", photos).ok();
    assert!(knows(&first, "alice"));
    let notified = holds_within(NOTIFIED, || knows(&second, "alice"));
    assert!(notified, "{}", second.log());
    second
        .ask_admin(&Method::DELETE, "/v1/people/alice", &[], &[])
        .ok();
    assert!(!knows(&first, "alice") && !knows(&second, "alice"));
}

/// Poolers that give a session to one client after another are refused at the start.
#[test]
fn shared_sessions_name_pool_mode() {
    let database = Postgres::shared().database();
    migrate(database.url());
    for mode in ["transaction", "statement"] {
        let pooler = PgBouncer::start(mode);
        let error = Options::drawn()
            .arg("--database", pooler.url(&database))
            .refuse();
        let names_setting = error.contains("pool_mode = session");
        assert!(names_setting, "{mode}: {error}");
    }
}
