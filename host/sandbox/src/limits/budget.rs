//! The memory of all guests together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory that all guests may have together. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<BudgetState>);

#[derive(Debug)]
struct BudgetState {
    all: usize,
    left: AtomicUsize,
}

/// The others have what a guest wanted. It is nobody's fault, and may be otherwise soon.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OutOfCapacity {
    /// Memory.
    #[error("all guests together may have {} MiB (`--max-guests-mib`), and the others leave too little of it", .all >> 20)]
    Memory {
        /// What all may have, in bytes.
        all: usize,
    },
    /// A place among the instances.
    #[error("as many instances are at work as there may be at a time")]
    Instances,
}

impl Budget {
    /// One of so many bytes.
    pub(crate) fn new(all: usize) -> Self {
        Self(Arc::new(BudgetState {
            all,
            left: AtomicUsize::new(all),
        }))
    }

    /// Takes some of it.
    ///
    /// # Errors
    ///
    /// If there is not as much left.
    pub(super) fn take(&self, bytes: usize) -> Result<(), OutOfCapacity> {
        let taken = self
            .0
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            });
        taken
            .map(drop)
            .map_err(|_| OutOfCapacity::Memory { all: self.0.all })
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, bytes: usize) {
        self.0.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_until_it_is_given_back() {
        let budget = Budget::new(3 << 20);
        budget.take(2 << 20).unwrap();
        let error = budget.clone().take((1 << 20) + 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "all guests together may have 3 MiB (`--max-guests-mib`), and the others leave too little of it"
        );
        budget.take(1 << 20).unwrap();
        budget.give_back(3 << 20);
        budget.take(3 << 20).unwrap();
    }
}
