//! Nodes of the fleet, each behind its own proxies to the database.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use super::database::{Database, Stop};
use super::proxy::{Link, Proxy};
use crate::harness::{Options, Server, holds_within};

/// Longest time for a node to start, while starts fail because the database is away.
const START: Duration = Duration::from_secs(60);

/// Length of a lease that is longer than a test.
const UNCHECKED: Duration = Duration::from_secs(60);

/// Pause before another try to start a node, as a supervisor makes it.
const RETRY: Duration = Duration::from_millis(200);

/// Addresses of a running node.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) service: String,
    pub(crate) admin: String,
}

/// A service with folders of its own, which can be killed and started again.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) number: usize,
    proxies: [Proxy; 2],
    options: NodeOptions,
    process: Mutex<Process>,
    addresses: RwLock<Option<Addresses>>,
}

#[derive(Debug)]
struct NodeOptions {
    url: String,
    lease: Duration,
    folder: PathBuf,
}

/// Length of the nodes' leases.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leases {
    /// Nodes check them.
    Checked(Duration),
    /// A planted fault: others wait for this time, but nodes rely on their leases for
    /// [`UNCHECKED`], as if they did not check them.
    Unchecked(Duration),
}

impl Leases {
    /// Returns the value of `--lease`.
    fn option(self) -> Duration {
        match self {
            Self::Checked(length) => length,
            Self::Unchecked(_) => UNCHECKED,
        }
    }
}

#[derive(Debug)]
struct Process {
    server: Option<Server>,
    starts: u32,
}

/// A fleet with its database.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    database: Database,
}

impl Cluster {
    /// Starts the database and the nodes. Their folders and logs are in `folder`.
    pub(crate) fn start(nodes: usize, leases: Leases, folder: &Path) -> Self {
        let database = Database::start();
        if let Leases::Unchecked(length) = leases {
            database.shorten_leases(length);
        }
        let node = |number: usize| {
            let proxies = database.addresses().map(Proxy::start);
            let node = Node {
                number,
                options: NodeOptions {
                    url: database.url(proxies.each_ref().map(Proxy::address)),
                    lease: leases.option(),
                    folder: folder.join(format!("node-{number}")),
                },
                proxies,
                process: Mutex::new(Process {
                    server: None,
                    starts: 0,
                }),
                addresses: RwLock::new(None),
            };
            node.start();
            node
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            database,
        }
    }

    /// Lets nodes answer without a lease. They learn of it within a second.
    pub(crate) fn allow_stale_reads(&self) {
        self.database.run_command(&["nodes", "stale-reads", "on"]);
    }

    /// Turns stale reads on for a time after the last renewal. Returns true for success.
    pub(crate) fn try_stale_reads(&self, limit: Duration) -> bool {
        let limit = limit.as_secs().to_string();
        let command = ["nodes", "stale-reads", "on", "--for", &limit];
        self.database.try_command(&command)
    }

    /// Turns stale reads off. Returns true for success, although they may still be ending.
    pub(crate) fn end_stale_reads(&self) -> bool {
        self.database.try_command(&["nodes", "stale-reads", "off"])
    }

    /// Stops the primary, and starts it again after a time.
    pub(crate) fn restart_database(&self, stop: Stop, down: Duration) {
        self.database.restart(stop, down);
    }

    /// Takes the database away for a time, by an immediate shutdown: open sessions end at once.
    /// Returns when the primary accepts connections again.
    pub(crate) fn take_database_away(&self, down: Duration) {
        self.database.take_away(down);
    }

    /// Stops the primary for good, and promotes the standby.
    pub(crate) fn fail_over(&self, stop: Stop) {
        self.database.fail_over(stop, |addresses| {
            for node in &self.nodes {
                for (proxy, address) in node.proxies.iter().zip(addresses) {
                    proxy.retarget(address);
                }
            }
        });
    }

    /// Ends all faults, and starts nodes that are not running.
    pub(crate) fn heal(&self) {
        for node in &self.nodes {
            node.set(Link::Open);
            node.resume();
            node.start();
        }
    }
}

impl Node {
    /// Returns the addresses while the node is running.
    pub(crate) fn addresses(&self) -> Option<Addresses> {
        self.addresses.read().unwrap().clone()
    }

    /// Changes the link to the database.
    pub(crate) fn set(&self, link: Link) {
        self.proxies.iter().for_each(|proxy| proxy.set(link));
    }

    /// Starts the node unless it is running. A start that fails is tried again.
    pub(crate) fn start(&self) {
        let mut process = self.process.lock().unwrap();
        if process.server.is_some() {
            return;
        }
        let mut last = String::new();
        let is_started = holds_within(START, || {
            process.starts += 1;
            match self.options.of_start(process.starts).try_start() {
                Ok(server) => {
                    *self.addresses.write().unwrap() = Some(Addresses {
                        service: server.url.clone(),
                        admin: server.admin.clone(),
                    });
                    process.server = Some(server);
                }
                Err(log) => {
                    last = log;
                    std::thread::sleep(RETRY);
                }
            }
            process.server.is_some()
        });
        assert!(is_started, "node {} did not start:\n{last}", self.number);
    }

    /// Kills the node. Its folders stay.
    pub(crate) fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        *self.addresses.write().unwrap() = None;
        process.server = None;
    }

    /// Stops the process at any instruction, until [`Self::resume`].
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Ends a pause.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        if let Some(server) = &self.process.lock().unwrap().server {
            server.signal(name);
        }
    }
}

impl NodeOptions {
    fn of_start(&self, number: u32) -> Options {
        std::fs::create_dir_all(&self.folder).unwrap();
        Options::drawn()
            .arg("--database", &self.url)
            .arg("--lease", self.lease.as_secs().to_string())
            // Clients make all changes of revisions, so that the history has them.
            .arg("--breaker", "10000")
            .gallery(&self.folder.join("gallery"))
            .state(&self.folder.join("state"))
            .log(&self.folder.join(format!("log-{number}")))
    }
}
