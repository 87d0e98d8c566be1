//! The health of the active revision on all nodes of a fleet.

use rostro_common::digest::Sha256Digest;
use rostro_gallery::NodeHealth;
use serde::{Deserialize, Serialize};

use super::breaker::{Clients, FailureShare, RecentRequests};

/// Number of nodes on which a revision must fail before it goes out for all.
const NODES: usize = 2;

/// What a node tells the others, as JSON in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HealthReport {
    /// The revision that is active on the node.
    pub revision: Sha256Digest,
    /// Whether the breaker tripped on the node within the last minute.
    pub is_tripped: bool,
    /// Clients of all its revisions within the last minute.
    pub clients: Clients,
    /// Requests of the active revision within the last minute.
    pub recent: RecentRequests,
}

impl HealthReport {
    /// Returns the text for the row.
    pub(crate) fn to_text(self) -> String {
        serde_json::to_string(&self).unwrap_or_default()
    }
}

/// Another live node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerNode {
    /// Whether a balancer may send it requests.
    pub is_ready: bool,
    /// None from a node that has not reported yet, or in another form.
    pub report: Option<HealthReport>,
}

impl From<NodeHealth> for PeerNode {
    fn from(node: NodeHealth) -> Self {
        Self {
            is_ready: node.is_ready,
            report: serde_json::from_str(&node.report).ok(),
        }
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthVerdict {
    /// It serves.
    Serve,
    /// It is not ready, because the revision fails here alone.
    Leave,
    /// The revision goes out for all, because it fails on this many nodes.
    TakeOut { nodes: usize },
    /// The revision goes out for all, because of the share of all nodes together.
    Excess(FailureShare),
}

/// Judges the revision that is active on this node by what all nodes reported of it.
pub(crate) fn judge(own: &HealthReport, others: &[PeerNode]) -> HealthVerdict {
    let same = || {
        let reports = others.iter().filter_map(|node| node.report);
        reports.filter(|report| report.revision == own.revision)
    };
    let recent = same().fold(own.recent, |recent, report| recent.and(report.recent));
    let reports = others.iter().filter_map(|node| node.report);
    let clients = reports.fold(own.clients, |clients, report| clients.and(report.clients));
    let is_affected = own.is_tripped || own.recent.failures > 0;
    if is_affected
        && let Some(excess) = recent.excess()
        && excess.is_enough(|client| clients.and(Clients::One(client)) == Clients::Several)
    {
        return HealthVerdict::Excess(excess.share);
    }
    if !own.is_tripped {
        return HealthVerdict::Serve;
    }
    let nodes = 1 + same().filter(|report| report.is_tripped).count();
    let is_healthy = |node: &PeerNode| {
        let is_tripped =
            |report: HealthReport| report.revision == own.revision && report.is_tripped;
        node.is_ready && !node.report.is_some_and(is_tripped)
    };
    match others.iter().any(is_healthy) {
        _ if nodes >= NODES => HealthVerdict::TakeOut { nodes },
        true => HealthVerdict::Leave,
        // No other node could take its requests.
        false => HealthVerdict::TakeOut { nodes },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(is_tripped: bool, requests: u64, failures: u64, client: u64) -> HealthReport {
        let clients = Clients::One(client);
        HealthReport {
            revision: Sha256Digest::of(b"active"),
            is_tripped,
            clients,
            recent: RecentRequests {
                requests,
                failures,
                clients,
            },
        }
    }

    fn other(report: HealthReport) -> PeerNode {
        PeerNode {
            is_ready: true,
            report: Some(report),
        }
    }

    #[test]
    fn lone_trip_leaves_to_healthy_node() {
        let own = report(true, 10, 10, 1);
        let healthy = other(report(false, 100, 0, 2));
        assert_eq!(judge(&own, &[healthy]), HealthVerdict::Leave);
        let drained = PeerNode {
            is_ready: false,
            ..healthy
        };
        assert_eq!(judge(&own, &[drained]), HealthVerdict::TakeOut { nodes: 1 });
        assert_eq!(judge(&own, &[]), HealthVerdict::TakeOut { nodes: 1 });
        assert_eq!(
            judge(&report(false, 9, 9, 1), &[healthy]),
            HealthVerdict::Serve
        );
    }

    #[test]
    fn two_trips_take_out() {
        let own = report(true, 10, 10, 1);
        let tripped = other(report(true, 9, 9, 2));
        let healthy = other(report(false, 100, 0, 2));
        assert_eq!(
            judge(&own, &[tripped, healthy]),
            HealthVerdict::TakeOut { nodes: 2 }
        );
        let mut another = report(true, 10, 10, 1);
        another.revision = Sha256Digest::of(b"another");
        assert_eq!(
            judge(&own, &[other(another), healthy]),
            HealthVerdict::Leave
        );
    }

    /// Requests of all nodes count together, as those of one do.
    #[test]
    fn summed_share_takes_out() {
        let share = |failures, requests| HealthVerdict::Excess(FailureShare { failures, requests });
        let failing = |client| report(false, 7, 7, client);
        let all = [other(failing(1)), other(failing(1))];
        assert_eq!(judge(&failing(1), &all), share(21, 21));
        assert_eq!(judge(&failing(2), &all), share(21, 21));
        assert_eq!(judge(&failing(1), &all[1..]), HealthVerdict::Serve);
        // One client fails, and others ask another revision.
        let mut mixed = failing(1);
        mixed.clients = Clients::Several;
        assert_eq!(judge(&mixed, &all), HealthVerdict::Serve);
        let healthy = other(report(false, 21, 0, 2));
        assert_eq!(
            judge(&failing(1), &[all[0], all[1], healthy]),
            HealthVerdict::Serve
        );
    }

    #[test]
    fn report_survives_text() {
        let own = report(true, 10, 3, 1);
        let node = NodeHealth {
            is_ready: true,
            report: own.to_text(),
        };
        assert_eq!(PeerNode::from(node).report, Some(own));
    }
}
