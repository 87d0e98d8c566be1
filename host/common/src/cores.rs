//! Accounting of the processor's cores, shared by requests, inference and search.
//!
//! A request occupies one core. Inference and search borrow the idle ones: a single request gets
//! all cores, eight requests get one each. This accounting never blocks, because the executor
//! already limits the number of requests. Borrowed cores go back when requests need them.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

/// The cores that this process may use. Clones share the accounting.
#[derive(Clone, Debug)]
pub struct Cores {
    count: NonZeroUsize,
    /// Below zero if there are more requests than cores.
    idle: Arc<AtomicIsize>,
}

/// One core in use. Dropping it makes the core idle again.
#[derive(Debug)]
pub struct Core(Arc<AtomicIsize>);

impl Cores {
    /// Creates the accounting of `count` idle cores.
    #[must_use]
    pub fn new(count: NonZeroUsize) -> Self {
        Self {
            count,
            idle: Arc::new(AtomicIsize::new(count.get().cast_signed())),
        }
    }

    /// Creates the accounting of one core, for work that must not take more.
    #[must_use]
    pub fn single() -> Self {
        Self::new(NonZeroUsize::MIN)
    }

    /// Returns the number of cores, idle or not.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// Occupies one core, even if none is idle.
    #[must_use]
    pub fn occupy(&self) -> Core {
        self.idle.fetch_sub(1, Ordering::Relaxed);
        Core(Arc::clone(&self.idle))
    }

    /// Borrows up to `max` idle cores.
    pub fn borrow(&self, max: usize) -> Vec<Core> {
        let mut taken = 0;
        let take = |idle: isize| {
            taken = idle.max(0).min(max.cast_signed());
            Some(idle - taken)
        };
        // The update cannot fail, because `take` always returns a value.
        let _ = self
            .idle
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        (0..taken).map(|_| Core(Arc::clone(&self.idle))).collect()
    }

    /// Returns true if more cores are in use than exist, so that borrowed ones should go back.
    pub fn is_oversubscribed(&self) -> bool {
        self.idle.load(Ordering::Relaxed) < 0
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borrowing_takes_only_idle_cores() {
        let cores = Cores::new(NonZeroUsize::new(3).unwrap());
        let first = cores.occupy();
        let borrowed = cores.borrow(usize::MAX >> 1);
        assert_eq!(borrowed.len(), 2);
        assert_eq!(cores.borrow(1).len(), 0);
        assert!(!cores.is_oversubscribed());
        let second = cores.occupy();
        assert!(cores.is_oversubscribed());
        drop(borrowed);
        assert!(!cores.is_oversubscribed());
        assert_eq!(cores.borrow(2).len(), 1);
        drop((first, second));
        assert_eq!(cores.borrow(2).len(), 2);
        assert_eq!(cores.borrow(4).len(), 3, "all cores are idle again");
    }
}
