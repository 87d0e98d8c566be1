//! The lease under which this node answers from memory.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
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
    /// Milliseconds since the boot at which its last renewal began.
    renewed_at: AtomicU64,
    /// Incarnations so far.
    published: AtomicU64,
    /// Milliseconds since the boot at which the last renewal of a published lease began.
    confirmed_at: AtomicU64,
    /// Milliseconds for which the node may answer after that without a lease; 0 if it may not.
    stale_limit: AtomicU64,
    /// Change of the setting of stale reads that the node knows.
    stale_number: AtomicI64,
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
        self.renewed_at
            .fetch_max(milliseconds(begun), Ordering::SeqCst);
        if self.is_published() {
            self.confirm();
        }
    }

    fn confirm(&self) {
        let renewed = self.renewed_at.load(Ordering::SeqCst);
        self.confirmed_at.store(renewed, Ordering::SeqCst);
    }

    /// Returns the time since the last renewal of a published lease if the node may answer without
    /// one.
    pub(super) fn stale_age(&self) -> Option<Duration> {
        let limit = self.stale_limit();
        let confirmed = Duration::from_millis(self.confirmed_at.load(Ordering::SeqCst));
        let age = since_boot().saturating_sub(confirmed);
        (age < limit.saturating_sub(margin(limit))).then_some(age)
    }

    /// Returns for how long the node may answer without a lease.
    pub(super) fn stale_limit(&self) -> Duration {
        Duration::from_millis(self.stale_limit.load(Ordering::SeqCst))
    }

    /// Returns the change of the setting of stale reads that the node knows.
    pub(super) fn stale_number(&self) -> i64 {
        self.stale_number.load(Ordering::SeqCst)
    }

    /// Adopts the setting of stale reads that a renewal returned. Only a node under a lease may
    /// begin to use it, because its view has every deletion that was answered before.
    pub(super) fn adopt_stale_reads(&self, limit: Duration, number: i64) {
        let limit = match self.is_published() {
            true => limit,
            false => limit.min(self.stale_limit()),
        };
        self.stale_limit
            .store(milliseconds(limit), Ordering::SeqCst);
        self.stale_number.store(number, Ordering::SeqCst);
    }

    /// Publishes a new incarnation.
    pub(super) fn publish(&self) {
        self.confirm();
        let incarnation = self.published.fetch_add(1, Ordering::SeqCst) + 1;
        self.incarnation.store(incarnation, Ordering::SeqCst);
    }

    /// Returns the time since the last renewal began.
    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(
            self.renewed_at.load(Ordering::SeqCst),
        ))
    }

    /// Returns the number of incarnations so far.
    pub(super) fn count(&self) -> u64 {
        self.published.load(Ordering::SeqCst)
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

    const LENGTH: Duration = Duration::from_secs(10);

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

    #[test]
    fn stale_reads_need_former_lease() {
        let (membership, hour) = (Membership::default(), Duration::from_secs(3600));
        membership.extend(since_boot(), LENGTH);
        membership.adopt_stale_reads(hour, 1);
        assert_eq!(membership.stale_age(), None);
        membership.publish();
        assert_eq!(membership.stale_age(), None);
        membership.adopt_stale_reads(hour, 1);
        membership.resign();
        assert!(membership.stale_age().is_some());
        membership.adopt_stale_reads(Duration::ZERO, 2);
        membership.adopt_stale_reads(hour, 3);
        assert_eq!(membership.stale_age(), None);
    }

    /// Renewals before the node has applied what it missed do not count.
    #[test]
    fn stale_reads_end_a_margin_early() {
        let (membership, now) = (Membership::default(), since_boot());
        let ago = |milliseconds| now.saturating_sub(Duration::from_millis(milliseconds));
        membership.extend(ago(9_100), LENGTH);
        membership.publish();
        membership.adopt_stale_reads(LENGTH, 1);
        membership.resign();
        membership.extend(ago(0), LENGTH);
        assert_eq!(membership.stale_age(), None);
        membership.publish();
        assert!(membership.stale_age().is_some());
    }

    /// The margin is taken from the beginning of the renewal, whenever its answer came.
    #[test]
    fn lease_ends_a_margin_early() {
        let (membership, now) = (Membership::default(), since_boot());
        membership.publish();
        membership.extend(now.saturating_sub(Duration::from_millis(9_100)), LENGTH);
        assert_eq!(membership.lease(), None);
        membership.extend(now.saturating_sub(Duration::from_millis(8_000)), LENGTH);
        assert!(membership.lease().is_some());
    }
}
