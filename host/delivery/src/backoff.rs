//! Delays of retries: exponential, with jitter, so that receivers are not retried in step.

use std::time::Duration;

/// Limits of the delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackoffLimits {
    /// Shortest delay.
    pub(crate) first: Duration,
    /// Longest delay, also of one that a receiver asks for.
    pub(crate) longest: Duration,
}

impl Default for BackoffLimits {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
        }
    }
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetryBackoff {
    failures: u32,
}

impl RetryBackoff {
    /// Records a failure and returns the delay until the next attempt: at least what the receiver
    /// asks for, and at most the longest one.
    pub(crate) fn fail(&mut self, limits: BackoffLimits, asked: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let factor = 2_u32.saturating_pow(self.failures.min(31));
        let ceiling = limits.first.saturating_mul(factor).min(limits.longest);
        let delay = ceiling.mul_f64(0.5 + fastrand::f64() / 2.0);
        delay.max(asked.unwrap_or_default()).min(limits.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_grows_to_its_limit() {
        let (mut backoff, limits) = (RetryBackoff::default(), BackoffLimits::default());
        for ceiling in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let delay = backoff.fail(limits, None);
            let ceiling = Duration::from_secs(ceiling);
            assert!((ceiling / 2..=ceiling).contains(&delay), "{delay:?}");
        }
        backoff.failures = u32::MAX;
        assert!(backoff.fail(limits, None) <= limits.longest);
    }

    #[test]
    fn asked_delay_is_bounded() {
        let limits = BackoffLimits::default();
        let asked =
            |seconds| RetryBackoff::default().fail(limits, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(60), Duration::from_secs(60));
        assert_eq!(asked(100_000), limits.longest);
        assert!(asked(0) >= limits.first);
    }
}
