//! Trips of the circuit breaker.
//!
//! In a fleet a node is not ready for a minute after its breaker trips, so that a balancer sends
//! requests to the others. The active revision goes out for all nodes if it fails on two of them, or
//! if the share of failures of all nodes together is too large.

use std::sync::atomic::Ordering;

use rostro_gallery::NodeHealth;

use super::change::ChangeOutcome;
use super::ready::breaker::{Clients, OFF, Rule};
use super::ready::fleet_health::{HealthReport, HealthVerdict, PeerNode, judge};
use super::ready::{LocalTrip, Outcome, ReadyRevision};
use super::{Actor, Deployment};
use crate::audit::{Action, ActionOutcome};
use crate::executor::Client;

impl Deployment {
    /// Sets the number of failures in a row after which the breaker takes a revision out.
    pub fn set_breaker(&self, failures: u32) {
        self.breaker.store(failures, Ordering::Relaxed);
    }

    /// Returns true if this node is not ready, because its requests failed and those of others do
    /// not.
    pub fn is_tripped(&self) -> bool {
        self.is_tripped.load(Ordering::Relaxed)
    }

    /// Counts the outcome of a client's request on a revision. After too many failures, in a row or
    /// within the last minute, takes the revision out, and the previous one serves. An active
    /// revision stays if no other can serve.
    pub(crate) fn record_outcome(&self, ready: &ReadyRevision, client: &Client, outcome: &Outcome) {
        if self.builder.shutdown.has_begun() {
            // Cancelled work says nothing about the revision.
            return;
        }
        let in_a_row = ready.health.record(outcome, self.clients.number(client));
        let cause = match outcome {
            Outcome::Failure(cause) => cause,
            Outcome::Success | Outcome::Ignored => return,
        };
        let breaker = self.breaker.load(Ordering::Relaxed);
        if in_a_row >= breaker && in_a_row.is_multiple_of(breaker) {
            self.trip(ready, Rule::InARow(in_a_row), cause);
        } else if breaker < OFF
            && let Some(excess) = ready.health.excess()
            && excess.is_enough(|client| self.has_other_client(ready, client))
        {
            // A revision that stays is reported again only after this many further requests.
            ready.health.reset_share();
            self.trip(ready, Rule::Share(excess.share), cause);
        }
    }

    /// Returns true if another client than this asked any other revision within the last minute.
    fn has_other_client(&self, ready: &ReadyRevision, client: u64) -> bool {
        self.locked()
            .ready
            .values()
            .any(|other| !std::ptr::eq(&**other, ready) && other.health.has_other_client(client))
    }

    /// Returns the clients of all revisions within the last minute.
    fn all_clients(&self) -> Clients {
        let state = self.locked();
        let clients = state
            .ready
            .values()
            .map(|ready| ready.health.recent().clients);
        clients.fold(Clients::None, Clients::and)
    }

    fn trip(&self, ready: &ReadyRevision, rule: Rule, cause: &str) {
        let active = self.active();
        let is_shared = self.builder.people.store().is_shared();
        if !is_shared || !std::ptr::eq(&*active, ready) {
            self.take_out(ready, 1, rule, cause);
            return;
        }
        ready.health.trip(rule);
        self.judge_fleet();
    }

    /// Reports the health of the active revision to the other nodes, and compares it with theirs.
    /// Does nothing without a fleet.
    pub(super) fn judge_fleet(&self) {
        let store = self.builder.people.store();
        if !store.is_shared() {
            return;
        }
        let active = self.active();
        let trip = active.health.current_trip();
        let own = HealthReport {
            revision: active.id(),
            is_tripped: trip.is_some(),
            clients: self.all_clients(),
            recent: active.health.recent(),
        };
        let others = store.others_health();
        let others: Vec<PeerNode> = others.into_iter().map(PeerNode::from).collect();
        let is_off = self.breaker.load(Ordering::Relaxed) >= OFF;
        let verdict = match judge(&own, &others) {
            HealthVerdict::Excess(_) if is_off => HealthVerdict::Serve,
            verdict => verdict,
        };
        let was_tripped = self
            .is_tripped
            .swap(verdict == HealthVerdict::Leave, Ordering::Relaxed);
        let health = NodeHealth {
            is_ready: self.serves_active() && verdict != HealthVerdict::Leave,
            report: own.to_text(),
        };
        store.report_health(health, own.is_tripped);
        let cause = || active.health.last_cause();
        match (verdict, trip) {
            (HealthVerdict::Serve, _) if was_tripped => {
                tracing::info!("this node is ready again after its circuit breaker tripped");
            }
            (HealthVerdict::Leave, Some(LocalTrip { rule, .. })) if !was_tripped => {
                self.locked().trips.count_local(rule);
                tracing::error!(
                    revision = active.id().short(),
                    "this node is not ready for a minute, because requests fail here and not on other nodes: {rule}, the last: {}",
                    cause().escape_debug()
                );
            }
            (HealthVerdict::TakeOut { nodes }, Some(LocalTrip { rule, .. })) => {
                active.health.reset();
                self.take_out(&active, nodes, rule, &cause());
            }
            (HealthVerdict::Excess(share), _) => {
                active.health.reset();
                self.take_out(&active, 1, Rule::Share(share), &cause());
            }
            _ => {}
        }
    }

    /// Takes a revision out for all nodes, because the rule fired on this number of them.
    fn take_out(&self, ready: &ReadyRevision, nodes: usize, rule: Rule, cause: &str) {
        let id = ready.id();
        let on_nodes = match nodes {
            0 | 1 => String::new(),
            nodes => format!(", on {nodes} nodes"),
        };
        let reason = format!("taken out {rule}{on_nodes}, the last: {cause}");
        let outcome = self.commit(|draft| draft.take_out(ready, &reason));
        let (outcome, detail) = match outcome {
            Ok(ChangeOutcome { changed: false, .. }) => return,
            Ok(ChangeOutcome { changed: true, .. }) => {
                let mut state = self.locked();
                state.broken += 1;
                state.trips.count(rule, false);
                (ActionOutcome::Done, reason)
            }
            Err(error) => {
                let mut state = self.locked();
                state.stuck += 1;
                state.trips.count(rule, true);
                let detail = format!("it keeps serving, because {error}; it would be {reason}");
                (ActionOutcome::Refused, detail)
            }
        };
        tracing::error!(revision = id.short(), "{}", detail.escape_debug());
        let actor = Actor::part("breaker");
        self.audit
            .note(&actor, Action::Break, Some(id), outcome, &detail);
    }
}
