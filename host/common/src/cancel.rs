//! Deadlines and cancellation of work.

use std::time::Instant;

use tokio_util::sync::{CancellationToken, DropGuard};

/// A deadline plus a cancellation token. Work stops when either fires. Clones share the token.
#[derive(Clone, Debug)]
pub struct CancelScope {
    deadline: Instant,
    token: CancellationToken,
}

impl CancelScope {
    /// Returns a scope that is cancelled when the guard is dropped.
    #[must_use]
    pub fn with_guard(deadline: Instant) -> (Self, DropGuard) {
        let scope = Self::from(deadline);
        let guard = scope.token.clone().drop_guard();
        (scope, guard)
    }

    /// Returns a scope that is cancelled by this token.
    pub(crate) fn new(token: CancellationToken, deadline: Instant) -> Self {
        Self { deadline, token }
    }

    /// Returns a scope with the same token, and a deadline that is this one at the latest.
    #[must_use]
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        Self {
            deadline: self.deadline.min(deadline),
            token: self.token.clone(),
        }
    }

    /// Returns the deadline.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns true after the cancellation, and not after the deadline alone.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns true after the cancellation or the deadline.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.is_cancelled() || Instant::now() >= self.deadline
    }
}

/// Creates a scope that only the deadline ends.
impl From<Instant> for CancelScope {
    fn from(deadline: Instant) -> Self {
        Self {
            deadline,
            token: CancellationToken::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn deadline_or_guard_ends_scope() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let (scope, guard) = CancelScope::with_guard(deadline);
        let (expired, copy) = (scope.with_deadline(Instant::now()), scope.clone());
        assert!(expired.is_expired() && !expired.is_cancelled() && !copy.is_expired());
        drop(guard);
        assert!(copy.is_expired() && copy.is_cancelled() && expired.is_cancelled());
        let (scope, guard) = CancelScope::with_guard(deadline);
        guard.disarm();
        assert!(!scope.is_expired());
    }
}
