//! Revisions that other nodes changed: a node stages what the shared record has, and serves by it.
//!
//! The record says which revisions exist and their roles, for all nodes. Whether a revision can
//! serve is a matter of each node, which tells the others. A node that has not staged the active
//! revision answers nothing.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rostro_common::digest::Sha256Digest;
use rostro_gallery::{FleetStatus, Lease};

use super::record::Status;
use super::{ChangeError, Deployment, DeploymentState, StateError};
use crate::people::{PendingPeople, PeopleError};

/// Why changes of other nodes cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The people cannot be read.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// The record of revisions cannot be read.
    #[error(transparent)]
    Record(#[from] StateError),
    /// That a revision is staged cannot be recorded.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Deployment {
    /// Applies changes of people and revisions that other programs and nodes made. Returns the
    /// number of people.
    ///
    /// # Errors
    ///
    /// If they cannot be read; the next call tries again.
    pub fn follow(&self, pending: &mut PendingPeople) -> Result<usize, FollowError> {
        let followed = self.follow_store(pending);
        // Also without the database, so that a trip ends.
        self.judge_fleet();
        followed
    }

    fn follow_store(&self, pending: &mut PendingPeople) -> Result<usize, FollowError> {
        let store = self.builder.people.store();
        let found = self.builder.people.rescan(pending)?;
        if store.is_shared() {
            let mut state = self.locked();
            if found.revisions {
                self.read_record(&mut state)?;
            }
            self.record_ready(&mut state)?;
            self.retry_interrupted(&mut state);
        }
        if found.is_complete {
            store.acknowledge_rescan();
        }
        let retried = self.builder.people.retry_pending(found.number, pending);
        Ok(found.people + retried)
    }

    /// Returns the lease under which this node may answer; none without the active revision.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.serves_active()
            .then(|| self.builder.people.store().lease())
            .flatten()
    }

    /// Returns the age of what this node may answer without a lease; none if it may not.
    pub(crate) fn stale_age(&self) -> Option<Duration> {
        self.serves_active()
            .then(|| self.builder.people.store().stale_age())
            .flatten()
    }

    pub(super) fn serves_active(&self) -> bool {
        self.serves_active.load(Ordering::SeqCst)
    }

    /// Counts an answer without a lease.
    pub(crate) fn count_stale_answer(&self) {
        self.stale_answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of answers without a lease.
    pub fn stale_answers(&self) -> u64 {
        self.stale_answers.load(Ordering::Relaxed)
    }

    /// Returns the state of this node's part in a fleet; none for a service with its own store.
    pub fn fleet_status(&self) -> Option<FleetStatus> {
        self.builder.people.store().fleet_status()
    }

    /// Returns true if an operator drains this node.
    pub fn is_draining(&self) -> bool {
        self.fleet_status().is_some_and(|status| status.is_draining)
    }

    /// Returns true if this node may recognise people from memory.
    pub fn can_recognize(&self) -> bool {
        self.lease().is_some() || self.stale_age().is_some()
    }

    /// Reads the record that other nodes may have written, and applies it.
    pub(super) fn read_record(&self, state: &mut DeploymentState) -> Result<(), StateError> {
        let store = &**self.builder.people.store();
        let record = self.state_folder.read(store)?;
        if record != state.record {
            self.adopt_record(state, record);
            self.queue_missing(state);
        }
        Ok(())
    }

    /// Queues the revisions of a shared record that this node has not staged.
    pub(super) fn queue_missing(&self, state: &DeploymentState) {
        for entry in &state.record.revisions {
            if entry.status.is_wanted()
                && !state.ready.contains_key(&entry.id)
                && !state.failures.contains_key(&entry.id)
            {
                // The receiving thread lives as long as the deployment.
                let _ = self.queue.send(entry.id);
            }
        }
    }

    /// Records that revisions are staged which this node staged while the store did not answer.
    fn record_ready(&self, state: &mut DeploymentState) -> Result<(), ChangeError> {
        let is_unrecorded = |id: &Sha256Digest| {
            let entry = state.record.entry(*id);
            entry.is_some_and(|entry| entry.status == Status::Staging)
        };
        let unrecorded: Vec<Sha256Digest> =
            state.ready.keys().copied().filter(is_unrecorded).collect();
        for id in unrecorded {
            self.mark_staged(state, id)?;
        }
        Ok(())
    }

    /// Queues the revisions again whose staging the database interrupted.
    fn retry_interrupted(&self, state: &mut DeploymentState) {
        if state.interrupted.is_empty() {
            return;
        }
        for id in std::mem::take(&mut state.interrupted) {
            state.failures.remove(&id);
        }
        self.queue_missing(state);
    }

    /// Tells the other nodes what this one has staged.
    pub(super) fn report(&self, state: &DeploymentState) {
        let ready = state.ready.keys().map(|id| (*id, Ok(())));
        let failures = state.failures.iter();
        let failures = failures.map(|(id, reason)| (*id, Err(reason.clone())));
        let revisions: BTreeMap<_, _> = failures.chain(ready).collect();
        self.builder.people.store().report_revisions(revisions);
    }
}
