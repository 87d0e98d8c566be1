//! Nodes of the tests.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rostro_common::cores::Cores;
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_database::{FleetOptions, Node, PostgresStore, schema};
use rostro_gallery::{CsvGallery, GalleryError, Store, UnsentLines};
use tempfile::TempDir;

use crate::postgres::OwnDatabase;

use super::{fleet, open};

/// Lease of the nodes.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// A node that applies changes as a service does, unless it is paused.
pub(crate) struct TestNode {
    pub(crate) store: Arc<PostgresStore>,
    pub(crate) folder: TempDir,
    pub(crate) seen: Arc<Mutex<BTreeSet<PersonId>>>,
    pub(crate) is_paused: Arc<AtomicBool>,
    pub(crate) is_over: Arc<AtomicBool>,
    pub(crate) follower: Option<JoinHandle<()>>,
}

impl TestNode {
    pub(crate) fn join(own: &OwnDatabase, name: &str) -> Self {
        Self::try_join(own, fleet(name)).unwrap()
    }

    pub(crate) fn try_join(own: &OwnDatabase, options: FleetOptions) -> Result<Self, GalleryError> {
        let folder = tempfile::tempdir().unwrap();
        let files = CsvGallery::open_locked(&folder.path().join("gallery"), &Instant::now().into())
            .unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir_all(&state).unwrap();
        let unsent = UnsentLines::open(&state).unwrap().into();
        let node = Node { files, unsent };
        let store = Arc::new(PostgresStore::open_node(open(own), node, options).unwrap());
        let people = store.load(&Cores::single()).unwrap().people;
        let mut node = Self {
            store,
            folder,
            seen: Arc::new(Mutex::new(
                people.into_iter().map(|person| person.id).collect(),
            )),
            is_paused: Arc::default(),
            is_over: Arc::default(),
            follower: None,
        };
        node.follower = Some(node.follow());
        let joined = node
            .store
            .join(&(Instant::now() + Duration::from_secs(10)).into());
        if joined.is_err() {
            node.end();
        }
        joined.map(|()| node)
    }

    fn follow(&self) -> JoinHandle<()> {
        let (store, seen) = (Arc::clone(&self.store), Arc::clone(&self.seen));
        let (is_paused, is_over) = (Arc::clone(&self.is_paused), Arc::clone(&self.is_over));
        std::thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                store.wait_for_changes(Duration::from_millis(100));
                if is_paused.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(changes) = store.rescan() else {
                    continue;
                };
                let mut seen = seen.lock().unwrap();
                for id in changes.people.union(&changes.deleted) {
                    let samples = store.read(id).unwrap();
                    store.follow(id, samples.as_deref()).unwrap();
                    match samples {
                        Some(_) => seen.insert(id.clone()),
                        None => seen.remove(id),
                    };
                }
                drop(seen);
                store.acknowledge_rescan();
            }
        })
    }

    pub(crate) fn sees(&self, id: &str) -> bool {
        self.seen.lock().unwrap().contains(&person(id))
    }

    pub(crate) fn enrol(&self, id: &str) {
        let write = self.store.replace(&person(id), &[sample()]).unwrap();
        self.seen.lock().unwrap().insert(person(id));
        self.store.acknowledge(write.number);
    }

    /// Deletes a person, and waits for the other nodes. Returns the nodes that did not answer.
    pub(crate) fn delete(&self, id: &str, limit: Duration) -> Result<Duration, Vec<String>> {
        let begun = Instant::now();
        let deletion = self.store.delete_person(&person(id)).unwrap();
        self.seen.lock().unwrap().remove(&person(id));
        self.store.acknowledge(deletion.number);
        match self.store.wait_applied(&deletion.shared, begun + limit) {
            Ok(()) => Ok(begun.elapsed()),
            Err(pending) => Err(pending.nodes),
        }
    }

    /// Ends as a killed process does.
    pub(crate) fn kill(mut self) {
        self.end();
        std::mem::forget(self.folder);
    }

    pub(crate) fn end(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(follower) = self.follower.take() {
            follower.join().unwrap();
        }
    }
}

pub(crate) fn person(id: &str) -> PersonId {
    id.parse().unwrap()
}

pub(crate) fn sample() -> Sample {
    Sample {
        embedding: vec![0.5, 0.25],
        raw: None,
        contract: Some("1111111111111111".parse().unwrap()),
        det_score: None,
        enrolment: None,
    }
}

pub(crate) fn migrated() -> OwnDatabase {
    let own = OwnDatabase::create();
    schema::migrate(&open(&own), None).unwrap();
    own
}

/// Waits until a condition holds.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    begun.elapsed()
}
