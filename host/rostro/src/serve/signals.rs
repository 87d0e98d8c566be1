//! What the operating system tells the process.

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// SIGHUP: to read configuration, keys and certificates again.
    HangUp,
    /// SIGINT, or Ctrl-C: to stop.
    Interrupt,
    /// SIGTERM: to stop.
    Terminate,
}

/// Signals of a kind. From the making of this on they do nothing but what is waited for here.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
    #[cfg(not(unix))]
    told: Told,
}

impl Signals {
    pub(crate) fn new(told: Told) -> Self {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};

            let kind = match told {
                Told::HangUp => SignalKind::hangup(),
                Told::Interrupt => SignalKind::interrupt(),
                Told::Terminate => SignalKind::terminate(),
            };
            Self {
                signal: signal(kind)
                    .inspect_err(|error| {
                        tracing::warn!("cannot listen for signals ({told:?}): {error}")
                    })
                    .ok(),
            }
        }
        #[cfg(not(unix))]
        Self { told }
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
        if self.told == Told::Interrupt && tokio::signal::ctrl_c().await.is_ok() {
            return;
        }
        std::future::pending().await
    }
}
