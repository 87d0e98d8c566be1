//! Turns of the nodes that share their sessions: one delivers, until its lease ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rostro_sessions::SessionStoreError;
use rostro_sessions::shared::{SessionTerm, SharedSessions};
use tokio::sync::watch;

use crate::error::DeliveryError;
use crate::signals::{self, Signals};
use crate::status::ReceiverStatus;

use super::workers::{WorkerSetup, Workers};

/// Interval at which the node asks whether it delivers, and looks for events of other nodes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Time between two wakes of the workers, which read the positions of all sessions.
const WAKE_INTERVAL: Duration = Duration::from_millis(250);

/// Thread that starts the workers when it is this node's turn, and stops them when it is not.
#[derive(Debug)]
pub(super) struct DeliveryTurns {
    stop: watch::Sender<bool>,
    workers: Arc<Mutex<Option<Workers>>>,
    /// None after it was waited for.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl DeliveryTurns {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the operating system refuses it.
    pub(super) fn start(
        setup: WorkerSetup,
        shared: Arc<dyn SharedSessions>,
    ) -> Result<Self, DeliveryError> {
        let failed = |cause| DeliveryError::Thread {
            name: "turns".to_owned(),
            cause,
        };
        let runtime = signals::runtime().map_err(failed)?;
        let stop = watch::Sender::new(false);
        let workers = Arc::new(Mutex::new(None));
        let turn = Turn {
            own: setup.store.subscribe_all(),
            wakes: watch::Sender::new(0),
            setup,
            shared,
            workers: Arc::clone(&workers),
            is_failing: false,
            term: None,
        };
        let stopped = stop.subscribe();
        let thread = Builder::new()
            .name("deliver".to_owned())
            .spawn(move || turn.run(&runtime, stopped))
            .map_err(failed)?;
        Ok(Self {
            stop,
            workers,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) fn status(&self) -> Vec<ReceiverStatus> {
        let workers = lock(&self.workers);
        workers.as_ref().map(Workers::status).unwrap_or_default()
    }

    pub(super) fn begin_stop(&self) {
        self.stop.send_replace(true);
        if let Some(workers) = lock(&self.workers).as_ref() {
            workers.begin_stop();
        }
    }

    pub(super) fn stop(&self) {
        self.begin_stop();
        let thread = lock(&self.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the delivery panicked");
        }
        if let Some(workers) = lock(&self.workers).take() {
            workers.stop();
        }
    }
}

/// State of the thread.
struct Turn {
    setup: WorkerSetup,
    shared: Arc<dyn SharedSessions>,
    workers: Arc<Mutex<Option<Workers>>>,
    /// Changes of this node's sessions.
    own: watch::Receiver<u64>,
    /// Wakes the workers.
    wakes: watch::Sender<u64>,
    /// True after a failure that was logged.
    is_failing: bool,
    /// Lease under which the workers run.
    term: Option<SessionTerm>,
}

impl Turn {
    fn run(mut self, runtime: &tokio::runtime::Runtime, stop: watch::Receiver<bool>) {
        let mut signals = Signals::new(self.own.clone(), stop);
        let mut next = Instant::now();
        while !signals.is_stopped() {
            signals.mark_seen();
            let now = Instant::now();
            if now >= next {
                next = now + INTERVAL;
                match self.take() {
                    Ok(()) => self.is_failing = false,
                    Err(error) => {
                        if !std::mem::replace(&mut self.is_failing, true) {
                            tracing::warn!("cannot deliver events: {error}; it is retried");
                        }
                    }
                }
            }
            self.wakes.send_modify(|count| *count += 1);
            runtime.block_on(signals.pause(now + WAKE_INTERVAL));
            runtime.block_on(signals.wait(Some(next)));
        }
    }

    /// Starts or stops the workers.
    fn take(&mut self) -> Result<(), DeliveryError> {
        let delivers = match self.shared.delivers() {
            Ok(delivers) => delivers,
            // The lease decides: without the database it ends, and `delivers` is false.
            Err(SessionStoreError::Database {
                is_transient: true, ..
            }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // With another lease the cursors in memory may be outdated.
        let term = self.shared.term();
        let delivers = delivers && (self.term.is_none() || self.term == term);
        let is_running = lock(&self.workers).is_some();
        if delivers && !is_running {
            self.term = term;
            let workers = Workers::start(&self.setup, &self.wakes.subscribe())?;
            *lock(&self.workers) = Some(workers);
            tracing::info!("this node delivers the events of sessions");
        }
        if !delivers && is_running {
            self.term = None;
            let workers = lock(&self.workers).take();
            if let Some(workers) = workers {
                workers.stop();
            }
            tracing::info!("this node does not deliver the events of sessions any more");
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
