//! Actions, each an atomic step of one process, of the database or of time.

use std::fmt;

use crate::state::{Change, NodeId};

/// An atomic step. Delays, cuts and SIGSTOP need no actions: any step may come late or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The node's clock advances by a tick.
    Tick(NodeId),
    /// The node asks for a lease of a new incarnation.
    InsertionBegins(NodeId),
    /// The node begins to renew its lease.
    RenewalBegins(NodeId),
    /// The database executes and commits the insertion or renewal.
    StatementCommits(NodeId),
    /// The answer to the insertion or renewal arrives.
    StatementReturns(NodeId),
    /// The joining node reads the counter.
    ReadsCounter(NodeId),
    /// The node applies the next change of the feed, or loads everything.
    Applies(NodeId),
    /// The node publishes its incarnation.
    Serves(NodeId),
    /// The node writes to its lease what it applied.
    Acknowledges(NodeId),
    /// The node gives up its incarnation.
    Leaves(NodeId),
    /// The process ends, and starts again with what it has on disk.
    Crashes(NodeId),
    /// The waiter lists the leases before its change is committed.
    ListsEarly(NodeId, Change),
    /// The waiter commits a change, or finds it made.
    CommitsChange(NodeId, Change),
    /// The waiter asks for the lease of another node.
    AsksForLease(NodeId, NodeId),
    /// The waiter sees the lease of another node.
    SeesLease(NodeId, NodeId),
    /// The waiter sees that the epoch is new.
    SeesEpoch(NodeId),
    /// The waiter expels another node.
    Expels(NodeId, NodeId),
    /// The waiter answers the change with success.
    AnswersChange(NodeId),
    /// The waiter reaches its deadline.
    GivesUp(NodeId),
    /// A caller begins a request.
    RequestBegins(NodeId),
    /// The request notes the incarnation after it took the view.
    NotesLate(NodeId),
    /// The request takes its view.
    TakesView(NodeId),
    /// The request is answered.
    AnswersRequest(NodeId),
    /// The request is answered with 503.
    RefusesRequest(NodeId),
    /// Rows of the feed are removed.
    Prunes,
    /// An operator turns stale reads on.
    TurnsOnStaleReads,
    /// An operator turns stale reads off.
    TurnsOffStaleReads,
    /// Stale reads have ended.
    EndsStaleReads,
    /// The database is replaced. The counter falls by this number.
    FailsOver(u8),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = |change: &Change| match change {
            Change::Deletion => "the deletion",
            Change::Activation => "the activation",
        };
        match self {
            Self::Tick(node) => write!(f, "{node}: a tick passes"),
            Self::InsertionBegins(node) => write!(f, "{node}: asks for a new lease"),
            Self::RenewalBegins(node) => write!(f, "{node}: begins a renewal"),
            Self::StatementCommits(node) => write!(f, "database: executes the statement of {node}"),
            Self::StatementReturns(node) => write!(f, "{node}: the database's answer arrives"),
            Self::ReadsCounter(node) => write!(f, "{node}: reads the counter"),
            Self::Applies(node) => write!(f, "{node}: applies the feed"),
            Self::Serves(node) => write!(f, "{node}: publishes its incarnation"),
            Self::Acknowledges(node) => write!(f, "{node}: acknowledges"),
            Self::Leaves(node) => write!(f, "{node}: gives up its incarnation"),
            Self::Crashes(node) => write!(f, "{node}: crashes and starts again"),
            Self::ListsEarly(node, of) => write!(f, "{node}: lists leases for {}", change(of)),
            Self::CommitsChange(node, of) => write!(f, "{node}: commits {}", change(of)),
            Self::AsksForLease(node, of) => write!(f, "{node}: asks for the lease of {of}"),
            Self::SeesLease(node, of) => write!(f, "{node}: sees the lease of {of}"),
            Self::SeesEpoch(node) => write!(f, "{node}: sees a new epoch"),
            Self::Expels(node, of) => write!(f, "{node}: expels {of}"),
            Self::AnswersChange(node) => write!(f, "{node}: answers the change with success"),
            Self::GivesUp(node) => write!(f, "{node}: answers the change with 504"),
            Self::RequestBegins(node) => write!(f, "{node}: receives a request"),
            Self::NotesLate(node) => write!(f, "{node}: the request notes the incarnation"),
            Self::TakesView(node) => write!(f, "{node}: the request takes its view"),
            Self::AnswersRequest(node) => write!(f, "{node}: answers the request"),
            Self::RefusesRequest(node) => write!(f, "{node}: answers the request with 503"),
            Self::Prunes => write!(f, "database: removes rows of the feed"),
            Self::TurnsOnStaleReads => write!(f, "operator: turns stale reads on"),
            Self::TurnsOffStaleReads => write!(f, "operator: turns stale reads off"),
            Self::EndsStaleReads => write!(f, "database: stale reads have ended"),
            Self::FailsOver(lost) => write!(f, "database: fails over and loses {lost} changes"),
        }
    }
}
