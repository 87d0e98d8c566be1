//! The time of a guest's thread in models.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rostro_common::processor_time::processor_time;

/// The time on the processor that a guest's thread was lent to its models; clones share it.
#[derive(Clone, Debug, Default)]
pub struct ModelTime(Arc<AtomicU64>);

impl ModelTime {
    /// Does a model's work.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = processor_time();
        let _counted = scopeguard::guard((), |()| {
            let nanoseconds = processor_time().saturating_sub(begun).as_nanos();
            self.0.fetch_add(
                u64::try_from(nanoseconds).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        });
        work()
    }

    /// Returns the time so far.
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}
