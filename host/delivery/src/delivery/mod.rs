//! Delivery of a host: in a fleet, of the one node that delivers.
//!
//! | module | content |
//! | --- | --- |
//! | `workers` | a thread for each receiver |
//! | `turns` | starts and ends them as this node is the one that delivers, or not |

mod turns;
mod workers;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rostro_common::fs::atomic::UNFINISHED;
use rostro_sessions::SessionStore;

use crate::backoff::BackoffLimits;
use crate::error::DeliveryError;
use crate::receivers::Receivers;
use crate::status::ReceiverStatus;

use turns::DeliveryTurns;
use workers::{WorkerSetup, Workers};

/// Name of the folder in the state folder.
pub const DELIVERIES: &str = "deliveries";

/// Running delivery. It stops when it is dropped, without waiting for requests in flight.
#[derive(Debug)]
pub struct Delivery(Deliverer);

#[derive(Debug)]
enum Deliverer {
    /// The only host of its sessions.
    Alone(Workers),
    /// A node of a fleet.
    Node(DeliveryTurns),
}

impl Delivery {
    /// Starts a thread for each receiver. The caller has locked the state folder. Files of receivers
    /// that are not configured any more stay, so that one that comes back continues where it
    /// stopped. On a node that shares its sessions, it starts when no other node delivers.
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
        let setup = WorkerSetup {
            receivers,
            store,
            folder,
            limits,
        };
        let deliverer = match setup.store.shared() {
            None => {
                let changes = setup.store.subscribe_all();
                Deliverer::Alone(Workers::start(&setup, &changes)?)
            }
            Some(_) if setup.receivers.is_empty() => Deliverer::Alone(Workers::none()),
            Some(shared) => {
                let shared = Arc::clone(shared);
                Deliverer::Node(DeliveryTurns::start(setup, shared)?)
            }
        };
        Ok(Self(deliverer))
    }

    /// Returns the state of each receiver, in the order of the file, webhooks first. On a node that
    /// does not deliver there are none.
    #[must_use]
    pub fn status(&self) -> Vec<ReceiverStatus> {
        match &self.0 {
            Deliverer::Alone(workers) => workers.status(),
            Deliverer::Node(turns) => turns.status(),
        }
    }

    /// Lets no further delivery begin.
    pub fn begin_stop(&self) {
        match &self.0 {
            Deliverer::Alone(workers) => workers.begin_stop(),
            Deliverer::Node(turns) => turns.begin_stop(),
        }
    }

    /// Stops all threads. It waits for requests in flight, and at most two seconds for an MQTT
    /// broker. Waiting events stay for the next start.
    pub fn stop(&self) {
        match &self.0 {
            Deliverer::Alone(workers) => workers.stop(),
            Deliverer::Node(turns) => turns.stop(),
        }
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
