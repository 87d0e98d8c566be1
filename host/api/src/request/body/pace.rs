//! How fast a body must arrive. A client that sends it slowly holds memory and a connection
//! meanwhile.

use std::time::{Duration, Instant};

use crate::error::ApiError;

/// The average that is demanded, in bytes per second, and from when on.
const LEAST: u32 = 64 << 10;
const GRACE: Duration = Duration::from_secs(10);

/// How long nothing of it may arrive, and how long it may take as a whole.
const STALLED: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);

/// The arrival of one body.
#[derive(Debug)]
pub(crate) struct Pace {
    begun: Instant,
    last: Instant,
    received: u64,
}

/// The limit that a body reaches first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slowness {
    Average,
    Stalled,
    Longest,
}

impl Pace {
    /// Begins to measure at the end of a request's head.
    pub(crate) fn begin(now: Instant) -> Self {
        Self {
            begun: now,
            last: now,
            received: 0,
        }
    }

    /// Counts bytes.
    pub(crate) fn add(&mut self, bytes: usize, now: Instant) {
        self.received = self.received.saturating_add(bytes as u64);
        self.last = now;
    }

    /// Returns by when more must arrive, and the limit that the body reaches otherwise.
    pub(crate) fn next_limit(&self) -> (Instant, Slowness) {
        // As long as the bytes that came would take at the least average.
        let earned =
            Duration::try_from_secs_f64(self.received as f64 / f64::from(LEAST)).unwrap_or(LONGEST);
        let limits = [
            (self.begun + LONGEST, Slowness::Longest),
            (self.begun + earned.clamp(GRACE, LONGEST), Slowness::Average),
            (self.last + STALLED, Slowness::Stalled),
        ];
        limits
            .into_iter()
            .min_by_key(|(until, _)| *until)
            .unwrap_or((self.begun, Slowness::Longest))
    }

    /// The error for a body that reached a limit.
    pub(crate) fn refusal(&self, slowness: Slowness, now: Instant) -> ApiError {
        let seconds = now.saturating_duration_since(self.begun).as_secs();
        let so_far = format!("{} bytes of it arrived in {seconds} s", self.received);
        let (message, limit) = match slowness {
            Slowness::Average => {
                let (least, grace) = (LEAST >> 10, GRACE.as_secs());
                (
                    format!(
                        "The body arrived too slowly: {so_far}, and {least} KiB/s on average are needed from {grace} s on."
                    ),
                    "average",
                )
            }
            Slowness::Stalled => (
                format!(
                    "The body stalled: nothing of it arrived for {} s.",
                    STALLED.as_secs()
                ),
                "stalled",
            ),
            Slowness::Longest => (
                format!(
                    "The body took longer than {} s: {so_far}.",
                    LONGEST.as_secs()
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

    /// When a body is given up of which each of these pieces arrives at its second, and why.
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
    fn slow_body_is_given_up_at_its_limit() {
        let steady =
            |bytes: usize, most: u64| (1..most).map(|second| (second, bytes)).collect::<Vec<_>>();
        assert_eq!(given_up(&[]), (10, Slowness::Average));
        assert_eq!(given_up(&steady(1, 100)), (10, Slowness::Average));
        assert_eq!(given_up(&steady(63 << 10, 100)), (10, Slowness::Average));
        assert_eq!(given_up(&[(1, 10 << 20)]), (31, Slowness::Stalled));
        // It slows down.
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
        // 12 Mbit/s: as long as it goes on.
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
            "The body arrived too slowly: 1000 bytes of it arrived in 12 s, and 64 KiB/s on average are needed from 10 s on."
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
