//! Data-parallel work on the calling thread and on borrowed idle cores.
//!
//! This is not rayon, because rayon's pool keeps its threads until the work ends. Here a helper
//! thread gives its core back between two parts as soon as a request needs one, and the calling
//! thread does the remaining parts.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cores::{Core, Cores};

/// Takes the number of the next part; `None` once no part is left for this thread.
pub type NextPart<'a> = &'a dyn Fn() -> Option<usize>;

/// Runs `worker` once on this thread and once on each of up to `helpers` others, and returns their
/// results in any order. The workers share parts 0 to `parts`.
pub fn run_workers<T: Send>(
    cores: &Cores,
    parts: usize,
    helpers: usize,
    worker: impl Fn(NextPart<'_>) -> T + Sync,
) -> Vec<T> {
    let borrowed = cores.borrow(helpers.min(cores.count() - 1));
    let worker = |next: NextPart<'_>| Ok::<T, Infallible>(worker(next));
    let Ok(results) = try_run_workers(cores, borrowed, parts, worker);
    results
}

/// Applies `make` to each item on this thread and on idle `cores`, and returns the results in the
/// order of the items.
pub fn map<I: Sync, T: Send>(cores: &Cores, items: &[I], make: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let made = run_workers(cores, items.len(), usize::MAX, |next| {
        std::iter::from_fn(next)
            .filter_map(|index| Some((index, make(items.get(index)?))))
            .collect::<Vec<_>>()
    });
    let mut made: Vec<(usize, T)> = made.into_iter().flatten().collect();
    made.sort_unstable_by_key(|(index, _)| *index);
    made.into_iter().map(|(_, result)| result).collect()
}

/// Runs `worker` once on this thread and once on a thread for each borrowed core, and returns
/// their results in any order. The workers share parts 0 to `parts`.
///
/// # Errors
///
/// The first error of a worker. No further part is begun after it.
pub fn try_run_workers<T: Send, E: Send>(
    cores: &Cores,
    borrowed: Vec<Core>,
    parts: usize,
    worker: impl Fn(NextPart<'_>) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&part| part < parts);
    if borrowed.is_empty() {
        return Ok(vec![worker(&take)?]);
    }
    let results = Mutex::new(Ok(Vec::new()));
    let finish = |result: Result<T, E>| {
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        match (results.as_mut(), result) {
            (Ok(results), Ok(result)) => results.push(result),
            (Ok(_), Err(error)) => {
                next.store(parts, Ordering::Relaxed);
                *results = Err(error);
            }
            (Err(_), _) => {}
        }
    };
    let help = |core: Core| {
        let take_if_idle = || {
            if cores.is_oversubscribed() {
                None
            } else {
                take()
            }
        };
        finish(worker(&take_if_idle));
        drop(core);
    };
    std::thread::scope(|scope| {
        for core in borrowed {
            scope.spawn(|| help(core));
        }
        finish(worker(&take));
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn cores() -> Cores {
        Cores::new(NonZeroUsize::new(3).unwrap())
    }

    #[test]
    fn every_part_runs_once() {
        for helpers in [0, 1, 9] {
            let cores = cores();
            let parts = run_workers(&cores, 100, helpers, |next| {
                std::iter::from_fn(next).collect::<Vec<_>>()
            });
            let mut parts = parts.concat();
            parts.sort_unstable();
            assert_eq!(parts, (0..100).collect::<Vec<_>>(), "{helpers} helpers");
            assert_eq!(cores.borrow(3).len(), 3, "every core is idle again");
        }
    }

    #[test]
    fn map_keeps_order_of_items() {
        let items: Vec<usize> = (0..100).collect();
        for cores in [Cores::single(), cores()] {
            let doubled = map(&cores, &items, |item| 2 * item);
            assert!(doubled.into_iter().eq((0..100).map(|item| 2 * item)));
        }
    }

    #[test]
    fn error_stops_further_parts() {
        for helpers in [0, 2] {
            let cores = cores();
            let begun = AtomicUsize::new(0);
            let result = try_run_workers(&cores, cores.borrow(helpers), 1_000_000, |next| {
                std::iter::from_fn(next).try_for_each(|part| {
                    begun.fetch_add(1, Ordering::Relaxed);
                    if part == 0 { Err("failed") } else { Ok(()) }
                })
            });
            assert_eq!(result, Err("failed"));
            assert!(begun.into_inner() < 1_000_000, "{helpers} helpers");
        }
    }
}
