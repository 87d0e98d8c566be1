//! Work of many parts, on this thread and on the cores that are idle.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cores::{Core, Cores};

/// Does parts 0 to `parts` on this thread and up to `helpers` others. Each thread calls `work`
/// once, which takes parts until there are no more; the results come in any order.
pub fn spread<T: Send>(
    cores: &Cores,
    parts: usize,
    helpers: usize,
    work: impl Fn(&dyn Fn() -> Option<usize>) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&part| part < parts);
    let borrowed = cores.borrow(helpers.min(cores.all() - 1));
    if borrowed.is_empty() {
        return vec![work(&take)];
    }
    let results = Mutex::new(Vec::new());
    let done = |result| {
        results
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(result)
    };
    let help = |core: Core| {
        // A core goes back as soon as a request came that has none; this thread does what is left.
        done(work(&|| if cores.are_short() { None } else { take() }));
        drop(core);
    };
    std::thread::scope(|scope| {
        for core in borrowed {
            scope.spawn(|| help(core));
        }
        done(work(&take));
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}
