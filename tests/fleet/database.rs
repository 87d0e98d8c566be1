//! Database of the fleet: a PostgreSQL server, and a synchronous standby if the plan fails over.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use crate::harness::rostro;
use crate::postgres::Postgres;

/// Servers in the order in which the address of a node names them. One is the primary.
#[derive(Debug)]
pub(crate) struct Database {
    servers: Mutex<Servers>,
    name: String,
}

#[derive(Debug)]
struct Servers {
    all: Vec<Postgres>,
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
    /// Starts the server, with a standby if `has_standby`, and makes a database with the schema.
    pub(crate) fn start(has_standby: bool) -> Self {
        let primary = Postgres::start();
        let database = primary.database();
        let status = rostro()
            .args(["database", "migrate", "--database", database.url()])
            .status()
            .unwrap();
        assert!(status.success(), "cannot migrate: {status}");
        let mut all = vec![primary];
        if has_standby {
            all.push(all[0].standby());
        }
        Self {
            servers: Mutex::new(Servers { all, primary: 0 }),
            name: database.name().to_owned(),
        }
    }

    /// Returns the address for a node that reaches the servers through these addresses.
    pub(crate) fn url(&self, through: impl IntoIterator<Item = SocketAddr>) -> String {
        let hosts: Vec<String> = through
            .into_iter()
            .map(|address| address.to_string())
            .collect();
        let (hosts, name) = (hosts.join(","), &self.name);
        format!("postgresql://postgres@{hosts}/{name}?target_session_attrs=read-write")
    }

    /// Returns the addresses of the servers.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let servers = self.servers.lock().unwrap();
        servers.all.iter().map(Postgres::address).collect()
    }

    /// Stops the primary, and starts it again after a time.
    pub(crate) fn restart(&self, stop: Stop, down: Duration) {
        let servers = self.servers.lock().unwrap();
        let primary = &servers.all[servers.primary];
        end(primary, stop);
        std::thread::sleep(down);
        primary.start_again();
        if servers.all.len() > 1 {
            // A failover before that would lose what was answered, and so would one in production.
            primary.wait_for_standby();
        }
    }

    /// Stops the primary, promotes the standby, and replaces the former primary by a new standby.
    /// `moved` is called with the addresses of the servers as soon as they are known.
    pub(crate) fn fail_over(&self, stop: Stop, moved: impl FnOnce(&[SocketAddr])) {
        let mut servers = self.servers.lock().unwrap();
        let [former, standby] = [servers.primary, 1 - servers.primary];
        end(&servers.all[former], stop);
        servers.all[standby].promote();
        servers.primary = standby;
        servers.all[former] = servers.all[standby].standby();
        let addresses: Vec<_> = servers.all.iter().map(Postgres::address).collect();
        moved(&addresses);
    }
}

fn end(server: &Postgres, stop: Stop) {
    match stop {
        Stop::Orderly => server.stop(),
        Stop::Crash => server.crash(),
    }
}
