//! For how long work is wanted.

use std::time::Instant;

use tokio_util::sync::{CancellationToken, DropGuard};

/// For how long work is wanted: until a deadline, and no longer than somebody waits for it. Clones
/// are of one and the same work.
#[derive(Clone, Debug)]
pub struct Wanted {
    until: Instant,
    cancelled: CancellationToken,
}

impl Wanted {
    /// What is wanted by whoever holds the guard: dropped, it cancels the work, and disarmed, when
    /// there was an answer, it does not.
    pub fn by_a_waiter(until: Instant) -> (Self, DropGuard) {
        let wanted = Self::from(until);
        let waiter = wanted.cancelled.clone().drop_guard();
        (wanted, waiter)
    }

    /// Wanted until a time, unless the token is cancelled before.
    pub(crate) fn cancelled_by(cancelled: CancellationToken, until: Instant) -> Self {
        Self { until, cancelled }
    }

    /// The same, at most until `end`.
    pub fn at_most_until(&self, end: Instant) -> Self {
        Self {
            until: self.until.min(end),
            cancelled: self.cancelled.clone(),
        }
    }

    /// When it is not wanted any more at the latest.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Whether nobody waits for it any more, although there was time.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Whether it is not wanted any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_cancelled() || Instant::now() >= self.until
    }
}

/// What is wanted until then, whoever waits.
impl From<Instant> for Wanted {
    fn from(until: Instant) -> Self {
        Self {
            until,
            cancelled: CancellationToken::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_is_wanted_until_its_time_or_as_long_as_somebody_waits() {
        let soon = Instant::now() + Duration::from_secs(60);
        let (wanted, waiter) = Wanted::by_a_waiter(soon);
        let (cut, copy) = (wanted.at_most_until(Instant::now()), wanted.clone());
        assert!(cut.is_over() && !cut.is_cancelled() && !copy.is_over());
        drop(waiter);
        assert!(copy.is_over() && copy.is_cancelled() && cut.is_cancelled());
        let (wanted, waiter) = Wanted::by_a_waiter(soon);
        waiter.disarm();
        assert!(!wanted.is_over());
    }
}
