//! Operator of the fleet: activates revisions and rolls back at random nodes.

use std::time::Duration;

use fastrand::Rng;

use super::checker::routes::LATE;
use super::cluster::Cluster;
use super::history::{History, Outcome};
use super::load::Caller;
use crate::harness::{component, eventually, holds_within};

/// Query that makes a second revision of the same component.
const VARIANT: &str = "limits=memory-mib%3D500";

/// Answered changes before and after the load.
pub(super) const OUTSIDE_LOAD: usize = 3;

/// Longest pause between two changes.
const PAUSE: Duration = Duration::from_millis(600);

/// Operator who knows two revisions, which recognise the same people.
#[derive(Debug)]
pub(crate) struct Operator<'c> {
    cluster: &'c Cluster,
    history: &'c History,
    revisions: [String; 2],
    unclear: Option<Unclear>,
}

/// A change without an answer. It is repeated until it is answered or refused. No other change
/// follows while it may take effect, because that would excuse the revision that it makes active.
#[derive(Debug)]
struct Unclear {
    change: RouteChange,
    is_repeated: bool,
    until: Duration,
}

/// Changes that follow each other, from the first revision. Each has an effect.
const CYCLE: [RouteChange; 4] = [
    RouteChange::Activate(1),
    RouteChange::RollBack,
    RouteChange::Activate(1),
    RouteChange::Activate(0),
];

#[derive(Clone, Copy, Debug)]
enum RouteChange {
    Activate(usize),
    RollBack,
}

impl<'c> Operator<'c> {
    /// Pushes the second revision, and waits until all nodes have staged it.
    pub(crate) fn prepare(cluster: &'c Cluster, history: &'c History) -> Self {
        let caller = caller(cluster, history, 0).unwrap();
        let statuses = caller.read("/v1/revisions").unwrap();
        let first = statuses["active"].as_str().unwrap().to_owned();
        let bytes = std::fs::read(component("insightface")).unwrap();
        let second = caller.push(&bytes, VARIANT);
        let path = format!("/v1/revisions/{second}");
        eventually("all nodes stage the second revision", || {
            let status = caller.read(&path).unwrap();
            let nodes = status["nodes"].as_array().unwrap();
            let staged = nodes.iter().filter(|node| node["state"] == "staged");
            staged.count() == cluster.nodes.len()
        });
        // The history begins with a known revision, and another one that was active.
        for revision in [&second, &first] {
            eventually("the activation", || {
                caller.activate(revision) == Outcome::Answered
            });
        }
        Self {
            cluster,
            history,
            revisions: [first, second],
            unclear: None,
        }
    }

    /// Returns the active revision before the first change, and the other one.
    pub(crate) fn revisions(&self) -> &[String; 2] {
        &self.revisions
    }

    /// Makes changes at random nodes while `goes_on` returns true.
    pub(crate) fn change(&mut self, rng: &mut Rng, goes_on: impl Fn() -> bool) {
        let mut changes = CYCLE.into_iter().cycle();
        while goes_on() {
            std::thread::sleep(PAUSE.mul_f64(rng.f64()));
            match &self.unclear {
                Some(unclear) if !unclear.is_repeated => {
                    let change = unclear.change;
                    self.make(change, rng);
                }
                Some(unclear) if self.history.now() < unclear.until => {}
                _ => {
                    self.unclear = None;
                    if let Some(change) = changes.next() {
                        self.make(change, rng);
                    }
                }
            }
        }
    }

    fn make(&mut self, change: RouteChange, rng: &mut Rng) -> Option<Outcome> {
        let node = rng.usize(..self.cluster.nodes.len());
        let caller = caller(self.cluster, self.history, node)?;
        let outcome = match change {
            RouteChange::Activate(index) => caller.activate(&self.revisions[index]),
            RouteChange::RollBack => caller.roll_back(),
        };
        match (&outcome, &mut self.unclear) {
            (Outcome::Unclear(_), unclear) => {
                *unclear = Some(Unclear {
                    change,
                    is_repeated: false,
                    until: self.history.now() + LATE,
                });
            }
            (Outcome::Answered | Outcome::Refused(_), Some(unclear)) => unclear.is_repeated = true,
            _ => {}
        }
        Some(outcome)
    }

    /// Activates the first revision, so that all nodes serve by it at the end.
    pub(crate) fn finish(&mut self, rng: &mut Rng, limit: Duration) {
        let is_answered = holds_within(limit, || {
            let outcome = self.make(RouteChange::Activate(0), rng);
            outcome == Some(Outcome::Answered)
        });
        assert!(is_answered, "no activation was answered within {limit:?}");
    }
}

/// Returns a client of a node; none while it is not running.
pub(super) fn caller<'h>(
    cluster: &Cluster,
    history: &'h History,
    node: usize,
) -> Option<Caller<'h>> {
    Some(Caller {
        history,
        node,
        addresses: cluster.nodes[node].addresses()?,
    })
}
