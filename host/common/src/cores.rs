//! Who works on which cores.
//!
//! A request that is worked on occupies one. Inference and search borrow those that are idle: a
//! request that is alone gets them all, eight get one each. Nobody waits here: the
//! [executor](crate::executor) bounds the requests, and what was borrowed goes back when they need
//! it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

/// The cores that this process may use.
#[derive(Clone, Debug)]
pub struct Cores {
    all: NonZeroUsize,
    /// Below zero where there are more requests than cores.
    idle: Arc<AtomicIsize>,
}

/// One core; idle again when this is dropped.
#[derive(Debug)]
pub struct Core(Arc<AtomicIsize>);

impl Cores {
    /// Cores that are all idle.
    #[must_use]
    pub fn new(all: NonZeroUsize) -> Self {
        Self {
            all,
            idle: Arc::new(AtomicIsize::new(all.get().cast_signed())),
        }
    }

    /// How many there are.
    pub fn all(&self) -> usize {
        self.all.get()
    }

    /// Occupies one, whether it is idle or not.
    #[must_use]
    pub fn occupy(&self) -> Core {
        self.idle.fetch_sub(1, Ordering::Relaxed);
        Core(Arc::clone(&self.idle))
    }

    /// Borrows as many as are idle, `most` at the most.
    pub fn borrow(&self, most: usize) -> Vec<Core> {
        let mut taken = 0;
        let take = |idle: isize| {
            taken = idle.max(0).min(most.cast_signed());
            Some(idle - taken)
        };
        // Cannot fail: `take` always answers.
        let _ = self
            .idle
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        (0..taken).map(|_| Core(Arc::clone(&self.idle))).collect()
    }

    /// Whether more is under way than there are cores, so that what was borrowed should go back.
    pub fn are_short(&self) -> bool {
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
    fn one_request_gets_all_cores_and_many_get_one_each() {
        let cores = Cores::new(NonZeroUsize::new(3).unwrap());
        let first = cores.occupy();
        let borrowed = cores.borrow(usize::MAX >> 1);
        assert_eq!(
            (borrowed.len(), cores.borrow(1).len(), cores.are_short()),
            (2, 0, false)
        );
        let second = cores.occupy();
        assert!(cores.are_short());
        drop(borrowed);
        assert_eq!((cores.are_short(), cores.borrow(2).len()), (false, 1));
        drop((first, second));
        assert_eq!(cores.borrow(2).len(), 2);
        assert_eq!(cores.borrow(4).len(), 3, "all came back");
    }
}
