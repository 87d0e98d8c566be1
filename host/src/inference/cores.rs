//! The cores that inference may use, shared out among the runs under way.
//!
//! One run at a time gets all of them; eight get one each. A run waits until it has one core, and takes others only while they are free.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// All cores.
#[derive(Clone, Debug)]
pub(super) struct Cores(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: usize,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: usize,
}

/// One core; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Core(Arc<Shared>);

impl Cores {
    pub(super) fn new(all: NonZeroUsize) -> Self {
        let all = all.get();
        Self(Arc::new(Shared { all, state: Mutex::new(State { free: all, waiting: 0 }), returned: Condvar::new() }))
    }

    /// How many there are.
    pub(super) fn all(&self) -> usize {
        self.0.all
    }

    /// Waits for a core; gives it and the free ones beside it, `most` in all.
    pub(super) fn take(&self, most: usize) -> Vec<Core> {
        let mut state = self.0.state();
        state.waiting += 1;
        while state.free == 0 {
            state = self.0.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        let count = state.free.min(most.max(1));
        state.free -= count;
        (0..count).map(|_| Core(Arc::clone(&self.0))).collect()
    }

    /// Whether a run waits for its first core.
    pub(super) fn are_wanted(&self) -> bool {
        self.0.state().waiting > 0
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.0.state().free += 1;
        self.0.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_takes_what_is_free_and_the_next_waits_for_one() {
        let cores = Cores::new(NonZeroUsize::new(3).unwrap());
        let mut two = cores.take(2);
        assert_eq!((two.len(), cores.take(usize::MAX).len()), (2, 1));
        two.extend(cores.take(usize::MAX));
        assert_eq!(two.len(), 3);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| cores.take(usize::MAX).len());
            while !cores.are_wanted() {
                std::thread::yield_now();
            }
            two.pop();
            assert_eq!(waiter.join().unwrap(), 1);
        });
        drop(two);
        assert_eq!(cores.take(0).len(), 1, "never none");
        assert_eq!(cores.take(usize::MAX).len(), 3, "and all came back");
    }
}
