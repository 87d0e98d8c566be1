//! The routes of requests to revisions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::agreement::Agreement;
use super::counterparts::Counterpart;
use super::ready::ReadyRevision;

/// The revisions that serve now. A request is routed once, at its start, and keeps its revision.
#[derive(Debug)]
pub(crate) struct Routes {
    pub active: Arc<ReadyRevision>,
    pub canary: Option<Canary>,
    pub shadow: Option<Shadow>,
    /// Revisions of other contracts for which enrolments are embedded.
    pub counterparts: Vec<Counterpart>,
}

/// A revision that answers a share of the requests.
#[derive(Clone, Debug)]
pub(crate) struct Canary {
    pub ready: Arc<ReadyRevision>,
    pub share: Arc<ShareCounter>,
}

/// A revision that sees a share of the requests, without answering them.
#[derive(Clone, Debug)]
pub(crate) struct Shadow {
    pub ready: Arc<ReadyRevision>,
    pub share: Arc<ShareCounter>,
    pub agreement: Arc<Agreement>,
}

/// Takes a share of requests evenly: for a share of a quarter, every fourth.
#[derive(Debug)]
pub(crate) struct ShareCounter {
    share: f64,
    /// Part of a request that the first one adds to, from 0 to 1.
    phase: f64,
    requests: AtomicU64,
}

impl ShareCounter {
    pub(crate) fn new(share: f64, phase: f64) -> Self {
        Self {
            share,
            phase,
            requests: AtomicU64::new(0),
        }
    }

    /// Counts a request. Returns true if it belongs to the share.
    #[expect(clippy::cast_precision_loss, reason = "2^53 requests are not reached")]
    fn takes(&self) -> bool {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        let taken = |requests: u64| (requests as f64).mul_add(self.share, self.phase).floor();
        taken(before + 1) > taken(before)
    }
}

/// The revision that a caller asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// The active revision, or the canary for its share of requests.
    #[default]
    None,
    /// The canary, if there is one.
    Canary,
    /// The active revision.
    Active,
}

/// The revisions of one request.
#[derive(Debug)]
pub struct RoutedRevision {
    /// The revision that answers.
    pub ready: Arc<ReadyRevision>,
    /// A revision that sees the request as well.
    pub(crate) shadow: Option<Shadow>,
}

impl Routes {
    /// Counts a stream that begins now. Returns true if it belongs to the canary's share.
    pub(crate) fn takes_canary(&self) -> bool {
        let canary = self.canary.as_ref();
        canary.is_some_and(|canary| canary.share.takes())
    }

    /// Returns the revisions of a request that begins now.
    pub(crate) fn route(&self, preference: Preference) -> RoutedRevision {
        let canary = self.canary.as_ref().filter(|canary| match preference {
            Preference::None => canary.share.takes(),
            Preference::Canary => true,
            Preference::Active => false,
        });
        match canary {
            Some(canary) => RoutedRevision {
                ready: Arc::clone(&canary.ready),
                shadow: None,
            },
            None => RoutedRevision {
                ready: Arc::clone(&self.active),
                shadow: self
                    .shadow
                    .as_ref()
                    .filter(|shadow| shadow.share.takes())
                    .cloned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_taken_evenly() {
        let taken_from = |share: f64, phase: f64, requests: usize| -> Vec<bool> {
            let share = ShareCounter::new(share, phase);
            (0..requests).map(|_| share.takes()).collect()
        };
        let taken = |share, requests| taken_from(share, 0.0, requests);
        assert_eq!(
            taken(0.25, 8),
            [false, false, false, true, false, false, false, true]
        );
        assert_eq!(
            taken_from(0.25, 0.5, 8),
            [false, true, false, false, false, true, false, false]
        );
        assert_eq!(taken(0.0, 4), [false; 4]);
        assert_eq!(taken(1.0, 4), [true; 4]);
        assert_eq!(
            taken(0.1, 1000).into_iter().filter(|taken| *taken).count(),
            100
        );
    }
}
