//! A revision that can serve now, and the outcomes of its requests.

pub(super) mod breaker;
pub(super) mod fleet_health;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rostro_common::digest::Sha256Digest;
use rostro_sandbox::error::RunError;
use rostro_sandbox::pipeline::revision::Revision;

use super::record::{RevisionInfo, RevisionSpec};
use crate::error::ServiceError;
use crate::people::{PeopleError, View};
use breaker::{Excess, RecentRequests, Rule, TRIP_TIME, Window};

/// A revision with its models, and the people as it sees them.
#[derive(Debug)]
pub struct ReadyRevision {
    pub revision: Arc<Revision>,
    pub view: Arc<View>,
    pub health: Health,
    /// The parts that it was made of.
    pub(super) spec: RevisionSpec,
}

impl ReadyRevision {
    pub(super) fn new(revision: Arc<Revision>, view: Arc<View>, spec: RevisionSpec) -> Arc<Self> {
        Arc::new(Self {
            revision,
            view,
            health: Health::new(),
            spec,
        })
    }

    /// Returns the revision's id.
    pub fn id(&self) -> Sha256Digest {
        self.revision.digest()
    }

    /// Returns the names and the contract that its components report.
    pub(super) fn info(&self) -> RevisionInfo {
        let policy = self.revision.policy_identity();
        RevisionInfo {
            name: self.revision.name().to_owned(),
            version: self.revision.version().to_owned(),
            policy: policy.name.clone(),
            policy_version: policy.version.clone(),
            contract: self.revision.contract().id.to_string(),
        }
    }

    /// Logs an error if people are stored and this revision recognises none of them.
    pub fn report_if_all_people_are_lost(&self) {
        if let (0, people @ 1..) = self.view.counts() {
            tracing::error!(
                people,
                revision = self.id().short(),
                "nobody is recognised: all stored people were enrolled under another contract; go back to the pack or revision before \
                 (--pack, `rostro pipeline rollback`), or enrol them again"
            );
        }
    }
}

/// Outcome of a request on a revision, for the circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The revision did its work.
    Success,
    /// The request says nothing about the revision: its image was unusable, or time was short.
    Ignored,
    /// The revision failed, with this cause.
    Failure(String),
}

impl Outcome {
    /// Returns the outcome of a request that had `time` until its deadline.
    pub(crate) fn of<T>(result: &Result<T, ServiceError>, time: Duration) -> Self {
        match result {
            Ok(_) => Self::Success,
            Err(ServiceError::Run(error) | ServiceError::People(PeopleError::Run(error)))
                if is_fault(error, time) =>
            {
                Self::Failure(error.to_string())
            }
            Err(_) => Self::Ignored,
        }
    }

    /// Returns a failure if there was a `fault` that did not fail the request.
    pub(crate) fn or_failure(self, fault: Option<&str>) -> Self {
        match (self, fault) {
            (Self::Failure(cause), _) => Self::Failure(cause),
            (_, Some(cause)) => Self::Failure(cause.to_owned()),
            (outcome, None) => outcome,
        }
    }
}

/// Counts of a revision's requests and failures.
#[derive(Debug)]
pub struct Health {
    requests: AtomicU64,
    failures: AtomicU64,
    /// Failures since the last success.
    in_a_row: AtomicU32,
    /// Requests of the last minute.
    window: Mutex<Window>,
    /// Cause of the last failure.
    last_cause: Mutex<String>,
    /// The last trip of the breaker on this node of a fleet.
    trip: Mutex<Option<LocalTrip>>,
}

/// A trip of the breaker on this node.
#[derive(Clone, Debug)]
pub(crate) struct LocalTrip {
    at: Instant,
    pub rule: Rule,
}

impl Health {
    fn new() -> Self {
        let window = Mutex::new(Window::new(Instant::now()));
        Self {
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            window,
            last_cause: Mutex::default(),
            trip: Mutex::default(),
        }
    }

    /// Counts a request of a client. Returns the number of failures in a row after a failure, and 0
    /// otherwise.
    pub(crate) fn record(&self, outcome: &Outcome, client: u64) -> u32 {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Outcome::Success => {
                self.window().count(Instant::now(), client, false);
                self.in_a_row.store(0, Ordering::Relaxed);
            }
            Outcome::Ignored => {}
            Outcome::Failure(cause) => {
                self.lock_cause().clone_from(cause);
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.window().count(Instant::now(), client, true);
                return self
                    .in_a_row
                    .fetch_add(1, Ordering::Relaxed)
                    .saturating_add(1);
            }
        }
        0
    }

    /// Returns the share of failures of the last minute if it is too large.
    pub(crate) fn excess(&self) -> Option<Excess> {
        self.window().excess(Instant::now())
    }

    /// Returns true if another client than this asked within the last minute.
    pub(crate) fn has_other_client(&self, client: u64) -> bool {
        self.window().has_other(Instant::now(), client)
    }

    /// Returns the number of failures since the last success.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row.load(Ordering::Relaxed)
    }

    /// Returns the requests of the last minute.
    pub(crate) fn recent(&self) -> RecentRequests {
        self.window().recent(Instant::now())
    }

    /// Returns the cause of the last failure.
    pub(crate) fn last_cause(&self) -> String {
        self.lock_cause().clone()
    }

    fn lock_cause(&self) -> MutexGuard<'_, String> {
        self.last_cause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the breaker tripped on this node.
    pub(crate) fn trip(&self, rule: Rule) {
        *self.lock_trip() = Some(LocalTrip {
            at: Instant::now(),
            rule,
        });
    }

    /// Returns the trip of the last minute.
    pub(crate) fn current_trip(&self) -> Option<LocalTrip> {
        let mut trip = self.lock_trip();
        *trip = trip.take().filter(|trip| trip.at.elapsed() < TRIP_TIME);
        trip.clone()
    }

    fn lock_trip(&self) -> MutexGuard<'_, Option<LocalTrip>> {
        self.trip.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resets the counts that trip the breaker, because the revision is tried again.
    pub(crate) fn reset(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        *self.lock_trip() = None;
        self.reset_share();
    }

    /// Resets the share of failures.
    pub(crate) fn reset_share(&self) {
        self.window().clear();
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of requests, and of those that failed by the revision's fault.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.requests.load(Ordering::Relaxed),
            self.failures.load(Ordering::Relaxed),
        )
    }
}

/// Time until the deadline below which a timeout is no fault of the revision, because the request
/// spent its time in the queue.
const FAIR_TIME: Duration = Duration::from_millis(500);

/// Returns true if a run failed by the revision's fault, and not by the caller's or for lack of
/// time. The run had `time` until its deadline.
fn is_fault(error: &RunError, time: Duration) -> bool {
    match error {
        RunError::Undecodable(_)
        | RunError::TooLarge { .. }
        | RunError::Cancelled
        | RunError::OutOfCapacity(_) => false,
        RunError::Deadline { .. } => time >= FAIR_TIME,
        RunError::Model(_)
        | RunError::Setting { .. }
        | RunError::Limit(_)
        | RunError::Trap { .. }
        | RunError::Output(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_depends_on_fault_and_time() {
        let late = || RunError::Deadline {
            had: Duration::ZERO,
        };
        let model = || RunError::Model("no memory".to_owned());
        for (error, time, is_failure) in [
            (RunError::Undecodable(String::new()), 10_000, false),
            (RunError::Cancelled, 10_000, false),
            (late(), 499, false),
            (late(), 500, true),
            (model(), 0, true),
        ] {
            let time = Duration::from_millis(time);
            let result: Result<(), _> = Err(ServiceError::Run(error));
            let outcome = Outcome::of(&result, time);
            assert_eq!(
                matches!(outcome, Outcome::Failure(_)),
                is_failure,
                "{result:?} {time:?}"
            );
        }
        let unknown: Result<(), _> = Err(ServiceError::UnknownPerson);
        assert_eq!(Outcome::of(&unknown, Duration::MAX), Outcome::Ignored);
        let fault = |outcome: Outcome| outcome.or_failure(Some("one photo"));
        assert_eq!(
            fault(Outcome::Success),
            Outcome::Failure("one photo".to_owned())
        );
        let failed = Outcome::Failure("all".to_owned());
        assert_eq!(fault(failed.clone()), failed);
        assert_eq!(Outcome::Success.or_failure(None), Outcome::Success);
    }
}
