//! The promise, what the protocol still allows, and each safeguard left out.

use super::Safeguard::*;
use super::*;

/// A node that makes deletions and serves, and one that serves.
const PAIR: Protocol = Protocol {
    serving: &[NodeId::A, NodeId::B],
    waiting: &[NodeId::A],
    asked: &[NodeId::A, NodeId::B],
    changes: &[Change::Deletion],
    lease: 3,
    drift: 1,
    failover: Failover::Never,
    has_pruning: false,
    has_early_check: false,
    has_stale_reads: false,
    without: None,
};

/// A node that makes deletions and activations, and one that serves.
const FEED: Protocol = Protocol {
    serving: &[NodeId::B],
    asked: &[NodeId::B],
    changes: &[Change::Deletion, Change::Activation],
    has_pruning: true,
    ..PAIR
};

/// The same nodes, and a database that is replaced by any copy.
const FAILOVER: Protocol = Protocol {
    lease: 2,
    failover: Failover::Asynchronous,
    has_pruning: false,
    ..FEED
};

/// A node that makes deletions, one that serves, and an operator of stale reads.
const STALE: Protocol = Protocol {
    serving: &[NodeId::B],
    asked: &[NodeId::B],
    lease: 2,
    has_early_check: true,
    has_stale_reads: true,
    ..PAIR
};

fn is_broken(state: &State) -> bool {
    state.request == Request::Broken
}

/// Returns true if a node would answer a request that begins now with an outdated view. Requests
/// need no steps of their own to find this.
fn is_outdated(protocol: &Protocol, state: &State) -> bool {
    protocol.serving.iter().any(|id| {
        let node = &state.nodes[*id];
        protocol.can_answer(node) && !state.answered.without(node.view).is_empty()
    })
}

fn has_deleted(state: &State) -> bool {
    state.answered == Changes::default().with(Change::Deletion)
}

fn report(search: &Search) {
    println!("{} states", search.states);
    for action in search.path.iter().flatten() {
        println!("{action}");
    }
}

/// Asserts that a protocol keeps the promise in all of its states, at least `states`.
fn assert_promise(protocol: Protocol, states: usize) {
    let search = search(&protocol, |state| {
        is_broken(state) || is_outdated(&protocol, state)
    });
    report(&search);
    assert_eq!(search.path, None);
    assert!(search.states >= states, "only {} states", search.states);
}

/// Asserts that a state is reached, and returns a shortest path to it.
fn shortest_path(protocol: Protocol, is_goal: impl Fn(&State) -> bool) -> Vec<Action> {
    let search = search(&protocol, is_goal);
    report(&search);
    search.path.expect("no path to the goal")
}

/// Asserts that a protocol breaks the promise without a safeguard, in as many steps as the crate's
/// page says.
fn assert_needed(protocol: Protocol, safeguard: Safeguard) {
    let without = Some(safeguard);
    let path = shortest_path(
        Protocol {
            without,
            ..protocol
        },
        is_broken,
    );
    let row = format!("//! | `{safeguard:?}` |");
    let row = include_str!("lib.rs")
        .lines()
        .find(|line| line.starts_with(&row));
    let cells = row.expect("not on the crate's page").split('|');
    let steps = cells.map(str::trim).rfind(|cell| !cell.is_empty());
    assert_eq!(steps, Some(path.len().to_string().as_str()));
}

// The promise.

#[test]
fn pair_keeps_promise() {
    assert_promise(PAIR, 450_000);
}

#[test]
fn removed_rows_keep_promise() {
    assert_promise(FEED, 350_000);
}

#[test]
fn failover_keeps_promise() {
    let asked = &[];
    assert_promise(Protocol { asked, ..FAILOVER }, 350_000);
}

/// A request may work while the database is replaced. One kind of change is enough here.
#[test]
fn failover_during_request_keeps_promise() {
    let protocol = Protocol {
        changes: PAIR.changes,
        lease: PAIR.lease,
        ..FAILOVER
    };
    assert_promise(protocol, 60_000);
}

/// Both nodes make deletions and wait for each other.
#[test]
fn two_waiters_keep_promise() {
    let protocol = Protocol {
        waiting: PAIR.serving,
        asked: &[],
        lease: 2,
        ..PAIR
    };
    assert_promise(protocol, 500_000);
}

/// Two nodes serve, and a third makes deletions.
#[test]
fn three_nodes_keep_promise() {
    let protocol = Protocol {
        serving: &[NodeId::B, NodeId::C],
        asked: &[],
        lease: 2,
        ..PAIR
    };
    assert_promise(protocol, 750_000);
}

/// A node that answers without a lease names no deleted person.
#[test]
fn stale_reads_keep_promise() {
    assert_promise(STALE, 90_000);
}

// What the promise does not need.

/// A lease that is valid before the view is taken is as good as one that is valid afterwards.
#[test]
fn early_check_is_enough() {
    let protocol = Protocol {
        has_early_check: true,
        without: Some(CheckAfterWork),
        ..FEED
    };
    assert_promise(protocol, 200_000);
}

#[test]
fn synchronous_failover_needs_no_epoch() {
    for safeguard in [NodeEpoch, WaiterEpoch, SettleEpoch] {
        let protocol = Protocol {
            changes: PAIR.changes,
            failover: Failover::Synchronous,
            without: Some(safeguard),
            ..FAILOVER
        };
        assert_promise(protocol, 17_000);
    }
}

// What the protocol must allow.

/// A deletion waits for no clock if all nodes are well.
#[test]
fn healthy_fleet_deletes_at_once() {
    let path = shortest_path(PAIR, has_deleted);
    assert_eq!(path.len(), 6);
    assert!(!path.iter().any(|action| matches!(action, Action::Tick(_))));
}

/// A dead node delays a deletion by the lease and the margin.
#[test]
fn dead_node_delays_deletion() {
    let path = shortest_path(PAIR, |state| {
        has_deleted(state) && state.database.leases[NodeId::B] == Lease::Expelled
    });
    let ticks = path
        .iter()
        .filter(|action| **action == Action::Tick(NodeId::A));
    assert_eq!(ticks.count(), usize::from(PAIR.patience()));
}

/// Only a new lease has acknowledged nothing after the deletion was answered.
#[test]
fn expelled_node_serves_again() {
    let path = shortest_path(PAIR, |state| {
        let node = &state.nodes[NodeId::B];
        has_deleted(state)
            && PAIR.is_valid(node)
            && node.view == state.answered
            && state.database.leases[NodeId::B] == (Lease::Live { acknowledged: 0 })
    });
    assert!(path.contains(&Action::Serves(NodeId::B)));
}

/// The node answers without a lease while a deletion is made that is not answered.
#[test]
fn stale_node_misses_deletion() {
    shortest_path(STALE, |state| {
        let node = &state.nodes[NodeId::B];
        STALE.can_answer(node)
            && state.database.leases[NodeId::B] == Lease::Expelled
            && node.view != state.database.feed.content()
    });
}

/// Deletions are answered after stale reads, when the node that was cut off is back.
#[test]
fn stale_reads_end() {
    let path = shortest_path(STALE, |state| {
        has_deleted(state) && state.database.stale_reads == StalePhase::Over
    });
    assert!(path.contains(&Action::EndsStaleReads));
}

#[test]
fn outdated_work_is_refused() {
    let path = shortest_path(PAIR, |state| {
        matches!(state.request, Request::Outdated { .. })
    });
    assert!(path.contains(&Action::Expels(NodeId::A, NodeId::B)));
}

#[test]
fn replaced_database_takes_deletions() {
    let path = shortest_path(FAILOVER, |state| {
        has_deleted(state) && state.nodes[NodeId::B].knows_replaced
    });
    assert!(path.contains(&Action::AnswersChange(NodeId::A)));
}

// Safeguards left out.

/// The margin covers as much drift as clocks have here, and no more.
#[test]
fn drift_over_margin_breaks() {
    shortest_path(Protocol { drift: 2, ..FEED }, is_broken);
}

#[test]
fn margin_is_needed() {
    assert_needed(FEED, Margin);
}

#[test]
fn lease_from_request_is_needed() {
    assert_needed(FEED, LeaseFromRequest);
}

#[test]
fn watch_from_answer_is_needed() {
    assert_needed(FEED, WatchFromAnswer);
}

#[test]
fn wait_for_lease_is_needed() {
    assert_needed(FEED, WaitForLease);
}

#[test]
fn comparison_is_needed() {
    assert_needed(FEED, CompareBeforeExpelling);
}

#[test]
fn refusal_of_expelled_is_needed() {
    assert_needed(FEED, RefuseExpelled);
}

#[test]
fn lease_before_counter_is_needed() {
    assert_needed(FEED, LeaseBeforeCounter);
}

#[test]
fn apply_before_serving_is_needed() {
    assert_needed(FEED, ApplyBeforeServing);
}

#[test]
fn kept_namesake_is_needed() {
    assert_needed(PAIR, KeepNamesakes);
}

#[test]
fn note_before_view_is_needed() {
    assert_needed(FEED, NoteBeforeView);
}

#[test]
fn check_after_work_is_needed() {
    assert_needed(FEED, CheckAfterWork);
}

#[test]
fn same_incarnation_is_needed() {
    assert_needed(FEED, SameIncarnation);
}

#[test]
fn commit_before_listing_is_needed() {
    assert_needed(FEED, CommitBeforeListing);
}

#[test]
fn wait_for_own_node_is_needed() {
    assert_needed(PAIR, WaitForOwnNode);
}

#[test]
fn apply_before_acknowledging_is_needed() {
    assert_needed(FEED, ApplyBeforeAcknowledging);
}

#[test]
fn repeated_wait_is_needed() {
    assert_needed(FEED, RepeatedChangeWaits);
}

#[test]
fn node_epoch_is_needed() {
    assert_needed(FAILOVER, NodeEpoch);
}

#[test]
fn waiter_epoch_is_needed() {
    assert_needed(FAILOVER, WaiterEpoch);
}

#[test]
fn settled_epoch_is_needed() {
    assert_needed(FAILOVER, SettleEpoch);
}

#[test]
fn noticed_gap_is_needed() {
    assert_needed(FEED, NoticeGap);
}

#[test]
fn promise_without_stale_is_needed() {
    assert_needed(STALE, PromiseWithoutStale);
}

#[test]
fn begin_under_lease_is_needed() {
    assert_needed(STALE, BeginStaleUnderLease);
}

#[test]
fn kept_stale_row_is_needed() {
    assert_needed(STALE, KeepStaleRow);
}

#[test]
fn carried_stale_row_is_needed() {
    assert_needed(STALE, CarryStaleRow);
}

#[test]
fn reported_end_is_needed() {
    assert_needed(STALE, ReportEndOfStale);
}
