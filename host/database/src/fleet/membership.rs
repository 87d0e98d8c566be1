//! The lease under which this node answers from memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rostro_gallery::Lease;

use super::clock::since_boot;

/// Part of a lease's length by which clocks may differ over that length. The node relies on less
/// than the length, and others wait for more.
const MARGIN: u32 = 10;

/// Returns the margin of a lease.
pub(super) fn margin(length: Duration) -> Duration {
    length / MARGIN
}

/// The published lease of this node. Requests read it without a lock.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    /// Number of the incarnation; 0 without a lease.
    incarnation: AtomicU64,
    /// Milliseconds since the boot at which the node stops relying on it.
    valid_until: AtomicU64,
    /// Incarnations so far.
    published: AtomicU64,
}

impl Membership {
    /// Returns the lease if it is valid now.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let incarnation = self.incarnation.load(Ordering::SeqCst);
        let is_valid = milliseconds(since_boot()) < self.valid_until.load(Ordering::SeqCst);
        (incarnation != 0 && is_valid).then_some(Lease(incarnation))
    }

    /// Extends the lease by a renewal that began at a time since the boot.
    pub(super) fn extend(&self, begun: Duration, length: Duration) {
        let end = begun + length.saturating_sub(margin(length));
        self.valid_until
            .fetch_max(milliseconds(end), Ordering::SeqCst);
    }

    /// Publishes a new incarnation.
    pub(super) fn publish(&self) {
        let incarnation = self.published.fetch_add(1, Ordering::SeqCst) + 1;
        self.incarnation.store(incarnation, Ordering::SeqCst);
    }

    /// Returns true while an incarnation is published, even if its lease lapsed.
    pub(super) fn is_published(&self) -> bool {
        self.incarnation.load(Ordering::SeqCst) != 0
    }

    /// Gives up the incarnation.
    pub(super) fn resign(&self) {
        self.incarnation.store(0, Ordering::SeqCst);
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_needs_time_and_incarnation() {
        let membership = Membership::default();
        let length = Duration::from_secs(60);
        membership.extend(since_boot(), length);
        assert_eq!(membership.lease(), None);
        membership.publish();
        assert_eq!(membership.lease(), Some(Lease(1)));
        membership.resign();
        assert_eq!(membership.lease(), None);
        membership.publish();
        assert_eq!(membership.lease(), Some(Lease(2)));
    }

    /// The margin is taken from the beginning of the renewal, whenever its answer came.
    #[test]
    fn lease_ends_a_margin_early() {
        let (membership, now) = (Membership::default(), since_boot());
        let length = Duration::from_secs(10);
        membership.publish();
        membership.extend(now.saturating_sub(Duration::from_millis(9_100)), length);
        assert_eq!(membership.lease(), None);
        membership.extend(now.saturating_sub(Duration::from_millis(8_000)), length);
        assert!(membership.lease().is_some());
    }
}
