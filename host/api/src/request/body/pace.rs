//! Required pace of a body, because a slow client holds memory and a connection.

use std::time::{Duration, Instant};

use crate::error::ApiError;

/// Required average after [`GRACE`], in bytes per second.
pub(super) const MIN_RATE: u32 = 64 << 10;

/// Time before the average counts.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// Longest time without a chunk.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Longest time of a body.
const MAX_TIME: Duration = Duration::from_secs(600);

/// Arrival of one body.
#[derive(Debug)]
pub(crate) struct Pace {
    begun: Instant,
    last: Instant,
    received: u64,
}

/// Limit that a slow body reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slowness {
    Average,
    Stalled,
    Longest,
}

impl Pace {
    /// Starts the measurement, at the end of a request's head.
    pub(crate) fn begin(now: Instant) -> Self {
        Self {
            begun: now,
            last: now,
            received: 0,
        }
    }

    /// Records a chunk.
    pub(crate) fn add(&mut self, bytes: usize, now: Instant) {
        self.received = self.received.saturating_add(bytes as u64);
        self.last = now;
    }

    /// Returns when the next chunk is due, and the limit that is exceeded otherwise.
    pub(crate) fn next_limit(&self) -> (Instant, Slowness) {
        // The time that the received bytes take at the required average.
        let earned = Duration::try_from_secs_f64(self.received as f64 / f64::from(MIN_RATE))
            .unwrap_or(MAX_TIME);
        let limits = [
            (self.begun + MAX_TIME, Slowness::Longest),
            (
                self.begun + earned.clamp(GRACE, MAX_TIME),
                Slowness::Average,
            ),
            (self.last + MAX_PAUSE, Slowness::Stalled),
        ];
        limits
            .into_iter()
            .min_by_key(|(until, _)| *until)
            .unwrap_or((self.begun, Slowness::Longest))
    }

    /// Returns the error for a body that exceeded a limit.
    pub(crate) fn refusal(&self, slowness: Slowness, now: Instant) -> ApiError {
        let seconds = now.saturating_duration_since(self.begun).as_secs();
        let so_far = format!("{} bytes of it arrived in {seconds} s", self.received);
        let (message, limit) = match slowness {
            Slowness::Average => {
                let (least, grace) = (MIN_RATE >> 10, GRACE.as_secs());
                (
                    format!(
                        "The body arrived too slowly: {so_far}, and {least} KiB/s on average are \
                         needed from {grace} s on."
                    ),
                    "average",
                )
            }
            Slowness::Stalled => (
                format!(
                    "The body stalled: nothing of it arrived for {} s.",
                    MAX_PAUSE.as_secs()
                ),
                "stalled",
            ),
            Slowness::Longest => (
                format!(
                    "The body took longer than {} s: {so_far}.",
                    MAX_TIME.as_secs()
                ),
                "longest",
            ),
        };
        ApiError::body_timeout(message)
            .with("limit", limit)
            .with("received_bytes", self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Returns when and why a body is given up. Each piece has its second and its bytes.
    fn given_up(pieces: &[(u64, usize)]) -> (u64, Slowness) {
        let begun = Instant::now();
        let mut pace = Pace::begin(begun);
        for (second, bytes) in pieces {
            let (until, slowness) = pace.next_limit();
            if until < begun + seconds(*second) {
                return ((until - begun).as_secs(), slowness);
            }
            pace.add(*bytes, begun + seconds(*second));
        }
        let (until, slowness) = pace.next_limit();
        ((until - begun).as_secs(), slowness)
    }

    #[test]
    fn slow_body_reaches_its_limit() {
        let steady =
            |bytes: usize, most: u64| (1..most).map(|second| (second, bytes)).collect::<Vec<_>>();
        assert_eq!(given_up(&[]), (10, Slowness::Average));
        assert_eq!(given_up(&steady(1, 100)), (10, Slowness::Average));
        assert_eq!(given_up(&steady(63 << 10, 100)), (10, Slowness::Average));
        assert_eq!(given_up(&[(1, 10 << 20)]), (31, Slowness::Stalled));
        // A body that slows down.
        assert_eq!(
            given_up(
                &[
                    steady(128 << 10, 10),
                    (10..200).map(|second| (second, 1)).collect()
                ]
                .concat()
            ),
            (18, Slowness::Average)
        );
        // 12 Mbit/s is fast enough until the body stalls.
        assert_eq!(given_up(&steady(1_500_000, 41)), (70, Slowness::Stalled));
        assert_eq!(given_up(&steady(80 << 10, 700)), (600, Slowness::Longest));
        assert_eq!(given_up(&steady(usize::MAX, 700)), (600, Slowness::Longest));
    }

    #[test]
    fn refusal_names_its_limit() {
        let begun = Instant::now();
        let mut pace = Pace::begin(begun);
        pace.add(1000, begun);
        let message = |slowness| pace.refusal(slowness, begun + seconds(12)).message;
        assert_eq!(
            message(Slowness::Average),
            "The body arrived too slowly: 1000 bytes of it arrived in 12 s, and 64 KiB/s on \
             average are needed from 10 s on."
        );
        assert_eq!(
            message(Slowness::Stalled),
            "The body stalled: nothing of it arrived for 30 s."
        );
        assert_eq!(
            message(Slowness::Longest),
            "The body took longer than 600 s: 1000 bytes of it arrived in 12 s."
        );
    }
}
