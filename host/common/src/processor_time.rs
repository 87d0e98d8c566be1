//! The time of a thread on the processor.

use std::time::Duration;

/// The time that this thread has been on a processor.
#[must_use]
#[cfg(unix)]
pub fn processor_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)
        .try_into()
        .unwrap_or_default()
}

/// Where a thread's own time is not told: time as it passes.
#[must_use]
#[cfg(not(unix))]
pub fn processor_time() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}
