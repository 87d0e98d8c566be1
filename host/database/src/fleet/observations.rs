//! What this node saw of its part in the fleet, for operators.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rostro_gallery::{FleetStatus, NodeHealth};

use super::Fleet;
use super::clock::since_boot;
use super::position::Position;

/// Values and counts that do not matter for the protocol.
#[derive(Debug, Default)]
pub(super) struct Observations {
    /// Whether an operator drains this node.
    is_draining: AtomicBool,
    /// Position of the latest change in the database at the last renewal.
    latest: Mutex<Option<Position>>,
    /// What the other live nodes reported of their requests.
    others: Mutex<Vec<NodeHealth>>,
    /// Leases of other nodes that this one expelled.
    expulsions: AtomicU64,
    /// Connections that renewed the lease.
    sessions: AtomicU64,
}

impl Observations {
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Records what a renewal returned.
    pub(super) fn record_renewal(&self, latest: Position, is_draining: bool) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(latest);
        if self.is_draining.swap(is_draining, Ordering::Relaxed) != is_draining {
            match is_draining {
                true => tracing::info!("an operator drains this node: it is not ready"),
                false => tracing::info!("this node is no longer drained"),
            }
        }
    }

    pub(super) fn record_others(&self, others: Vec<NodeHealth>) {
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = others;
    }

    pub(super) fn others(&self) -> Vec<NodeHealth> {
        let others = self.others.lock();
        others.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn count_expulsion(&self) {
        self.expulsions.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of connections that renewed the lease.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(super) fn count_session(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }
}

impl Fleet {
    /// Returns the state of this node's part in the fleet.
    pub(crate) fn status(&self, unsent_audit_bytes: u64) -> FleetStatus {
        let observations = &self.observations;
        let latest = observations.latest.lock();
        let latest = latest.unwrap_or_else(PoisonError::into_inner).clone();
        let applied = latest
            .as_ref()
            .and_then(|latest| self.position.number_in(&latest.epoch))
            .unwrap_or_default();
        FleetStatus {
            lag: latest.map_or(0, |latest| latest.number.saturating_sub(applied)),
            lease_age: self.membership.age(since_boot()),
            is_leased: self.membership.lease().is_some(),
            is_draining: observations.is_draining(),
            may_be_stale: !self.membership.stale_limit().is_zero(),
            expulsions: observations.expulsions.load(Ordering::Relaxed),
            joins: self.membership.count(),
            reconnects: observations
                .sessions
                .load(Ordering::Relaxed)
                .saturating_sub(1),
            unsent_audit_bytes,
            database: self.database.usage(),
        }
    }
}
