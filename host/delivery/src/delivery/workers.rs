//! Threads of receivers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use rostro_sessions::SessionStore;
use tokio::sync::watch;

use crate::backoff::BackoffLimits;
use crate::error::DeliveryError;
use crate::mqtt::MqttWorker;
use crate::outbox::Outbox;
use crate::receivers::{EventFilter, Receivers};
use crate::signals::{self, Signals};
use crate::status::{Monitor, ReceiverKind, ReceiverState, ReceiverStatus};
use crate::webhook::WebhookWorker;

/// Running threads of all receivers, each its own, so that none delays another. They stop when this is
/// dropped, without waiting for requests in flight.
#[derive(Debug)]
pub(super) struct Workers {
    stop: watch::Sender<bool>,
    threads: Vec<ReceiverThread>,
}

/// Thread of a receiver.
#[derive(Debug)]
struct ReceiverThread {
    monitor: Arc<Monitor>,
    /// None after it was waited for.
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl ReceiverThread {
    fn handle(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What workers are started with.
#[derive(Debug)]
pub(super) struct WorkerSetup {
    pub(super) receivers: Receivers,
    pub(super) store: Arc<SessionStore>,
    /// Folder of the receivers' files.
    pub(super) folder: PathBuf,
    pub(super) limits: BackoffLimits,
}

impl WorkerSetup {
    /// Opens the outbox of a receiver.
    fn outbox(&self, name: &str, filter: &EventFilter) -> Result<Outbox, DeliveryError> {
        let store = Arc::clone(&self.store);
        Outbox::open(&self.folder, name, store, filter.clone(), self.limits)
    }
}

impl Workers {
    /// Returns the workers of no receivers.
    pub(super) fn none() -> Self {
        Self {
            stop: watch::Sender::new(false),
            threads: Vec::new(),
        }
    }

    /// Starts a thread for each receiver. `changes` wakes them.
    ///
    /// # Errors
    ///
    /// If a file or the database cannot be used, or a thread cannot start.
    pub(super) fn start(
        setup: &WorkerSetup,
        changes: &watch::Receiver<u64>,
    ) -> Result<Self, DeliveryError> {
        let mut workers = Self::none();
        let signals = Signals::new(changes.clone(), workers.stop.subscribe());
        for webhook in setup.receivers.webhooks.iter().cloned() {
            let outbox = setup.outbox(&webhook.name, &webhook.filter)?;
            let name = webhook.name.clone();
            let monitor = Arc::new(Monitor::new(&name, ReceiverKind::Webhook));
            let worker = WebhookWorker::new(webhook, outbox, Arc::clone(&monitor), setup.limits);
            let signals = signals.clone();
            workers.spawn(&name, monitor, move |runtime| worker.run(runtime, signals))?;
        }
        for mqtt in setup.receivers.brokers.iter().cloned() {
            let outbox = setup.outbox(&mqtt.name, &mqtt.filter)?;
            let name = mqtt.name.clone();
            let monitor = Arc::new(Monitor::new(&name, ReceiverKind::Mqtt));
            let status = Arc::clone(&monitor);
            let worker = MqttWorker::open(mqtt, outbox, status, setup.limits, &setup.folder)?;
            let signals = signals.clone();
            workers.spawn(&name, monitor, move |runtime| worker.run(runtime, signals))?;
        }
        Ok(workers)
    }

    /// Returns the state of each receiver, in the order of the file, webhooks first.
    pub(super) fn status(&self) -> Vec<ReceiverStatus> {
        let status = |thread: &ReceiverThread| {
            let mut status = thread.monitor.status();
            let is_running = thread
                .handle()
                .as_ref()
                .is_some_and(|handle| !handle.is_finished());
            if !is_running && status.state != ReceiverState::Disabled {
                status.state = ReceiverState::Stopped;
            }
            status
        };
        self.threads.iter().map(status).collect()
    }

    /// Lets no further delivery begin.
    pub(super) fn begin_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops all threads. It waits for requests in flight, and at most two seconds for an MQTT
    /// broker. Waiting events stay for the next start.
    pub(super) fn stop(&self) {
        self.begin_stop();
        for thread in &self.threads {
            let Some(handle) = thread.handle().take() else {
                continue;
            };
            if handle.join().is_err() {
                let name = thread.monitor.status().name;
                tracing::error!("the thread of receiver {name} panicked");
            }
        }
    }

    fn spawn(
        &mut self,
        name: &str,
        monitor: Arc<Monitor>,
        run: impl FnOnce(&tokio::runtime::Runtime) + Send + 'static,
    ) -> Result<(), DeliveryError> {
        let failed = |cause| DeliveryError::Thread {
            name: name.to_owned(),
            cause,
        };
        let runtime = signals::runtime().map_err(failed)?;
        let handle = Builder::new()
            .name(format!("deliver {name}"))
            .spawn(move || run(&runtime))
            .map_err(failed)?;
        let handle = Mutex::new(Some(handle));
        self.threads.push(ReceiverThread { monitor, handle });
        Ok(())
    }
}
