//! Processor time that a guest's thread spends in models.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rostro_common::processor_time::processor_time;

/// Sum of a guest's processor time in models. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ModelTime(Arc<AtomicU64>);

impl ModelTime {
    /// Runs a model's work and adds its processor time, even if the work panics.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = processor_time();
        let _add_on_drop = scopeguard::guard((), |()| {
            let nanoseconds = processor_time().saturating_sub(start).as_nanos();
            self.0.fetch_add(
                u64::try_from(nanoseconds).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        });
        work()
    }

    /// Returns the sum.
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}
