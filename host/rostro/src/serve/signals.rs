//! Signals of the operating system.

use rostro_common::shutdown::Shutdown;

use super::GRACE;

/// A signal that the process handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalKind {
    /// SIGHUP: reload.
    HangUp,
    /// SIGINT, or Ctrl-C: stop.
    Interrupt,
    /// SIGTERM: stop.
    Terminate,
}

/// Stream of one signal kind. Creating it replaces the signal's default action.
#[derive(Debug)]
pub(crate) struct SignalStream {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
    #[cfg(not(unix))]
    kind: SignalKind,
}

impl SignalStream {
    pub(crate) fn new(kind: SignalKind) -> Self {
        #[cfg(unix)]
        {
            use tokio::signal::unix;

            let number = match kind {
                SignalKind::HangUp => unix::SignalKind::hangup(),
                SignalKind::Interrupt => unix::SignalKind::interrupt(),
                SignalKind::Terminate => unix::SignalKind::terminate(),
            };
            Self {
                signal: unix::signal(number)
                    .inspect_err(|error| {
                        tracing::warn!("cannot listen for signals ({kind:?}): {error}")
                    })
                    .ok(),
            }
        }
        #[cfg(not(unix))]
        Self { kind }
    }

    /// Waits for the next signal; for ever if the system delivers none.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        #[cfg(not(unix))]
        if self.kind == SignalKind::Interrupt && tokio::signal::ctrl_c().await.is_ok() {
            return;
        }
        std::future::pending().await
    }
}

/// Begins the shutdown at the first signal, and ends it at once at the second.
pub(super) async fn stop_on_signals(mut stops: [SignalStream; 2], shutdown: Shutdown) {
    let [interrupt, terminate] = &mut stops;
    let mut next = async || {
        tokio::select! {
            () = interrupt.next() => {}
            () = terminate.next() => {}
        }
    };
    next().await;
    tracing::info!(
        "stopping: no new requests; accepted ones have {} s. A second signal ends the process at once",
        GRACE.as_secs()
    );
    shutdown.begin();
    next().await;
    tracing::warn!("stopping at once");
    shutdown.hurry();
}
