//! Which revision serves a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counterparts::Counterpart;
use super::live::ReadyRevision;
use crate::deployment::agreement::Agreement;

/// Where requests go now. A request takes its revision once, at its start, and keeps it to its end.
#[derive(Debug)]
pub(crate) struct Routes {
    pub active: Arc<ReadyRevision>,
    pub canary: Option<Canary>,
    pub shadow: Option<Shadow>,
    /// Revisions of other contracts that enrolments are embedded for.
    pub counterparts: Vec<Counterpart>,
}

/// A revision whose answers some requests get.
#[derive(Clone, Debug)]
pub(crate) struct Canary {
    /// The revision that answers.
    pub live: Arc<ReadyRevision>,
    pub share: Arc<ShareCounter>,
}

/// A revision that sees some requests beside the active one.
#[derive(Clone, Debug)]
pub(crate) struct Shadow {
    pub live: Arc<ReadyRevision>,
    pub share: Arc<ShareCounter>,
    pub agreement: Arc<Agreement>,
}

/// Takes a share of requests, evenly: of a share of a quarter every fourth.
#[derive(Debug)]
pub(crate) struct ShareCounter {
    share: f64,
    seen: AtomicU64,
}

impl ShareCounter {
    pub(crate) fn new(share: f64) -> Self {
        Self {
            share,
            seen: AtomicU64::new(0),
        }
    }

    /// Whether the next request is of the share.
    #[expect(
        clippy::cast_precision_loss,
        reason = "2^53 requests are some time off"
    )]
    fn takes(&self) -> bool {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        let due = |requests: u64| (requests as f64 * self.share).floor();
        due(seen + 1) > due(seen)
    }
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// Whatever is due.
    #[default]
    None,
    /// The canary, if there is one.
    Canary,
    /// The active revision.
    Active,
}

/// What a request is served by.
#[derive(Debug)]
pub struct RoutedRevision {
    /// The revision that answers.
    pub live: Arc<ReadyRevision>,
    /// What else shall see it.
    pub(crate) shadow: Option<Shadow>,
}

impl Routes {
    /// Takes what serves a request that begins now.
    pub(crate) fn take(&self, preference: Preference) -> RoutedRevision {
        let canary = self.canary.as_ref().filter(|canary| match preference {
            Preference::None => canary.share.takes(),
            Preference::Canary => true,
            Preference::Active => false,
        });
        match canary {
            Some(canary) => RoutedRevision {
                live: Arc::clone(&canary.live),
                shadow: None,
            },
            None => RoutedRevision {
                live: Arc::clone(&self.active),
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
    fn a_share_is_taken_evenly() {
        let taken = |share: f64, of: usize| -> Vec<bool> {
            let share = ShareCounter::new(share);
            (0..of).map(|_| share.takes()).collect()
        };
        assert_eq!(
            taken(0.25, 8),
            [false, false, false, true, false, false, false, true]
        );
        assert_eq!(taken(0.0, 4), [false; 4]);
        assert_eq!(taken(1.0, 4), [true; 4]);
        assert_eq!(
            taken(0.1, 1000).into_iter().filter(|taken| *taken).count(),
            100
        );
    }
}
