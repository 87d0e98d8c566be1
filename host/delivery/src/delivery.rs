//! All receivers of a host, each on a thread of its own, so that none delays another.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use rostro_common::fs::atomic::UNFINISHED;
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

/// Name of the folder in the state folder.
pub const DELIVERIES: &str = "deliveries";

/// Running delivery. It stops when it is dropped, without waiting for requests in flight.
#[derive(Debug)]
pub struct Delivery {
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

/// What the threads of all receivers share.
struct Shared {
    store: Arc<SessionStore>,
    limits: BackoffLimits,
    stop: watch::Receiver<bool>,
}

impl Shared {
    /// Opens the outbox of a receiver.
    fn outbox(
        &self,
        folder: &Path,
        name: &str,
        filter: &EventFilter,
    ) -> Result<Outbox, DeliveryError> {
        let path = folder.join(format!("{name}.jsonl"));
        let store = Arc::clone(&self.store);
        Outbox::open(&path, store, filter.clone(), self.limits)
    }

    fn signals(&self) -> Signals {
        Signals::new(self.store.subscribe_all(), self.stop.clone())
    }
}

impl Delivery {
    /// Starts a thread for each receiver. The caller has locked the state folder. Files of receivers
    /// that are not configured any more stay, so that one that comes back continues where it
    /// stopped.
    ///
    /// # Errors
    ///
    /// If a file of the state folder cannot be used, or a thread cannot start.
    pub fn start(
        receivers: Receivers,
        store: Arc<SessionStore>,
        state_folder: &Path,
    ) -> Result<Self, DeliveryError> {
        Self::start_with(receivers, store, state_folder, BackoffLimits::default())
    }

    /// Starts with other delays of retries.
    pub(crate) fn start_with(
        receivers: Receivers,
        store: Arc<SessionStore>,
        state_folder: &Path,
        limits: BackoffLimits,
    ) -> Result<Self, DeliveryError> {
        let folder = state_folder.join(DELIVERIES);
        create_private_folder(&folder).map_err(DeliveryError::io("create", &folder))?;
        remove_unfinished(&folder).map_err(DeliveryError::io("clean", &folder))?;
        let (stop, stopped) = watch::channel(false);
        let shared = Shared {
            store,
            limits,
            stop: stopped,
        };
        let mut delivery = Self {
            stop,
            threads: Vec::new(),
        };
        for webhook in receivers.webhooks {
            let outbox = shared.outbox(&folder, &webhook.name, &webhook.filter)?;
            let name = webhook.name.clone();
            let monitor = Arc::new(Monitor::new(&name, ReceiverKind::Webhook));
            let worker = WebhookWorker::new(webhook, outbox, Arc::clone(&monitor), limits);
            let signals = shared.signals();
            delivery.spawn(&name, monitor, move |runtime| worker.run(runtime, signals))?;
        }
        for mqtt in receivers.brokers {
            let outbox = shared.outbox(&folder, &mqtt.name, &mqtt.filter)?;
            let name = mqtt.name.clone();
            let monitor = Arc::new(Monitor::new(&name, ReceiverKind::Mqtt));
            let worker = MqttWorker::open(mqtt, outbox, Arc::clone(&monitor), limits, &folder)?;
            let signals = shared.signals();
            delivery.spawn(&name, monitor, move |runtime| worker.run(runtime, signals))?;
        }
        Ok(delivery)
    }

    /// Returns the state of each receiver, in the order of the file, webhooks first.
    #[must_use]
    pub fn status(&self) -> Vec<ReceiverStatus> {
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
    pub fn begin_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops all threads. It waits for requests in flight, and at most two seconds for an MQTT
    /// broker. Waiting events stay for the next start.
    pub fn stop(&self) {
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

/// Creates a folder for its owner alone, unless it exists.
fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Removes files of atomic writes that a crash interrupted.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
