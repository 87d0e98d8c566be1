//! Upgrade of a fleet node by node, to a program with one migration more, under load.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use tempfile::TempDir;
use ureq::http::Method;

use crate::database::migrated;
use crate::fleet::hammer::people::Person;
use crate::harness::{
    Client, FORM, Options, Server, command_of, eventually, file, multipart, next_program,
    output_of, program, text,
};
use crate::postgres::OwnDatabase;

/// Names of the nodes.
const NODES: [&str; 2] = ["one", "two"];

/// Interval of the balancer's health checks.
const CHECK: Duration = Duration::from_millis(100);

/// Clients of the balancer.
const CLIENTS: usize = 4;

/// Balancer in front of the nodes, as `docs/deploy/haproxy.cfg`: a node gets requests while its
/// health check passes. Only a request without a connection is sent to the other one.
#[derive(Debug, Default)]
struct Balancer {
    nodes: [RwLock<Backend>; 2],
    turns: AtomicUsize,
}

#[derive(Clone, Debug, Default)]
struct Backend {
    /// Address of a node that is started.
    url: String,
    is_healthy: bool,
}

impl Balancer {
    /// Checks the nodes while `goes_on` returns true.
    fn check(&self, goes_on: impl Fn() -> bool) {
        while goes_on() {
            for node in &self.nodes {
                let url = node.read().unwrap().url.clone();
                let answer = Client::new(&url).send(Method::GET, "/readyz", &[], &[]);
                let is_healthy = answer.is_ok_and(|answer| answer.status == 200);
                let mut node = node.write().unwrap();
                if node.url == url {
                    node.is_healthy = is_healthy;
                }
            }
            std::thread::sleep(CHECK);
        }
    }

    /// Sends a request to the healthy nodes, in turns. Returns the error if it does not succeed.
    fn send(&self, path: &str, content_type: &str, body: &[u8]) -> Result<(), String> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let mut error = "no node is healthy".to_owned();
        for node in [turn, turn + 1].map(|turn| &self.nodes[turn % 2]) {
            let Backend { url, is_healthy } = node.read().unwrap().clone();
            if !is_healthy {
                continue;
            }
            let headers = [("content-type", content_type)];
            error = match Client::new(&url).send(Method::POST, path, &headers, body) {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Err(ureq::Error::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                    continue;
                }
                Ok(answer) => format!("{path}: {} {}", answer.status, answer.json),
                Err(error) => format!("{path}: {error}"),
            };
            break;
        }
        Err(error)
    }

    fn is_healthy(&self, node: usize) -> bool {
        self.nodes[node].read().unwrap().is_healthy
    }
}

/// What the clients did.
#[derive(Debug, Default)]
struct Counts {
    enrolled: Mutex<Vec<Person>>,
    recognitions: AtomicUsize,
    errors: Mutex<Vec<String>>,
}

/// Enrols people and has them recognised while `goes_on` returns true.
fn send_requests(client: usize, balancer: &Balancer, counts: &Counts, goes_on: impl Fn() -> bool) {
    for number in 0.. {
        if !goes_on() {
            return;
        }
        let person = Person::new(format!("person-{client}-{number}"));
        let photo = file("images", "photo.png", person.picture.to_vec());
        let form = multipart(&[text("student_id", &person.id), photo]);
        let enrolled = balancer.send("/process-images", FORM, &form);
        let recognitions =
            (0..4).map(|_| balancer.send("/process_frame", "image/png", &person.picture));
        let outcomes: Vec<_> = std::iter::once(enrolled).chain(recognitions).collect();
        let errors = outcomes.iter().filter_map(|outcome| outcome.clone().err());
        counts.errors.lock().unwrap().extend(errors);
        counts.recognitions.fetch_add(4, Ordering::Relaxed);
        counts.enrolled.lock().unwrap().push(person);
    }
}

/// Node with folders that survive its restart.
struct Node {
    name: &'static str,
    folder: TempDir,
}

impl Node {
    fn new(name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { name, folder }
    }

    fn start(&self, program: &Path, database: &OwnDatabase) -> Server {
        Options::drawn()
            .program(program)
            .arg("--database", database.url())
            .arg("--node", self.name)
            .gallery(&self.folder.path().join("gallery"))
            .state(&self.folder.path().join("state"))
            .start()
    }
}

/// Returns a command of a program on the database.
fn on_database(program: &Path, args: &[&str], database: &OwnDatabase) -> Command {
    let mut command = command_of(program);
    command.args(args).args(["--database", database.url()]);
    command
}

/// Nodes of two builds serve together, and no request fails while one replaces the other.
#[test]
fn rolling_upgrade_fails_no_request() {
    let (old, new): (PathBuf, PathBuf) = (program("rostro"), next_program());
    let database = migrated();
    let nodes = NODES.map(Node::new);
    let mut servers = nodes.each_ref().map(|node| node.start(&old, &database));
    let (balancer, counts, is_over) = (
        Balancer::default(),
        Counts::default(),
        AtomicBool::new(false),
    );
    let set = |node: usize, server: &Server| {
        *balancer.nodes[node].write().unwrap() = Backend {
            url: server.url.clone(),
            is_healthy: false,
        };
    };
    for (node, server) in servers.iter().enumerate() {
        set(node, server);
    }
    let goes_on = || !is_over.load(Ordering::Relaxed);
    let wait_for_load = |more: usize| {
        let wanted = counts.recognitions.load(Ordering::Relaxed) + more;
        eventually("further recognitions", || {
            counts.recognitions.load(Ordering::Relaxed) >= wanted
        });
    };
    std::thread::scope(|scope| {
        let (balancer, counts) = (&balancer, &counts);
        // Also if an assertion fails, because the clients would go on for ever.
        let _end = scopeguard::guard((), |()| is_over.store(true, Ordering::Relaxed));
        scope.spawn(move || balancer.check(goes_on));
        eventually("both nodes are healthy", || {
            (0..2).all(|node| balancer.is_healthy(node))
        });
        for client in 0..CLIENTS {
            scope.spawn(move || send_requests(client, balancer, counts, goes_on));
        }
        wait_for_load(20);
        let migration = output_of(&mut on_database(&new, &["database", "migrate"], &database));
        assert!(migration.contains("__next"), "{migration}");
        wait_for_load(20);
        // A node of the old program still starts.
        let mut third = Node::new("three").start(&old, &database);
        assert_eq!(third.terminate(), Some(0));
        for (index, node) in nodes.iter().enumerate() {
            let drain = ["nodes", "drain", node.name];
            output_of(&mut on_database(&old, &drain, &database));
            eventually("the balancer notices", || !balancer.is_healthy(index));
            assert_eq!(servers[index].terminate(), Some(0));
            servers[index] = node.start(&new, &database);
            set(index, &servers[index]);
            eventually("the node is healthy", || balancer.is_healthy(index));
            wait_for_load(20);
        }
    });
    assert_eq!(*counts.errors.lock().unwrap(), Vec::<String>::new());
    let enrolled = counts.enrolled.lock().unwrap();
    assert!(enrolled.len() > CLIENTS);
    for server in &servers {
        for person in enrolled.iter() {
            assert_eq!(server.names(person.picture.to_vec()), [person.id.as_str()]);
        }
    }
}
