//! When there is room again for a request that was refused.

use std::time::{Duration, Instant};

/// What a request is taken to need before one was done.
const GUESS: Duration = Duration::from_millis(250);

/// Weight of the newest request in the mean, as one part of this many: of one that took longer, so
/// that a burst of large pictures is noticed with the first, and of one that was quicker.
const PARTS_OF_LONGER: u32 = 2;
const PARTS: u32 = 8;

/// What the workers do.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerUsage {
    pub(super) workers: usize,
    /// How long requests have been worked on so far, in the median: such requests take at least
    /// that long.
    pub(super) running: Duration,
}

/// The recent time of a request at a worker, and when those that were refused come back.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    mean: Option<Duration>,
    /// When the last that was refused comes back.
    last_return: Option<Instant>,
}

impl Estimate {
    /// Records how long a request took.
    pub(super) fn add(&mut self, took: Duration) {
        self.mean = Some(self.mean.map_or(took, |mean| {
            let parts = if took > mean { PARTS_OF_LONGER } else { PARTS };
            (mean * (parts - 1) + took) / parts
        }));
    }

    /// The time between two requests that begin.
    fn turn(&self, load: WorkerUsage) -> Duration {
        self.mean.unwrap_or(GUESS).max(load.running)
            / u32::try_from(load.workers.max(1)).unwrap_or(u32::MAX)
    }

    /// Returns the time until a worker is free for a request behind `waiting` others.
    pub(super) fn line(&self, waiting: usize, load: WorkerUsage) -> Duration {
        self.turn(load)
            .saturating_mul(u32::try_from(waiting + 1).unwrap_or(u32::MAX))
    }

    /// Returns after how long one that is refused now should come back: behind those that wait, and
    /// behind those that were refused before, so that they do not come back all at once. Refusals
    /// count for one further queue at most, because a client that ignores the answer makes them
    /// many.
    pub(super) fn refused(
        &mut self,
        waiting: usize,
        length: usize,
        load: WorkerUsage,
        now: Instant,
    ) -> Duration {
        let line = self.line(waiting, load);
        let latest = now + line + self.line(length, load);
        let behind = self
            .last_return
            .map_or(now + line, |last| (last + self.turn(load)).max(now + line));
        let back = behind.min(latest);
        self.last_return = Some(back);
        back - now
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
    fn refused_request_waits_for_the_queue() {
        let now = Instant::now();
        for (waiting, workers, took, milliseconds) in [
            (0, 1, 100, 100),
            (64, 2, 400, 13_000),
            (64, 8, 400, 3_250),
            (1000, 1, 50, 50_050),
        ] {
            assert_eq!(
                estimate(took).refused(waiting, 64, load(workers), now),
                Duration::from_millis(milliseconds)
            );
        }
        assert_eq!(
            Estimate::default().refused(3, 64, load(1), now),
            Duration::from_secs(1)
        );
    }

    /// 84 cameras that are refused at once come back one after another, the last ones together.
    #[test]
    fn refused_requests_come_back_one_by_one() {
        let (now, mut estimate) = (Instant::now(), estimate(400));
        let waits: Vec<Duration> = (0..84)
            .map(|_| estimate.refused(64, 64, load(2), now))
            .collect();
        assert_eq!(
            (waits[0], waits[1]),
            (Duration::from_millis(13_000), Duration::from_millis(13_200))
        );
        assert!(
            waits.is_sorted() && waits[83] == Duration::from_millis(26_000),
            "{waits:?}"
        );
        // Later it begins anew.
        assert_eq!(
            estimate.refused(0, 64, load(2), now + Duration::from_secs(60)),
            Duration::from_millis(200)
        );
    }

    #[test]
    fn mean_follows_recent_requests() {
        let mut estimate = Estimate::default();
        (0..50).for_each(|_| estimate.add(Duration::from_millis(100)));
        (0..50).for_each(|_| estimate.add(Duration::from_millis(900)));
        assert!(estimate.line(0, load(1)) > Duration::from_millis(880));
        (0..50).for_each(|_| estimate.add(Duration::from_millis(100)));
        assert!(estimate.line(0, load(1)) < Duration::from_millis(120));
    }

    /// Large pictures after many small ones are noticed while the first is worked on, and with its
    /// end.
    #[test]
    fn slow_requests_are_noticed_early() {
        let mut estimate = estimate(10);
        let running = WorkerUsage {
            workers: 1,
            running: Duration::from_millis(400),
        };
        assert_eq!(estimate.line(2, running), Duration::from_millis(1200));
        assert_eq!(
            estimate.refused(2, 2, running, Instant::now()),
            Duration::from_millis(1200)
        );
        estimate.add(Duration::from_millis(510));
        assert_eq!(estimate.line(2, load(1)), Duration::from_millis(780));
        estimate.add(Duration::from_millis(510));
        assert!(estimate.line(2, load(1)) > Duration::from_secs(1));
    }
}
