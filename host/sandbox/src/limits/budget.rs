//! Memory budget of all guests together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory that all guests share. Clones share the budget.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget(Arc<BudgetState>);

#[derive(Debug)]
struct BudgetState {
    total: usize,
    remaining: AtomicUsize,
}

/// Other guests use the capacity that a guest needs. The error is transient.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OutOfCapacity {
    /// The guests have used up their shared memory.
    #[error(
        "all guests together may have {} MiB (`--max-guests-mib`), and too little of it is free; \
         retry later",
        .total >> 20
    )]
    Memory {
        /// Budget in bytes.
        total: usize,
    },
    /// All instances of the pool are in use.
    #[error("all instances of the sandbox are in use; retry later")]
    Instances,
}

impl MemoryBudget {
    /// Creates a budget of a number of bytes.
    pub(crate) fn new(total: usize) -> Self {
        Self(Arc::new(BudgetState {
            total,
            remaining: AtomicUsize::new(total),
        }))
    }

    /// Reserves bytes.
    ///
    /// # Errors
    ///
    /// If fewer bytes remain.
    pub(super) fn reserve(&self, bytes: usize) -> Result<(), OutOfCapacity> {
        let reserved =
            self.0
                .remaining
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |remaining| {
                    remaining.checked_sub(bytes)
                });
        reserved.map(drop).map_err(|_| OutOfCapacity::Memory {
            total: self.0.total,
        })
    }

    /// Releases reserved bytes.
    pub(super) fn release(&self, bytes: usize) {
        self.0.remaining.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_reserved_bytes() {
        let budget = MemoryBudget::new(3 << 20);
        budget.reserve(2 << 20).unwrap();
        let error = budget
            .clone()
            .reserve((1 << 20) + 1)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "all guests together may have 3 MiB (`--max-guests-mib`), and too little of it is \
             free; retry later"
        );
        budget.reserve(1 << 20).unwrap();
        budget.release(3 << 20);
        budget.reserve(3 << 20).unwrap();
    }
}
