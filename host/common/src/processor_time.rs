//! Processor time of a thread.

use std::time::Duration;

/// Returns the processor time of this thread.
#[must_use]
#[cfg(unix)]
pub fn processor_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)
        .try_into()
        .unwrap_or_default()
}

/// Returns the wall-clock time, because this system does not report a thread's processor time.
#[must_use]
#[cfg(not(unix))]
pub fn processor_time() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}
