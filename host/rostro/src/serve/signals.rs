//! Signals of the operating system.

/// A signal that the process handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalKind {
    /// SIGHUP: to read configuration, keys and certificates again.
    HangUp,
    /// SIGINT, or Ctrl-C: to stop.
    Interrupt,
    /// SIGTERM: to stop.
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

    /// Waits for the next.
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
