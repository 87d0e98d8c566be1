//! Change numbers in memory.

use std::sync::atomic::{AtomicU64, Ordering};

/// Count of numbers before the end of the reserved ones at which more are reserved, so that no
/// change has to wait for that.
const MARGIN: u64 = 256;

/// The latest number and the largest reserved one. A change takes the next number without a lock,
/// because the ledger's lock may be held while the disk writes a tombstone.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    latest: AtomicU64,
    reserved: AtomicU64,
}

impl Numbers {
    /// Returns the latest number.
    pub(super) fn latest(&self) -> u64 {
        self.latest.load(Ordering::SeqCst)
    }

    /// Takes the next number.
    pub(super) fn next(&self) -> u64 {
        self.latest.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Raises the latest number to at least `number`.
    pub(super) fn raise(&self, number: u64) {
        self.latest.fetch_max(number, Ordering::SeqCst);
    }

    /// Returns the largest number that a restart does not issue again.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::SeqCst)
    }

    /// Records that numbers up to `number` are reserved.
    pub(super) fn set_reserved(&self, number: u64) {
        self.reserved.store(number, Ordering::SeqCst);
    }

    /// Returns true if few reserved numbers are left.
    pub(super) fn is_low(&self) -> bool {
        self.latest().saturating_add(MARGIN) > self.reserved()
    }
}
