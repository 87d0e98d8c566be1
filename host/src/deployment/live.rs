//! A revision that can serve now, and how it fares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::digest::Sha256Digest;
use crate::people::View;
use crate::revision::Revision;
use crate::run::RunError;

/// A revision with its models, and the people as it sees them.
#[derive(Debug)]
pub(crate) struct Live {
    pub revision: Arc<Revision>,
    pub view: Arc<View>,
    pub health: Health,
}

impl Live {
    pub(crate) fn new(revision: Arc<Revision>, view: Arc<View>) -> Arc<Self> {
        Arc::new(Self { revision, view, health: Health::default() })
    }

    pub(crate) fn id(&self) -> Sha256Digest {
        self.revision.digest()
    }
}

/// What a request says of the revision that worked on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It did its work.
    Well,
    /// Nothing: the caller's image was no image, or time was short.
    Neither,
    /// It failed, with this cause.
    AtFault(String),
}

/// How a revision's requests went.
#[derive(Debug, Default)]
pub(crate) struct Health {
    requests: AtomicU64,
    failures: AtomicU64,
    /// Failures since the last request that went well.
    in_a_row: AtomicU32,
}

impl Health {
    /// Takes note of a request; how many have failed in a row by now.
    pub(crate) fn note(&self, verdict: &Verdict) -> u32 {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match verdict {
            Verdict::Well => self.in_a_row.store(0, Ordering::Relaxed),
            Verdict::Neither => {}
            Verdict::AtFault(_) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                return self.in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            }
        }
        0
    }

    /// Begins to count anew: it is tried again.
    pub(crate) fn forgive(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
    }

    /// Requests, and those that failed by the revision's fault.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }
}

/// A run that had less time than this, because it waited for its turn, is not to blame for its deadline.
const FAIR: Duration = Duration::from_millis(500);

/// Whether a run that had `time` until its deadline failed by the revision's fault, and not by the caller's or for want of time.
pub(crate) fn is_at_fault(error: &RunError, time: Duration) -> bool {
    match error {
        RunError::Undecodable(_) | RunError::TooLarge { .. } | RunError::Cancelled | RunError::Crowded(_) => false,
        RunError::Deadline { .. } => time >= FAIR,
        RunError::Model(_) | RunError::Limit(_) | RunError::Trap { .. } | RunError::Output(_) => true,
    }
}
