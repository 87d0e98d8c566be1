//! The end of the process: what it cancels, and what it waits for.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use crate::cancel::CancelScope;

/// Tells every part that the process is stopping, and knows which work is still under way. Clones
/// share it.
///
/// Work that can stop is cancelled; a compilation or a run of a model cannot, and is waited for.
/// ONNX Runtime and Wasmtime must not be torn down under it, because what it reports then looks
/// like a fault of the revision.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<ShutdownState>);

#[derive(Debug, Default)]
struct ShutdownState {
    begun: OnceLock<Instant>,
    cancelled: CancellationToken,
    is_urgent: CancellationToken,
    /// Number of tokens of [`Shutdown::track`].
    under_way: watch::Sender<usize>,
}

/// Marks work as under way until it is dropped.
#[derive(Debug)]
pub struct WorkGuard(Arc<ShutdownState>);

impl Drop for WorkGuard {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|count| *count -= 1);
    }
}

impl Shutdown {
    /// Cancels background work. Calling it again changes nothing.
    pub fn begin(&self) {
        self.0.begun.get_or_init(Instant::now);
        self.0.cancelled.cancel();
    }

    /// Stops waiting for anything.
    pub fn hurry(&self) {
        self.0.is_urgent.cancel();
    }

    /// Returns true once the process is stopping: from then on nothing may be recorded of how work
    /// went, because its end says nothing about it.
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

    /// The scope of background work: it ends at the deadline, or when the shutdown begins.
    pub fn scope(&self, deadline: Instant) -> CancelScope {
        CancelScope::new(self.0.cancelled.child_token(), deadline)
    }

    /// Has the shutdown wait until the token is dropped.
    pub fn track(&self) -> WorkGuard {
        self.0.under_way.send_modify(|count| *count += 1);
        WorkGuard(Arc::clone(&self.0))
    }

    /// Waits until no work is under way, for at most `grace` from the begin of the shutdown.
    /// Returns false if some still is.
    pub async fn wait(&self, grace: Duration) -> bool {
        let deadline = self.0.begun.get().copied().unwrap_or_else(Instant::now) + grace;
        let mut under_way = self.0.under_way.subscribe();
        tokio::select! {
            ended = timeout_at(deadline.into(), under_way.wait_for(|count| *count == 0)) => ended.is_ok(),
            () = self.hurried() => false,
        }
    }
}

/// Ends the process at once, without destructors and exit handlers: threads may still be inside
/// ONNX Runtime or Wasmtime, which must not be torn down under them.
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
            "work is under way"
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
