//! Estimate of the time until there is room again for a refused request.

use std::time::{Duration, Instant};

/// Assumed time of a request before the first one is done.
const INITIAL_MEAN: Duration = Duration::from_millis(250);

/// Divisor of the newest request's weight in the mean, for a request that took longer than the
/// mean. It is small so that a burst of large pictures shows with the first.
const SLOWER_DIVISOR: u32 = 2;

/// Divisor of the newest request's weight in the mean, for a request that was quicker.
const FASTER_DIVISOR: u32 = 8;

/// Number of workers, and how long they have been at work.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerUsage {
    pub(super) workers: usize,
    /// Median of the times that running requests have taken so far. Such requests take at least
    /// this long.
    pub(super) running: Duration,
}

/// Recent time of a request at a worker, and the return times given to refused requests.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    mean: Option<Duration>,
    /// Return time given to the last refused request.
    last_return: Option<Instant>,
}

impl Estimate {
    /// Records how long a request took.
    pub(super) fn add(&mut self, took: Duration) {
        self.mean = Some(self.mean.map_or(took, |mean| {
            let divisor = if took > mean {
                SLOWER_DIVISOR
            } else {
                FASTER_DIVISOR
            };
            (mean * (divisor - 1) + took) / divisor
        }));
    }

    /// Returns the time between the starts of two requests.
    fn interval(&self, load: WorkerUsage) -> Duration {
        self.mean.unwrap_or(INITIAL_MEAN).max(load.running)
            / u32::try_from(load.workers.max(1)).unwrap_or(u32::MAX)
    }

    /// Returns the time until a worker is free for a request behind `waiting` others.
    pub(super) fn wait(&self, waiting: usize, load: WorkerUsage) -> Duration {
        self.interval(load)
            .saturating_mul(u32::try_from(waiting + 1).unwrap_or(u32::MAX))
    }

    /// Returns the time after which a request that is refused now should come back: after the
    /// queued requests, and after those refused before, so that not all come back at once. Refusals
    /// count for one further queue at most, because a client that ignores the answer causes many.
    pub(super) fn refuse(
        &mut self,
        waiting: usize,
        length: usize,
        load: WorkerUsage,
        now: Instant,
    ) -> Duration {
        let earliest = now + self.wait(waiting, load);
        let latest = earliest + self.wait(length, load);
        let after_others = self
            .last_return
            .map_or(earliest, |last| (last + self.interval(load)).max(earliest));
        let comes_back = after_others.min(latest);
        self.last_return = Some(comes_back);
        comes_back - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(took: u64) -> Estimate {
        Estimate {
            mean: Some(Duration::from_millis(took)),
            ..Estimate::default()
        }
    }

    fn load(workers: usize) -> WorkerUsage {
        WorkerUsage {
            workers,
            running: Duration::ZERO,
        }
    }

    #[test]
    fn refused_request_waits_for_queue() {
        let now = Instant::now();
        for (waiting, workers, took, milliseconds) in [
            (0, 1, 100, 100),
            (64, 2, 400, 13_000),
            (64, 8, 400, 3_250),
            (1000, 1, 50, 50_050),
        ] {
            assert_eq!(
                estimate(took).refuse(waiting, 64, load(workers), now),
                Duration::from_millis(milliseconds)
            );
        }
        assert_eq!(
            Estimate::default().refuse(3, 64, load(1), now),
            Duration::from_secs(1)
        );
    }

    /// Of 84 cameras that are refused at once, all but the last come back one after another.
    #[test]
    fn refused_requests_return_one_by_one() {
        let (now, mut estimate) = (Instant::now(), estimate(400));
        let waits: Vec<Duration> = (0..84)
            .map(|_| estimate.refuse(64, 64, load(2), now))
            .collect();
        assert_eq!(
            (waits[0], waits[1]),
            (Duration::from_millis(13_000), Duration::from_millis(13_200))
        );
        assert!(
            waits.is_sorted() && waits[83] == Duration::from_millis(26_000),
            "{waits:?}"
        );
        // Once that time has passed, only the queue counts.
        assert_eq!(
            estimate.refuse(0, 64, load(2), now + Duration::from_secs(60)),
            Duration::from_millis(200)
        );
    }

    #[test]
    fn mean_follows_recent_requests() {
        let mut estimate = Estimate::default();
        (0..50).for_each(|_| estimate.add(Duration::from_millis(100)));
        (0..50).for_each(|_| estimate.add(Duration::from_millis(900)));
        assert!(estimate.wait(0, load(1)) > Duration::from_millis(880));
        (0..50).for_each(|_| estimate.add(Duration::from_millis(100)));
        assert!(estimate.wait(0, load(1)) < Duration::from_millis(120));
    }

    /// Large pictures after many small ones show in the estimate while the first is running.
    #[test]
    fn slow_requests_are_noticed_early() {
        let mut estimate = estimate(10);
        let running = WorkerUsage {
            workers: 1,
            running: Duration::from_millis(400),
        };
        assert_eq!(estimate.wait(2, running), Duration::from_millis(1200));
        assert_eq!(
            estimate.refuse(2, 2, running, Instant::now()),
            Duration::from_millis(1200)
        );
        estimate.add(Duration::from_millis(510));
        assert_eq!(estimate.wait(2, load(1)), Duration::from_millis(780));
        estimate.add(Duration::from_millis(510));
        assert!(estimate.wait(2, load(1)) > Duration::from_secs(1));
    }
}
