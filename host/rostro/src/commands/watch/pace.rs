//! Pace of a stream: its rate of frames, and the delays between tries.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// Upper bound of a rate, above that of common cameras.
const MAX_RATE: f64 = 60.0;
/// Lower bound of a rate, so that a frame arrives before a stream counts as stalled.
const MIN_RATE: f64 = 0.05;
/// First delay between tries.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Longest delay between tries.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// Frames a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate(f64);

impl Rate {
    /// Default of streams.
    pub(super) const ONE: Self = Self(1.0);

    /// Accepts a number within the bounds.
    pub(super) fn new(rate: f64) -> Result<Self, String> {
        if (MIN_RATE..=MAX_RATE).contains(&rate) {
            Ok(Self(rate))
        } else {
            Err(format!(
                "a rate is {MIN_RATE} to {MAX_RATE} frames a second"
            ))
        }
    }

    /// Returns the number of frames a second.
    pub(super) fn per_second(self) -> f64 {
        self.0
    }

    fn interval(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.0)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate = text.parse().map_err(|_| "it is not a number".to_owned())?;
        Self::new(rate)
    }
}

/// Schedule of frames at a rate. A frame may be early by one interval if the one before was late,
/// so that jitter of a camera does not cost frames.
#[derive(Debug)]
pub(super) struct Pacer {
    rate: Option<Rate>,
    next: Option<Instant>,
}

impl Pacer {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self { rate, next: None }
    }

    /// Returns the delay before the next frame, and schedules the one after it.
    pub(super) fn delay(&mut self, now: Instant) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let interval = rate.interval();
        let due = self.next.map_or(now, |next| {
            next.max(now.checked_sub(interval).unwrap_or(next))
        });
        self.next = Some(due + interval);
        due.saturating_duration_since(now)
    }
}

/// Number of failed tries in a row after which a camera is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retries {
    /// At most this many tries, at any time.
    AtMost(u32),
    /// At most this many tries until the first frame, then without end.
    UntilFirstFrame(u32),
    /// Without end.
    Endless,
}

/// Delays between failed tries, which double up to a bound.
#[derive(Debug)]
pub(super) struct Backoff {
    retries: Retries,
    failures: u32,
    delay: Duration,
    has_worked: bool,
}

impl Backoff {
    pub(super) fn new(retries: Retries) -> Self {
        Self {
            retries,
            failures: 0,
            delay: FIRST_DELAY,
            has_worked: false,
        }
    }

    /// Records a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
        self.delay = FIRST_DELAY;
        self.has_worked = true;
    }

    /// Records a failure. Returns the delay before the next try; none after the last one.
    pub(super) fn fail(&mut self) -> Option<Duration> {
        self.failures += 1;
        let bound = match self.retries {
            Retries::AtMost(bound) => Some(bound),
            Retries::UntilFirstFrame(bound) if !self.has_worked => Some(bound),
            Retries::UntilFirstFrame(_) | Retries::Endless => None,
        };
        if bound.is_some_and(|bound| self.failures >= bound) {
            return None;
        }
        let delay = self.delay;
        self.delay = (delay * 2).min(MAX_DELAY);
        Some(delay)
    }

    /// Returns the number of failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_bounded() {
        for (text, is_valid) in [
            ("1", true),
            ("0.5", true),
            ("60", true),
            ("0", false),
            ("-1", false),
            ("61", false),
            ("nan", false),
            ("one", false),
        ] {
            assert_eq!(text.parse::<Rate>().is_ok(), is_valid, "{text}");
        }
    }

    #[test]
    fn pace_keeps_mean_despite_jitter() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut pacer = Pacer::new(Some(Rate(2.0)));
        // The second is late, the third early, and a pause earns one frame only.
        for (now, delay) in [
            (0, 0),
            (600, 0),
            (1000, 0),
            (1100, 400),
            (9000, 0),
            (9000, 0),
        ] {
            assert_eq!(
                pacer.delay(at(now)),
                Duration::from_millis(delay),
                "at {now} ms"
            );
        }
        assert_eq!(pacer.delay(at(9000)), Duration::from_millis(500));
        assert_eq!(Pacer::new(None).delay(at(0)), Duration::ZERO);
    }

    #[test]
    fn backoff_doubles_until_bound() {
        let mut backoff = Backoff::new(Retries::Endless);
        let delays: Vec<u64> = (0..7).map(|_| backoff.fail().unwrap().as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.fail(), Some(FIRST_DELAY));
    }

    #[test]
    fn retries_depend_on_first_frame() {
        for (retries, before, after) in [
            (Retries::AtMost(2), Some(2), Some(2)),
            (Retries::UntilFirstFrame(3), Some(3), None),
            (Retries::Endless, None, None),
        ] {
            let tries = |backoff: &mut Backoff| (1..100).find(|_| backoff.fail().is_none());
            let mut backoff = Backoff::new(retries);
            assert_eq!(tries(&mut backoff), before, "{retries:?}");
            backoff.reset();
            assert_eq!(tries(&mut backoff), after, "{retries:?}");
        }
    }
}
