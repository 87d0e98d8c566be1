//! Database of the fleet: a PostgreSQL server with a synchronous standby.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use crate::harness::rostro;
use crate::postgres::{OwnDatabase, Postgres};

/// Servers in the order in which the address of a node names them. One is the primary.
#[derive(Debug)]
pub(crate) struct Database {
    servers: Mutex<Servers>,
    database: OwnDatabase,
}

#[derive(Debug)]
struct Servers {
    all: [Postgres; 2],
    primary: usize,
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Sessions are ended.
    Orderly,
    /// As after a crash: nothing is written, and the next start recovers.
    Crash,
}

impl Database {
    /// Starts both servers, and makes a database with the schema.
    pub(crate) fn start() -> Self {
        let primary = Postgres::start();
        let database = primary.database();
        run_command(&database, &["database", "migrate"]);
        let standby = primary.standby();
        Self {
            servers: Mutex::new(Servers {
                all: [primary, standby],
                primary: 0,
            }),
            database,
        }
    }

    /// Runs a command of `rostro` on the database.
    pub(crate) fn run_command(&self, command: &[&str]) {
        run_command(&self.database, command);
    }

    /// Runs a command of `rostro` on the primary, while no server is being replaced. Returns true for
    /// success.
    pub(crate) fn try_command(&self, command: &[&str]) -> bool {
        let url = self.url(self.addresses());
        let mut program = rostro();
        let output = program.args(command).args(["--database", &url]).output();
        output.unwrap().status.success()
    }

    /// Returns the address for a node that reaches the servers through these addresses.
    pub(crate) fn url(&self, [first, second]: [SocketAddr; 2]) -> String {
        let name = self.database.name();
        format!("postgresql://postgres@{first},{second}/{name}?target_session_attrs=read-write")
    }

    /// Returns the addresses of the servers.
    pub(crate) fn addresses(&self) -> [SocketAddr; 2] {
        self.servers.lock().unwrap().addresses()
    }

    /// Lets other nodes see each lease end after this time, not when its node stops relying on it.
    pub(crate) fn shorten_leases(&self, length: Duration) {
        let statements = format!(
            "CREATE FUNCTION shorten() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN NEW.length_ms = {}; RETURN NEW; END'; \
             CREATE TRIGGER shorten BEFORE INSERT OR UPDATE ON rostro.lease \
             FOR EACH ROW EXECUTE FUNCTION shorten()",
            length.as_millis()
        );
        self.database.execute(&statements);
    }

    /// Crashes the primary, and starts it again after a time. Returns when it accepts connections.
    pub(crate) fn take_away(&self, down: Duration) {
        let servers = self.servers.lock().unwrap();
        let primary = &servers.all[servers.primary];
        primary.crash();
        std::thread::sleep(down);
        primary.start_again();
    }

    /// Stops the primary, and starts it again after a time.
    pub(crate) fn restart(&self, stop: Stop, down: Duration) {
        let servers = self.servers.lock().unwrap();
        let primary = &servers.all[servers.primary];
        end(primary, stop);
        std::thread::sleep(down);
        primary.start_again();
        // Recovery shows commits that the standby may lack. A failover before it has them would
        // lose what a node has read, and so would one in production.
        primary.wait_for_standby();
    }

    /// Stops the primary, promotes the standby, and replaces the former primary by a new standby.
    /// Calls `moved` with the addresses of the servers after that.
    pub(crate) fn fail_over(&self, stop: Stop, moved: impl FnOnce([SocketAddr; 2])) {
        let mut servers = self.servers.lock().unwrap();
        let [former, standby] = [servers.primary, 1 - servers.primary];
        end(&servers.all[former], stop);
        servers.all[standby].promote();
        servers.primary = standby;
        servers.all[former] = servers.all[standby].standby();
        moved(servers.addresses());
    }
}

impl Servers {
    fn addresses(&self) -> [SocketAddr; 2] {
        self.all.each_ref().map(Postgres::address)
    }
}

fn end(server: &Postgres, stop: Stop) {
    match stop {
        Stop::Orderly => server.stop(),
        Stop::Crash => server.crash(),
    }
}

fn run_command(database: &OwnDatabase, command: &[&str]) {
    let status = rostro()
        .args(command)
        .args(["--database", database.url()])
        .status()
        .unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
