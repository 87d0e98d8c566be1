//! Load of the fleet: clients that send a random mix of requests to random nodes.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use ureq::http::Method;

use super::cluster::{Addresses, Cluster};
use super::history::{History, Operation, Outcome};
use super::people::{Choice, People, Person};
use crate::harness::{Answer, Client, FORM, file, multipart, text};

/// Number of groups.
const GROUPS: usize = 3;

/// Time after which a client gives up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Pause of a client after it found no node, or its request failed.
const PAUSE: Duration = Duration::from_millis(50);

/// Clients, and what they share.
#[derive(Debug)]
pub(crate) struct Load<'c> {
    cluster: &'c Cluster,
    history: &'c History,
    people: People,
    /// Deleted people, for the watcher of each node.
    deleted: Vec<Sender<Person>>,
}

/// A client that asks one node for people who were just deleted.
#[derive(Debug)]
pub(crate) struct Watcher {
    node: usize,
    deleted: Receiver<Person>,
}

impl<'c> Load<'c> {
    /// Returns the load of this number of people at a time, and a watcher for each node.
    pub(crate) fn new(
        cluster: &'c Cluster,
        history: &'c History,
        people: usize,
    ) -> (Self, Vec<Watcher>) {
        let watched = cluster.nodes.iter().map(|node| {
            let (sender, deleted) = channel();
            let node = node.number;
            (sender, Watcher { node, deleted })
        });
        let (deleted, watchers) = watched.unzip();
        let load = Self {
            cluster,
            history,
            people: People::new(people),
            deleted,
        };
        (load, watchers)
    }

    /// Sends random requests to a node, one after another, while `goes_on` returns true. A client
    /// has one node, because otherwise all clients would soon wait for a node that is paused.
    pub(crate) fn send(&self, node: usize, rng: &mut Rng, goes_on: impl Fn() -> bool) {
        while goes_on() {
            let Some(caller) = self.caller(node) else {
                std::thread::sleep(PAUSE);
                continue;
            };
            let choice = self.people.choose(rng);
            let group = group(rng.usize(..GROUPS));
            let outcome = match rng.usize(..100) {
                0..40 => caller.recognize(&choice.person, None),
                40..50 => caller.recognize(&choice.person, Some(&group)),
                50..56 => self.change(&choice, || caller.leave(&choice.person, &group)),
                // Of a spent person, deletions alone are of use.
                56..78 if !choice.is_spent => {
                    let enrolled = self.change(&choice, || caller.enroll(&choice.person));
                    if enrolled == Outcome::Answered && rng.bool() {
                        self.change(&choice, || caller.join(&choice.person, &group));
                    }
                    enrolled
                }
                78..82 if !choice.is_spent => {
                    self.change(&choice, || caller.join(&choice.person, &group))
                }
                _ => self.delete(&caller, &choice, rng),
            };
            if matches!(outcome, Outcome::Unclear(_)) {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Asks a node for deleted people while `goes_on` returns true.
    pub(crate) fn watch(&self, watcher: &Watcher, goes_on: impl Fn() -> bool) {
        while goes_on() {
            if let Ok(person) = watcher.deleted.recv_timeout(PAUSE)
                && let Some(caller) = self.caller(watcher.node)
            {
                caller.recognize(&person, None);
            }
        }
    }

    fn caller(&self, node: usize) -> Option<Caller<'c>> {
        Some(Caller {
            history: self.history,
            node,
            addresses: self.cluster.nodes[node].addresses()?,
        })
    }

    fn change(&self, choice: &Choice, request: impl FnOnce() -> Outcome) -> Outcome {
        let outcome = request();
        if matches!(outcome, Outcome::Unclear(_)) {
            self.people.spend(choice);
        }
        outcome
    }

    fn delete(&self, caller: &Caller<'_>, choice: &Choice, rng: &mut Rng) -> Outcome {
        let outcome = self.change(choice, || caller.delete(&choice.person));
        if outcome == Outcome::Answered {
            for watcher in &self.deleted {
                // A watcher may have ended.
                let _ = watcher.send(choice.person.clone());
            }
            // The others are enrolled again under the id.
            if choice.is_spent || rng.usize(..4) == 0 {
                self.people.replace(choice);
            }
        }
        outcome
    }
}

/// A client of one node, which records what it does.
#[derive(Debug)]
pub(crate) struct Caller<'h> {
    pub(crate) history: &'h History,
    pub(crate) node: usize,
    pub(crate) addresses: Addresses,
}

impl Caller<'_> {
    pub(crate) fn enroll(&self, person: &Person) -> Outcome {
        let parts = [
            text("student_id", &person.id),
            file("images", "photo.png", person.picture.to_vec()),
        ];
        let body = multipart(&parts);
        let headers = [("content-type", FORM)];
        self.change(
            Operation::Enroll {
                person: person.id.clone(),
            },
            || {
                self.service()
                    .send(Method::POST, "/process-images", &headers, &body)
            },
        )
    }

    pub(crate) fn delete(&self, person: &Person) -> Outcome {
        let path = format!("/v1/people/{}", person.id);
        self.change(
            Operation::Delete {
                person: person.id.clone(),
            },
            || self.admin().send(Method::DELETE, &path, &[], &[]),
        )
    }

    fn join(&self, person: &Person, group: &str) -> Outcome {
        let path = format!("/v1/groups/{group}/people/{}", person.id);
        self.change(
            Operation::Join {
                person: person.id.clone(),
                group: group.to_owned(),
            },
            || self.admin().send(Method::PUT, &path, &[], &[]),
        )
    }

    fn leave(&self, person: &Person, group: &str) -> Outcome {
        let path = format!("/v1/groups/{group}/people/{}", person.id);
        self.change(
            Operation::Leave {
                person: person.id.clone(),
                group: group.to_owned(),
            },
            || self.admin().send(Method::DELETE, &path, &[], &[]),
        )
    }

    fn change(
        &self,
        operation: Operation,
        request: impl FnOnce() -> Result<Answer, ureq::Error>,
    ) -> Outcome {
        self.history
            .record(self.node, || (operation, outcome_of(&request())))
    }

    pub(crate) fn recognize(&self, person: &Person, group: Option<&str>) -> Outcome {
        let path = match group {
            Some(group) => format!("/process_frame?group={group}"),
            None => "/process_frame".to_owned(),
        };
        self.send_frame(&path, person).0
    }

    /// Activates a revision.
    pub(crate) fn activate(&self, revision: &str) -> Outcome {
        let path = format!("/v1/revisions/{revision}/activate");
        self.change(
            Operation::Activate {
                revision: revision.to_owned(),
            },
            || self.admin().send(Method::POST, &path, &[], &[]),
        )
    }

    /// Activates the previous revision.
    pub(crate) fn roll_back(&self) -> Outcome {
        self.history.record(self.node, || {
            let answer = self.admin().send(Method::POST, "/v1/rollback", &[], &[]);
            let outcome = outcome_of(&answer);
            let answered = answer.ok().filter(|_| outcome == Outcome::Answered);
            let revision = answered.map(|answer| id_of(&answer.json["revision"]));
            (Operation::RollBack { revision }, outcome)
        })
    }

    /// Pushes a component, and returns the id of its revision.
    pub(crate) fn push(&self, component: &[u8], query: &str) -> String {
        let path = format!("/v1/revisions?{query}");
        let answer = self.admin().send(Method::POST, &path, &[], component);
        let answer = answer.unwrap();
        assert!(matches!(answer.status, 200 | 202), "{}", answer.json);
        id_of(&answer.json["revision"])
    }

    /// Returns true if the node recognises a person in a picture of theirs.
    pub(crate) fn recognizes(&self, person: &Person) -> bool {
        let (_, nearest) = self.send_frame("/process_frame", person);
        nearest.as_ref() == Some(&person.id)
    }

    /// Has a person's picture recognised. Returns the outcome and the nearest person.
    fn send_frame(&self, path: &str, person: &Person) -> (Outcome, Option<String>) {
        let mut nearest = None;
        let outcome = self.history.record(self.node, || {
            let headers = [("content-type", "image/png")];
            let answer = self
                .service()
                .send(Method::POST, path, &headers, &person.picture);
            nearest = answer.as_ref().ok().and_then(nearest_of);
            let recognition = Operation::Recognize {
                person: person.id.clone(),
                names: answer.as_ref().map(named).unwrap_or_default(),
                revision: answer.as_ref().ok().and_then(revision_of),
                is_stale: answer
                    .as_ref()
                    .is_ok_and(|answer| answer.headers.contains_key("x-rostro-stale")),
            };
            (recognition, outcome_of(&answer))
        });
        (outcome, nearest)
    }

    /// Reads a path of the admin interface.
    pub(crate) fn read(&self, path: &str) -> Option<Value> {
        let answer = self.admin().send(Method::GET, path, &[], &[]).ok()?;
        (answer.status == 200).then_some(answer.json)
    }

    fn service(&self) -> Client {
        Client::with_timeout(&self.addresses.service, PATIENCE)
    }

    fn admin(&self) -> Client {
        Client::with_timeout(&self.addresses.admin, PATIENCE)
    }
}

/// Classifies an answer. Only errors of the client say that nothing happened or will happen.
fn outcome_of(answer: &Result<Answer, ureq::Error>) -> Outcome {
    let Ok(answer) = answer else {
        return Outcome::Unclear("no answer".to_owned());
    };
    let code = answer.json.pointer("/code").and_then(Value::as_str);
    let text = format!("{} {}", answer.status, code.unwrap_or_default());
    match answer.status {
        200 => Outcome::Answered,
        400..500 => Outcome::Refused(text),
        _ => Outcome::Unclear(text),
    }
}

fn faces(answer: &Answer) -> impl Iterator<Item = &Value> {
    let faces = answer.json.pointer("/recognized_faces");
    faces.and_then(Value::as_array).into_iter().flatten()
}

fn candidates(face: &Value) -> impl Iterator<Item = &str> {
    let candidates = face.pointer("/candidates").and_then(Value::as_array);
    candidates.into_iter().flatten().filter_map(identity)
}

fn identity(json: &Value) -> Option<&str> {
    json.pointer("/identity")?.as_str()
}

/// Returns every id in an answer, also those of candidates.
fn named(answer: &Answer) -> BTreeSet<String> {
    faces(answer)
        .flat_map(|face| candidates(face).chain(identity(face)))
        .filter(|name| *name != "Unknown")
        .map(str::to_owned)
        .collect()
}

/// Returns the person nearest to the first face, at least as near as a face that is recognised.
fn nearest_of(answer: &Answer) -> Option<String> {
    let nearest = faces(answer).next()?.pointer("/candidates/0")?;
    let is_near = nearest.pointer("/similarity")?.as_f64()? > 0.9;
    is_near.then(|| identity(nearest).map(str::to_owned))?
}

fn revision_of(answer: &Answer) -> Option<String> {
    let revision = answer.json.pointer("/pipeline/digest")?.as_str()?;
    Some(revision.to_owned())
}

fn id_of(revision: &Value) -> String {
    revision["id"].as_str().unwrap().to_owned()
}

fn group(number: usize) -> String {
    format!("door-{number}")
}
