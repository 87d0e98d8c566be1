//! A revision that can serve now, and how it fares.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rostro_common::digest::Sha256Digest;
use rostro_sandbox::error::RunError;
use rostro_sandbox::pipeline::revision::Revision;

use super::breaker::{Excess, Window};
use crate::people::View;

/// A revision with its models, and the people as it sees them.
#[derive(Debug)]
pub struct ReadyRevision {
    pub revision: Arc<Revision>,
    pub view: Arc<View>,
    pub health: Health,
}

impl ReadyRevision {
    pub(crate) fn new(revision: Arc<Revision>, view: Arc<View>) -> Arc<Self> {
        Arc::new(Self {
            revision,
            view,
            health: Health::new(),
        })
    }

    pub fn id(&self) -> Sha256Digest {
        self.revision.digest()
    }

    /// Logs an error if people are stored and this revision recognises none of them.
    pub fn report_if_everybody_is_lost(&self) {
        if let (0, people @ 1..) = self.view.counts() {
            tracing::error!(
                people,
                revision = self.id().short(),
                "nobody is recognised: everybody who is stored was enrolled under another contract; go back to the pack or revision before \
                 (--pack, `rostro pipeline rollback`), or enrol them again"
            );
        }
    }
}

/// What a request says of the revision that worked on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did its work.
    Success,
    /// Nothing: the caller's image was no image, or time was short.
    Ignored,
    /// It failed, with this cause.
    Failure(String),
}

/// How a revision's requests went.
#[derive(Debug)]
pub struct Health {
    requests: AtomicU64,
    failures: AtomicU64,
    /// Failures since the last request that went well.
    in_a_row: AtomicU32,
    /// Requests of the last minute.
    window: Mutex<Window>,
}

impl Health {
    fn new() -> Self {
        let window = Mutex::new(Window::new(Instant::now()));
        Self {
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            window,
        }
    }

    /// Counts a request of a client; how many have failed in a row by now.
    pub(crate) fn note(&self, verdict: &Outcome, client: u64) -> u32 {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match verdict {
            Outcome::Success => {
                self.window().count(Instant::now(), client, false);
                self.in_a_row.store(0, Ordering::Relaxed);
            }
            Outcome::Ignored => {}
            Outcome::Failure(_) => {
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

    /// Returns the failures since the last request that went well.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row.load(Ordering::Relaxed)
    }

    /// Begins to count anew: it is tried again.
    pub(crate) fn forgive(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        self.forget_share();
    }

    /// Begins to count the share anew.
    pub(crate) fn forget_share(&self) {
        self.window().clear();
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests, and those that failed by the revision's fault.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.requests.load(Ordering::Relaxed),
            self.failures.load(Ordering::Relaxed),
        )
    }
}

/// A run that had less time than this, because it waited for its turn, is not to blame for its
/// deadline.
const FAIR: Duration = Duration::from_millis(500);

/// Whether a run that had `time` until its deadline failed by the revision's fault, and not by the
/// caller's or for want of time.
pub(crate) fn is_at_fault(error: &RunError, time: Duration) -> bool {
    match error {
        RunError::Undecodable(_)
        | RunError::TooLarge { .. }
        | RunError::Cancelled
        | RunError::OutOfCapacity(_) => false,
        RunError::Deadline { .. } => time >= FAIR,
        RunError::Model(_)
        | RunError::Setting { .. }
        | RunError::Limit(_)
        | RunError::Trap { .. }
        | RunError::Output(_) => true,
    }
}
