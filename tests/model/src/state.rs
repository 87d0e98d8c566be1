//! State of the whole system: the database, the nodes and one request.

use std::fmt;
use std::ops::{Index, IndexMut};

/// A node. Every process has a clock of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "nodes have no other names")]
pub enum NodeId {
    A,
    B,
    C,
}

impl NodeId {
    pub(crate) const ALL: [Self; 3] = [Self::A, Self::B, Self::C];
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One value for each node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerNode<T> {
    a: T,
    b: T,
    c: T,
}

impl<T> PerNode<T> {
    pub(crate) fn values_mut(&mut self) -> [&mut T; 3] {
        [&mut self.a, &mut self.b, &mut self.c]
    }
}

impl<T> Index<NodeId> for PerNode<T> {
    type Output = T;

    fn index(&self, node: NodeId) -> &T {
        match node {
            NodeId::A => &self.a,
            NodeId::B => &self.b,
            NodeId::C => &self.c,
        }
    }
}

impl<T> IndexMut<NodeId> for PerNode<T> {
    fn index_mut(&mut self, node: NodeId) -> &mut T {
        match node {
            NodeId::A => &mut self.a,
            NodeId::B => &mut self.b,
            NodeId::C => &mut self.c,
        }
    }
}

/// A change of the database that a caller asks for, and after which answers must differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The only person is deleted. Answers then must not name the person.
    Deletion,
    /// The second revision replaces the first. Answers then must not use the first.
    Activation,
}

/// A set of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Changes(u8);

impl Changes {
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn with(self, change: Change) -> Self {
        Self(self.0 | 1 << change as u8)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The numbered changes of the database. The counter is the number of the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Feed {
    first: Option<Change>,
    second: Option<Change>,
}

impl Feed {
    pub(crate) fn counter(&self) -> u8 {
        u8::from(self.first.is_some()) + u8::from(self.second.is_some())
    }

    /// Returns the change with a number. Numbers begin at 1.
    pub(crate) fn get(&self, number: u8) -> Option<Change> {
        match number {
            1 => self.first,
            2 => self.second,
            _ => None,
        }
    }

    pub(crate) fn number_of(&self, change: Change) -> Option<u8> {
        (1..=2).find(|number| self.get(*number) == Some(change))
    }

    pub(crate) fn push(&mut self, change: Change) {
        if self.first.is_none() {
            self.first = Some(change);
        } else {
            self.second = Some(change);
        }
    }

    /// Removes all changes with greater numbers.
    pub(crate) fn truncate(&mut self, counter: u8) {
        if counter < 2 {
            self.second = None;
        }
        if counter < 1 {
            self.first = None;
        }
    }

    /// Returns the state of people and routes, as the set of changes that made it.
    pub(crate) fn content(&self) -> Changes {
        let present = self.first.into_iter().chain(self.second);
        present.fold(Changes::default(), Changes::with)
    }
}

/// Row of a lease in the database. Its incarnation is the one that the node holds, or one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lease {
    /// There is no row.
    #[default]
    Absent,
    /// Waiters wait for the node.
    Live {
        /// Number that the node acknowledged.
        acknowledged: u8,
    },
    /// A waiter expelled the node.
    Expelled,
}

/// Whether nodes may answer without a lease. They are turned on once, and off once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StalePhase {
    /// They were not turned on.
    #[default]
    Off,
    /// They are on.
    On,
    /// They were turned off, and a node may not know it.
    Ending,
    /// No node answers without a lease any more.
    Over,
}

/// What a node knows of stale reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StaleKnowledge {
    /// True if it may answer without a lease.
    pub may_answer: bool,
    /// The last phase that it was told.
    pub knows: StalePhase,
}

/// The database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Database {
    /// Leases of the nodes.
    pub leases: PerNode<Lease>,
    /// Numbered changes.
    pub feed: Feed,
    /// Number up to which rows of the feed were removed.
    pub pruned: u8,
    /// True after the database was replaced.
    pub is_replaced: bool,
    /// Whether nodes may answer without a lease.
    pub stale_reads: StalePhase,
    /// What the lease of each node says about that.
    pub stale_rows: PerNode<StaleKnowledge>,
}

/// How far a node is with its lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Membership {
    /// The node holds no incarnation, and refuses requests.
    #[default]
    Out,
    /// The node asked for a new lease.
    Inserting,
    /// The node has a new lease, and applies what it lacks.
    Joining,
    /// The node has published its incarnation: requests can note it.
    Serving,
}

/// A statement about a node's own lease, with the ticks since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Statement {
    /// No statement is on its way.
    #[default]
    None,
    /// The statement has not reached the database.
    Sent(u8),
    /// The statement is committed, its answer on the way back.
    Committed(u8),
    /// The database refused the statement, the answer is on the way back.
    Refused,
}

/// What a waiter knows about a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Watch {
    /// The waiter has not read the lease, or it changed since.
    #[default]
    Unknown,
    /// The waiter listed the leases before its commit, and this one was not among them.
    Unlisted,
    /// The waiter asked for the lease, this many ticks ago.
    Asked(u8),
    /// The waiter has seen the lease unchanged for this many ticks.
    Unchanged(u8),
}

/// A change that a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiter {
    /// The change.
    pub change: Change,
    /// Number of the change; `None` until it is committed.
    pub number: Option<u8>,
    /// Watched leases.
    pub watches: PerNode<Watch>,
    /// Watch of a new epoch.
    pub epoch: Watch,
}

/// A process of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// How far the node is with its lease.
    pub membership: Membership,
    /// Ticks of the node's own clock since the last successful renewal began.
    pub age: u8,
    /// Statement about the node's lease that is on its way.
    pub statement: Statement,
    /// Counter that was read by a joining node.
    pub target: Option<u8>,
    /// Number of the last applied change; `None` if the node must load everything.
    pub applied: Option<u8>,
    /// Changes that the people and routes in memory include.
    pub view: Changes,
    /// True if the node knows that the database was replaced.
    pub knows_replaced: bool,
    /// What the node knows of stale reads.
    pub stale: StaleKnowledge,
    /// Phase of stale reads in the answer that is on its way.
    pub told: StalePhase,
    /// Change that a caller waits for at this node.
    pub waiter: Option<Waiter>,
}

/// The request that is followed. Requests do not influence each other, so that one is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Request {
    /// No request has begun.
    #[default]
    None,
    /// The request has begun and noted the incarnation.
    Noted {
        /// Node that received the request.
        node: NodeId,
        /// Changes that were answered when the request began.
        answered: Changes,
        /// True if the node still holds the noted incarnation.
        is_current: bool,
    },
    /// The request took an outdated view before it noted an incarnation.
    Unnoted {
        /// Node that received the request.
        node: NodeId,
        /// Answered changes that the view lacks.
        lacks: Changes,
    },
    /// The request works with an outdated view. One with a current view cannot break the promise,
    /// and is not followed further.
    Outdated {
        /// Node that received the request.
        node: NodeId,
        /// Answered changes that the view lacks.
        lacks: Changes,
        /// True if the node still holds the noted incarnation.
        is_current: bool,
    },
    /// The request was answered with an outdated view: the promise is broken.
    Broken,
}

/// State of the whole system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The database.
    pub database: Database,
    /// The nodes.
    pub nodes: PerNode<Node>,
    /// Ticks by which each clock is ahead of the slowest.
    pub lead: PerNode<u8>,
    /// Changes that were answered with success, and that no failover lost.
    pub answered: Changes,
    /// The request that is followed.
    pub request: Request,
}
