//! Exhaustive check of the protocol by which nodes that share a database keep their promise.
//!
//! Several nodes answer requests from their own memory and share one PostgreSQL. A deletion is made
//! at one of them. The caller must not meet the person again, although other nodes may be cut off,
//! stopped or slow. The protocol below achieves this without a statement for each request. The
//! model has its steps, and [`search()`] visits every order in which they can happen.
//!
//! # The protocol
//!
//! 1. *Promise.* For a request that begins after a deletion was answered with success, no node
//!    names the person. For one that begins after a change of routes was answered, no node uses the
//!    former revision. Requests that overlap may go either way.
//! 2. *Leases have incarnations.* A node answers only under a lease, which is a row in the database
//!    that it renews. A node that joins writes a row of a new incarnation and commits it. *Then* it
//!    reads the counter, applies everything up to it, and only then publishes the incarnation. A
//!    request notes the published incarnation, takes its view, works, and is answered if the same
//!    incarnation is still valid; otherwise the answer is 503. The database refuses to renew an
//!    expelled lease, and the node then joins again.
//! 3. *No clock is compared with another's.* A lease of length L counts from the moment when its
//!    last renewal *began*, on the node's clock, and the node relies on it for L minus a margin. A
//!    node that makes a change is its *waiter*. It expels a node if it saw the same lease for L
//!    plus the margin, on its own clock, from the *answer* of its first read on. Expelling compares
//!    the row with the one that was watched, in one statement.
//! 4. *Every change waits.* A change and its number are committed together. *Then* the waiter lists
//!    the leases, and answers when every live one has acknowledged the number, its own included. A
//!    change that was made before waits for the number under which it was made. A waiter that
//!    reaches its deadline answers 504.
//! 5. *Numbers belong to an epoch.* A standby or a backup that replaces the database begins another
//!    epoch. Each statement of a node compares the epoch; a node that meets another one gives up
//!    its incarnation and loads anew, and a waiter gives up. A waiter of the new epoch answers only
//!    after L plus the margin, because the copy may lack a lease that is still in force.
//! 6. *Rows of the feed are removed* at any time. A node that misses a number loads anew.
//! 7. *Stale reads* let nodes answer without a lease. A renewal under a published lease tells the
//!    node that it may, and the row of its lease then says so until the node reported that it knows
//!    otherwise. A new row of the process begins with what the node believes. No change is answered
//!    with success until stale reads were turned off, each live node has reported that it knows it,
//!    and no expelled row says that its node may answer.
//!
//! # The model
//!
//! A [`State`] has the database, the nodes, their clocks and one request. An [`Action`] is an
//! atomic step. No step is ever forced: it may come at once, late or never, while clocks go on. A
//! cut connection, a slow one and SIGSTOP are therefore included without actions of their own. A
//! statement about a lease is sent, executed and answered in three steps. A crash ends the
//! requests, the waiter and the incarnation of a node, which starts with what it had applied.
//!
//! Time is counted in ticks of each node's clock. Clocks may drift as far apart as the margin
//! covers. One person, one change of routes and one request are enough, because requests do not
//! influence each other and further people would be treated alike. A failover keeps any part of the
//! feed and any part of the leases; the promise is void for changes that it lost. Stale reads are
//! turned on once and off once. Their limit in time is not in the model.
//!
//! # The safeguards
//!
//! The promise holds with all of them. Without one [`Safeguard`] the search finds a counterexample.
//! The last column is the number of steps in the shortest:
//!
//! | safeguard | point | without it | steps |
//! | --- | --- | --- | --- |
//! | `Margin` | 3 | a clock that is fast expels a node that still answers | 12 |
//! | `LeaseFromRequest` | 3 | a late answer extends a lease that the waiter sees end | 17 |
//! | `WatchFromAnswer` | 3 | a slow read counts as time without a change of the lease | 18 |
//! | `WaitForLease` | 3 | a node answers although the waiter expelled it | 6 |
//! | `CompareBeforeExpelling` | 3 | a renewal after the waiter's last read is ignored | 17 |
//! | `RefuseExpelled` | 2 | an expelled node renews and answers with what it had | 17 |
//! | `LeaseBeforeCounter` | 2 | a change between counter and lease is never applied | 20 |
//! | `ApplyBeforeServing` | 2 | a node answers before it applied what it missed | 18 |
//! | `KeepNamesakes` | 2 | a second process hides the lease of the first | 11 |
//! | `NoteBeforeView` | 2 | an outdated view passes under a later incarnation | 21 |
//! | `CheckAfterWork` | 2 | a node answers after its lease | 14 |
//! | `SameIncarnation` | 2 | an outdated view is answered after the node joined again | 21 |
//! | `CommitBeforeListing` | 4 | a node that joins before the commit is not waited for | 25 |
//! | `WaitForOwnNode` | 4 | the waiter's node answers before it applied the change | 7 |
//! | `ApplyBeforeAcknowledging` | 4 | a node acknowledges and then answers with what it had | 6 |
//! | `RepeatedChangeWaits` | 4 | an unanswered deletion succeeds at once when repeated | 6 |
//! | `NodeEpoch` | 5 | the failover loses the expulsion, and the node renews | 16 |
//! | `WaiterEpoch` | 5 | the failover loses the deletion, which is answered with success | 19 |
//! | `SettleEpoch` | 5 | the failover loses the lease of a node that still answers | 6 |
//! | `NoticeGap` | 6 | a node skips the rows that were removed | 8 |
//! | `PromiseWithoutStale` | 7 | an expelled node answers without a lease | 16 |
//! | `BeginStaleUnderLease` | 7 | a node that joins begins to answer before it applied what it missed | 20 |
//! | `KeepStaleRow` | 7 | the answer that ends stale reads is lost | 20 |
//! | `CarryStaleRow` | 7 | the new lease of a cut-off node hides that it may answer | 21 |
//! | `ReportEndOfStale` | 7 | a node did not hear that stale reads were turned off | 18 |
//!
//! The search also shows what the promise does not need:
//!
//! - A check of the lease before the view is taken would be enough. The check after the work bounds
//!   the age of what is answered.
//!   Only stale reads need the earlier check, because the later one then may pass without a lease.
//! - Synchronous failovers need no epochs.
//! - The database need not refuse a lease that lapsed, only one that was expelled.
//!
//! # The modules
//!
//! | module | content |
//! | --- | --- |
//! | `protocol` | what a check covers: nodes, constants, events, safeguards |
//! | `state` | the state of database, nodes and request |
//! | `action` | the names of the steps |
//! | `successors` | collector of the steps from one state |
//! | `environment` | the first state, time, and removal of rows |
//! | `node` | leases, feed and acknowledgements |
//! | `waiter` | changes, watching and expelling |
//! | `request` | what a request does |
//! | `stale` | stale reads |
//! | `failover` | replacement of the database |
//! | `search` | breadth-first search |

mod action;
mod environment;
mod failover;
mod node;
mod protocol;
mod request;
mod search;
mod stale;
mod state;
mod successors;
#[cfg(test)]
mod tests;
mod waiter;

pub use action::Action;
pub use protocol::{Failover, Protocol, Safeguard};
pub use search::{Search, search};
pub use state::{
    Change, Changes, Database, Feed, Lease, Membership, Node, NodeId, PerNode, Request,
    StaleKnowledge, StalePhase, State, Statement, Waiter, Watch,
};
