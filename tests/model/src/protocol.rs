//! What a check covers: the nodes, the constants of time, the events, and the safeguards in force.

use crate::state::{Change, NodeId};

/// Margin in ticks, by which a node stops early and a waiter waits longer.
const MARGIN: u8 = 1;

/// A rule of the protocol without which it would be simpler. The numbers in brackets are those of
/// the crate's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safeguard {
    /// A node stops early by the margin, and a waiter waits longer by it (3).
    Margin,
    /// A lease counts from the moment when its renewal began, not from the answer (3).
    LeaseFromRequest,
    /// A waiter's watch counts from the answer of its first read, not from the request (3).
    WatchFromAnswer,
    /// A waiter that meets an unexpired lease waits for it (3).
    WaitForLease,
    /// Expelling compares the lease with the one that was watched, in the same statement (3).
    CompareBeforeExpelling,
    /// The database refuses to renew an expelled lease (2).
    RefuseExpelled,
    /// A joining node commits its lease before it reads the counter (2).
    LeaseBeforeCounter,
    /// A joining node applies everything up to the counter before requests can note the
    /// incarnation (2).
    ApplyBeforeServing,
    /// A joining process leaves the lease of another process with the same name alone (2).
    KeepNamesakes,
    /// A request notes the incarnation before it takes the view (2).
    NoteBeforeView,
    /// The lease is checked after the work (2).
    CheckAfterWork,
    /// The check after the work compares the incarnation with the noted one (2).
    SameIncarnation,
    /// A waiter lists the leases after its change is committed (4).
    CommitBeforeListing,
    /// A waiter waits for its own node like for any other (4).
    WaitForOwnNode,
    /// A node acknowledges what it applied, not what it read (4).
    ApplyBeforeAcknowledging,
    /// A repeated change, which changes nothing, waits too (4).
    RepeatedChangeWaits,
    /// Every statement of a node compares the epoch (5).
    NodeEpoch,
    /// A waiter gives up when it meets another epoch (5).
    WaiterEpoch,
    /// In a new epoch a waiter answers only after a lease plus margin (5).
    SettleEpoch,
    /// A node that misses a number in the feed loads anew (6).
    NoticeGap,
    /// No change is answered with success until stale reads have ended (7).
    PromiseWithoutStale,
    /// Only a node under a lease may begin to answer without one (7).
    BeginStaleUnderLease,
    /// The row of a node says that it may, until the node reported that it knows otherwise (7).
    KeepStaleRow,
    /// The row of a new lease says so from the beginning (7).
    CarryStaleRow,
    /// Stale reads end only when every live node reported that it knows it (7).
    ReportEndOfStale,
}

/// How the database may be replaced by its standby or a backup, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// Never.
    Never,
    /// By a standby that has every commit.
    Synchronous,
    /// By a standby or a backup that lacks the latest commits.
    Asynchronous,
}

/// A protocol, the nodes that follow it, and the events that they may meet.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// Nodes that hold a lease and answer requests.
    pub serving: &'static [NodeId],
    /// Nodes at which changes are made.
    pub waiting: &'static [NodeId],
    /// Nodes that may receive the request that is followed.
    pub asked: &'static [NodeId],
    /// Changes that are made, each any number of times.
    pub changes: &'static [Change],
    /// Length of a lease in ticks.
    pub lease: u8,
    /// Maximum number of ticks by which one node's clock is ahead of another's, at least 1. Two
    /// clocks can therefore measure the same span of time with a difference of twice as much.
    pub drift: u8,
    /// How the database may be replaced.
    pub failover: Failover,
    /// True if rows of the feed are removed.
    pub has_pruning: bool,
    /// True if the lease is checked before the work as well.
    pub has_early_check: bool,
    /// True if an operator turns stale reads on and off.
    pub has_stale_reads: bool,
    /// Safeguard that is left out.
    pub without: Option<Safeguard>,
}

impl Protocol {
    /// Returns true if a safeguard is in force.
    pub(crate) fn has(&self, safeguard: Safeguard) -> bool {
        self.without != Some(safeguard)
    }

    /// Age in ticks at which a node no longer relies on its lease.
    pub(crate) fn expiry(&self) -> u8 {
        self.lease - self.margin()
    }

    /// Ticks during which a waiter must see a lease unchanged before it expels the node.
    pub(crate) fn patience(&self) -> u8 {
        self.lease + self.margin()
    }

    fn margin(&self) -> u8 {
        if self.has(Safeguard::Margin) {
            MARGIN
        } else {
            0
        }
    }

    /// Nodes with a clock.
    pub(crate) fn members(&self) -> impl Iterator<Item = NodeId> {
        NodeId::ALL
            .into_iter()
            .filter(|node| self.serving.contains(node) || self.waiting.contains(node))
    }
}
