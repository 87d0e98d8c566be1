//! Wakes the thread of a receiver.

use std::io;
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// What a receiver's thread waits for: changes of sessions, and the stop.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    changes: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
}

impl Signals {
    pub(crate) fn new(changes: watch::Receiver<u64>, stop: watch::Receiver<bool>) -> Self {
        Self { changes, stop }
    }

    /// Returns true after the stop, also if its sender is gone.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    /// Marks all changes as seen. The caller looks at the sessions afterwards, so that it misses
    /// none.
    pub(crate) fn mark_seen(&mut self) {
        self.changes.mark_unchanged();
    }

    /// Waits for the stop.
    pub(crate) async fn stopped(&mut self) {
        // An error is a sender that is gone.
        let _ = self.stop.wait_for(|is_stopped| *is_stopped).await;
    }

    /// Waits for a change, the stop, or a time.
    pub(crate) async fn wait(&mut self, until: Option<Instant>) {
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.stop.wait_for(|is_stopped| *is_stopped) => {}
            // The sender lives as long as the store, which the thread shares.
            _ = self.changes.changed() => {}
            () = timer => {}
        }
    }

    /// Waits for the stop or a time.
    pub(crate) async fn pause(&mut self, until: Instant) {
        tokio::select! {
            () = self.stopped() => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }
}

/// Returns the timers and sockets of one thread.
///
/// # Errors
///
/// If the operating system refuses them.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
