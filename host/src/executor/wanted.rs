//! For how long work is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// For how long work is wanted: until a deadline, and no longer than somebody waits for it. Clones are of one and the same work.
#[derive(Clone, Debug)]
pub struct Wanted {
    until: Instant,
    given_up: Arc<AtomicBool>,
}

/// Somebody who waits: when this is dropped, the work is not wanted any more.
#[derive(Debug)]
pub(crate) struct Waiter(Option<Arc<AtomicBool>>);

impl Wanted {
    /// What is wanted by whoever holds the waiter.
    pub(crate) fn by_a_waiter(until: Instant) -> (Self, Waiter) {
        let wanted = Self::from(until);
        let waiter = Waiter(Some(Arc::clone(&wanted.given_up)));
        (wanted, waiter)
    }

    /// The same, at most until `end`.
    pub(crate) fn at_most_until(&self, end: Instant) -> Self {
        Self { until: self.until.min(end), given_up: Arc::clone(&self.given_up) }
    }

    /// When it is not wanted any more at the latest.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Whether nobody waits for it any more, although there was time.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Whether it is not wanted any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_given_up() || Instant::now() >= self.until
    }
}

/// What is wanted until then, whoever waits.
impl From<Instant> for Wanted {
    fn from(until: Instant) -> Self {
        Self { until, given_up: Arc::default() }
    }
}

impl Waiter {
    /// They were answered, or told that it is too late.
    pub(crate) fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(given_up) = self.0.take() {
            given_up.store(true, Ordering::Relaxed);
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
        assert!(cut.is_over() && !cut.is_given_up() && !copy.is_over());
        drop(waiter);
        assert!(copy.is_over() && copy.is_given_up() && cut.is_given_up());
        let (wanted, waiter) = Wanted::by_a_waiter(soon);
        waiter.done();
        assert!(!wanted.is_over());
    }
}
