//! Nodes that share a database.
//!
//! | module | content |
//! | --- | --- |
//! | `position` | the epoch, and the number up to which this node applied the changes |
//! | `membership` | the lease under which this node answers from memory |
//! | `session` | joins, renews the lease and listens, on a connection of its own |
//! | `leases` | rows of leases, and which of them ended |
//! | `settings` | settings that change answers |
//! | `admission` | compares them with those of the other nodes before this one serves |
//! | `observations` | what this node saw, for operators |
//! | `stale` | answers without a lease, where an operator allows them |
//! | `waiter` | waits until every node applied a change |
//!
//! `tests/model` checks the protocol in every order of its steps, and names what each safeguard
//! prevents. Numbers below are its points:
//!
//! - A node joins by writing a lease. Then it reads the counter, applies everything up to it, and
//!   only then publishes the lease (2).
//! - A lease counts from the moment when its renewal *began*, on the node's clock. A node relies on
//!   it for its length minus a margin. Others expel it if they see the same row for its length plus
//!   the margin, on their own clock (3).
//! - A change is committed, then the leases are listed, and it is answered when each live one has
//!   acknowledged the number (4).
//! - While stale reads are on, no change is answered with success, because a node may answer without
//!   a lease. `stale` says when they have ended.
//! - Each statement compares the epoch. A node that meets another one loads anew (5).

mod admission;
mod clock;
mod leases;
mod membership;
mod observations;
mod position;
mod session;
pub mod settings;
pub mod stale;
mod waiter;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rostro_gallery::NodeHealth;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::connection::{Database, DatabaseError};
use leases::Watch;
use membership::Membership;
use observations::Observations;
use position::AppliedPosition;
use settings::NodeSettings;

pub(crate) use leases::milliseconds;
pub(crate) use position::{Epoch, Position};
pub(crate) use session::WRITER_LOCK;

/// How a node takes part in a fleet.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Name of the node, for people.
    pub node: String,
    /// Length of its lease.
    pub lease: Duration,
    /// Settings that change answers, which must be the same on all nodes.
    pub settings: NodeSettings,
    /// Whether the node starts although its settings differ from those of a live one.
    pub allows_different: bool,
    /// Address at which callers reach this node, for redirects to it; none if they cannot.
    pub address: Option<String>,
}

/// This node's part in the fleet.
#[derive(Debug)]
pub(crate) struct Fleet {
    database: Database,
    options: FleetOptions,
    membership: Membership,
    position: AppliedPosition,
    /// Leases as this process saw them.
    watch: Mutex<Watch>,
    /// Fires when a change may be there to apply.
    changes: Signal,
    /// Lease of this process, for its removal at the end.
    own: Mutex<Option<Uuid>>,
    /// Earlier leases of this process, until it has a later one.
    former: Mutex<Vec<Uuid>>,
    is_leaving: AtomicBool,
    /// Why this node may not join; none if it may.
    refusal: Mutex<Option<DatabaseError>>,
    observations: Observations,
    /// What this node has staged, for its row.
    revisions: Mutex<String>,
    /// What this node reports of its requests, for its row.
    health: Mutex<NodeHealth>,
    /// Fires when the lease must be renewed at once, because a waiter needs the acknowledgement.
    urgent: Notify,
}

impl Fleet {
    pub(crate) fn new(database: Database, options: FleetOptions) -> Arc<Self> {
        Arc::new(Self {
            database,
            options,
            membership: Membership::default(),
            position: AppliedPosition::default(),
            watch: Mutex::default(),
            changes: Signal::default(),
            own: Mutex::default(),
            former: Mutex::default(),
            is_leaving: AtomicBool::new(false),
            refusal: Mutex::default(),
            observations: Observations::default(),
            revisions: Mutex::new("{}".to_owned()),
            health: Mutex::default(),
            urgent: Notify::new(),
        })
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    pub(crate) fn position(&self) -> &AppliedPosition {
        &self.position
    }

    /// Tells the other nodes what this one has staged.
    pub(crate) fn report_revisions(&self, revisions: String) {
        *self.lock_revisions() = revisions;
        self.urgent.notify_one();
    }

    /// Tells the other nodes of the requests of this one.
    pub(crate) fn report_health(&self, report: NodeHealth, is_urgent: bool) {
        let mut health = self.lock_health();
        let is_urgent = is_urgent && *health != report || health.is_ready != report.is_ready;
        *health = report;
        drop(health);
        if is_urgent {
            self.urgent.notify_one();
        }
    }

    /// Returns what the other live nodes reported; nothing without a lease, because it is outdated.
    pub(crate) fn others_health(&self) -> Vec<NodeHealth> {
        match self.membership.lease() {
            Some(_) => self.observations.others(),
            None => Vec::new(),
        }
    }

    fn lock_health(&self) -> MutexGuard<'_, NodeHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time since the last renewal if this node may answer without a lease.
    pub(crate) fn stale_age(&self) -> Option<Duration> {
        let has_left = self.is_leaving.load(Ordering::SeqCst);
        (!has_left).then(|| self.membership.stale_age()).flatten()
    }

    /// Returns the name of this node.
    pub(crate) fn node(&self) -> &str {
        &self.options.node
    }

    /// Returns the lease of this process if it is valid now.
    pub(crate) fn own_lease(&self) -> Option<Uuid> {
        self.membership.lease().and(*self.lock_own())
    }

    /// Returns true for the lease of this process.
    pub(crate) fn is_own(&self, lease: Uuid) -> bool {
        *self.lock_own() == Some(lease)
    }

    fn lock_own(&self) -> MutexGuard<'_, Option<Uuid>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_former(&self) -> MutexGuard<'_, Vec<Uuid>> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_revisions(&self) -> MutexGuard<'_, String> {
        self.revisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until there may be changes, at most for `period`.
    pub(crate) fn wait_for_changes(&self, period: Duration) {
        self.changes.wait(period);
    }

    /// Returns why this node may not join, once; none if it may.
    pub(crate) fn take_refusal(&self) -> Option<DatabaseError> {
        self.refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Gives up to join, and removes the lease.
    async fn refuse(&self, reason: DatabaseError) {
        if let Err(error) = self.leave().await {
            tracing::warn!("cannot remove the lease of this node: {error}");
        }
        // Last, because the process ends then.
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// Records that this node applied all changes up to a position.
    pub(crate) fn acknowledge(&self, position: Position, is_awaited: bool) {
        self.position.set(position);
        if is_awaited {
            self.urgent.notify_one();
        }
    }
}

/// A flag that one thread waits for and resets.
#[derive(Debug, Default)]
struct Signal {
    is_set: Mutex<bool>,
    condition: Condvar,
}

impl Signal {
    fn set(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condition.notify_all();
    }

    fn wait(&self, period: Duration) {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut is_set, _) = self
            .condition
            .wait_timeout_while(is_set, period, |is_set| !*is_set)
            .unwrap_or_else(PoisonError::into_inner);
        *is_set = false;
    }
}
