//! Tests with sessions on disk and real receivers.

mod broker;
mod http_receiver;
mod mqtt;
mod outbox;
mod webhook;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rostro_sessions::{
    NamedPerson, NewSession, ObservedFrame, PolicyEvent, SessionId, SessionLimits, SessionStore,
};
use serde_json::{Value, json};

use crate::backoff::BackoffLimits;
use crate::delivery::Delivery;
use crate::receivers::Receivers;
use crate::status::{ReceiverState, ReceiverStatus};

/// Delays for tests.
const LIMITS: BackoffLimits = BackoffLimits {
    first: Duration::from_millis(5),
    longest: Duration::from_millis(100),
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Sessions in a state folder, with a rule of one frame.
struct Sessions {
    folder: tempfile::TempDir,
    store: Arc<SessionStore>,
}

impl Sessions {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = SessionStore::open(folder.path(), SessionLimits::default()).unwrap();
        fs::write(folder.path().join("secret"), SECRET).unwrap();
        Self {
            folder,
            store: Arc::new(store),
        }
    }

    /// Opens the folder anew, as after a crash.
    fn restart(&mut self) {
        let (store, _) = SessionStore::open(self.folder.path(), SessionLimits::default()).unwrap();
        self.store = Arc::new(store);
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn create(&self, stream: &str) -> SessionId {
        let new = NewSession {
            stream: stream.parse().unwrap(),
            group: Some("maths".to_owned()),
            rule: serde_json::from_value(json!({"seen": 1})).unwrap(),
            owner: None,
            revision: "r1".to_owned(),
        };
        self.store.create(new, at(0)).unwrap().id
    }

    /// Makes an event for each person, in a frame of its own.
    fn see(&self, session: SessionId, second: i64, people: &[&str]) {
        for person in people {
            let frame = ObservedFrame {
                seq: None,
                at: at(second),
                people: vec![NamedPerson {
                    id: person.parse().unwrap(),
                    similarity: 0.75,
                }],
                policy_events: Vec::new(),
            };
            let mark = self.store.removal_mark();
            self.store
                .observe(session, frame, mark, at(second))
                .unwrap();
        }
    }

    /// Makes an event of the policy.
    fn note(&self, session: SessionId, second: i64) {
        let frame = ObservedFrame {
            seq: None,
            at: at(second),
            people: Vec::new(),
            policy_events: vec![PolicyEvent {
                code: "hands_up".to_owned(),
                person: None,
                value: None,
                message: "A hand is up.".to_owned(),
            }],
        };
        let mark = self.store.removal_mark();
        self.store
            .observe(session, frame, mark, at(second))
            .unwrap();
    }

    fn remove(&self, person: &str) {
        self.store
            .remove_person(&person.parse().unwrap(), at(1000))
            .unwrap();
    }

    /// Starts the delivery to the receivers of a file.
    fn deliver(&self, toml: &str) -> Delivery {
        let file = self.path().join("receivers.toml");
        fs::write(&file, toml).unwrap();
        let receivers = Receivers::read(&file).unwrap();
        let store = Arc::clone(&self.store);
        Delivery::start_with(receivers, store, self.path(), LIMITS).unwrap()
    }

    /// Returns the numbers of all stored events by session.
    fn numbers(&self) -> BTreeMap<String, Vec<u64>> {
        let positions = self.store.positions().unwrap().into_iter();
        let numbers = |id| {
            let events = self.store.events_after(id, 0, 10_000).unwrap();
            events.iter().map(|event| event.id.number).collect()
        };
        positions
            .map(|position| (position.id.to_string(), numbers(position.id)))
            .collect()
    }
}

/// Returns a time in seconds since 1970.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Returns the numbers of bodies by session, in the order of their arrival. A repeated delivery of
/// the last event counts once.
fn numbers_of(bodies: &[Value]) -> BTreeMap<String, Vec<u64>> {
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for body in bodies {
        let (session, number) = body["id"].as_str().unwrap().rsplit_once('-').unwrap();
        let numbers = numbers.entry(session.to_owned()).or_default();
        let number = number.parse().unwrap();
        if numbers.last() != Some(&number) {
            numbers.push(number);
        }
    }
    numbers
}

/// Waits until a condition holds.
fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the status of a receiver.
fn status(delivery: &Delivery, name: &str) -> ReceiverStatus {
    let mut all = delivery.status().into_iter();
    all.find(|status| status.name == name).unwrap()
}

fn is_in_state(delivery: &Delivery, name: &str, state: ReceiverState) -> bool {
    status(delivery, name).state == state
}
