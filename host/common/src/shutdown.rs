//! Shutdown of the process: cancels background work and waits for work that cannot stop.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use crate::cancel::CancelScope;

/// Coordinates the shutdown of the process. Clones share the state.
///
/// Work that can stop is cancelled. A compilation or a run of a model cannot stop, so the shutdown
/// waits for it. ONNX Runtime and Wasmtime must not be torn down meanwhile, because the resulting
/// errors would look like faults of the revision.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<ShutdownState>);

#[derive(Debug, Default)]
struct ShutdownState {
    begun: OnceLock<Instant>,
    cancelled: CancellationToken,
    is_urgent: CancellationToken,
    /// Number of [`WorkGuard`]s.
    running: watch::Sender<usize>,
}

/// Marks work as running until it is dropped.
#[derive(Debug)]
pub struct WorkGuard(Arc<ShutdownState>);

impl Drop for WorkGuard {
    fn drop(&mut self) {
        self.0.running.send_modify(|count| *count -= 1);
    }
}

impl Shutdown {
    /// Cancels background work. Calling it again changes nothing.
    pub fn begin(&self) {
        self.0.begun.get_or_init(Instant::now);
        self.0.cancelled.cancel();
    }

    /// Ends all waiting, as after a second signal.
    pub fn hurry(&self) {
        self.0.is_urgent.cancel();
    }

    /// Returns true once the process is stopping. From then on results of work must not be
    /// recorded, because failures may be caused by the shutdown.
    pub fn has_begun(&self) -> bool {
        self.0.cancelled.is_cancelled()
    }

    /// Waits for the shutdown to begin.
    pub async fn begun(&self) {
        self.0.cancelled.cancelled().await;
    }

    /// Waits for [`Shutdown::hurry`].
    pub async fn hurried(&self) {
        self.0.is_urgent.cancelled().await;
    }

    /// Returns a scope for background work. It ends at the deadline or when the shutdown begins.
    pub fn scope(&self, deadline: Instant) -> CancelScope {
        CancelScope::new(self.0.cancelled.child_token(), deadline)
    }

    /// Makes the shutdown wait until the guard is dropped.
    pub fn track(&self) -> WorkGuard {
        self.0.running.send_modify(|count| *count += 1);
        WorkGuard(Arc::clone(&self.0))
    }

    /// Waits until no work is running, for at most `grace` from the begin of the shutdown. Returns
    /// false if some work still runs.
    pub async fn wait(&self, grace: Duration) -> bool {
        let deadline = self.0.begun.get().copied().unwrap_or_else(Instant::now) + grace;
        let mut running = self.0.running.subscribe();
        tokio::select! {
            result = timeout_at(deadline.into(), running.wait_for(|count| *count == 0)) => {
                result.is_ok()
            }
            () = self.hurried() => false,
        }
    }
}

/// Ends the process at once, without destructors and exit handlers, because threads may still be
/// inside ONNX Runtime or Wasmtime.
pub fn exit(code: i32) -> ! {
    signal_hook::low_level::exit(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn shutdown_cancels_scopes_and_waits() {
        let shutdown = Shutdown::default();
        let scope = shutdown.scope(Instant::now() + LONG);
        let work = shutdown.track();
        assert!(!scope.is_expired() && !shutdown.has_begun());
        shutdown.begin();
        assert!(scope.is_cancelled() && shutdown.has_begun());
        assert!(
            !shutdown.wait(Duration::from_millis(20)).await,
            "work is running"
        );
        drop(work);
        assert!(shutdown.wait(LONG).await);
    }

    #[tokio::test]
    async fn hurry_ends_waiting() {
        let shutdown = Shutdown::default();
        let _work = shutdown.track();
        shutdown.begin();
        shutdown.hurry();
        assert!(!shutdown.wait(LONG).await);
    }
}
