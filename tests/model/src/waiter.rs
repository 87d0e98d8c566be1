//! Steps of a node at which a caller makes a change.

use crate::action::Action;
use crate::protocol::{Protocol, Safeguard};
use crate::state::{Lease, NodeId, PerNode, State, Waiter, Watch};
use crate::successors::Successors;

impl Protocol {
    /// Returns true if a lease that was watched for so long has ended on its node's clock too.
    fn is_over(&self, watch: Watch) -> bool {
        matches!(watch, Watch::Unchanged(ticks) if ticks >= self.patience())
    }

    /// Returns true if a lease that the failover lost may still be in force.
    fn waits_for_epoch(&self, state: &State, waiter: &Waiter) -> bool {
        state.database.is_replaced
            && self.has(Safeguard::SettleEpoch)
            && !self.is_over(waiter.epoch)
    }

    /// Returns true if the waiter at node `id` has to wait for the node `of`.
    fn waits_for_lease(&self, state: &State, id: NodeId, waiter: &Waiter, of: NodeId) -> bool {
        let is_own = id == of && !self.has(Safeguard::WaitForOwnNode);
        let is_ignored = is_own || waiter.watches[of] == Watch::Unlisted;
        let has_acknowledged = match state.database.leases[of] {
            Lease::Live { acknowledged } => Some(acknowledged) >= waiter.number,
            Lease::Absent | Lease::Expelled => true,
        };
        !is_ignored && !has_acknowledged
    }
}

impl State {
    fn watch(&mut self, id: NodeId, of: NodeId, watch: Watch) {
        if let Some(waiter) = &mut self.nodes[id].waiter {
            waiter.watches[of] = watch;
        }
    }

    /// Commits a change unless it was made before, and begins to wait for its number.
    fn commit(&mut self, waiter: Waiter, id: NodeId) {
        let feed = &mut self.database.feed;
        let number = feed.number_of(waiter.change).unwrap_or_else(|| {
            feed.push(waiter.change);
            feed.counter()
        });
        self.nodes[id].waiter = Some(Waiter {
            number: Some(number),
            ..waiter
        });
    }
}

impl Successors<'_> {
    pub(crate) fn add_waiter(&mut self, id: NodeId) {
        let protocol = self.protocol;
        let Some(waiter) = self.state.nodes[id].waiter else {
            self.add_change(id);
            return;
        };
        self.add(Action::GivesUp(id), |state| state.nodes[id].waiter = None);
        if waiter.number.is_none() {
            self.add(Action::CommitsChange(id, waiter.change), |state| {
                state.commit(waiter, id);
            });
            return;
        }
        if self.state.database.is_replaced && waiter.epoch == Watch::Unknown {
            self.add(Action::SeesEpoch(id), |state| {
                if let Some(waiter) = &mut state.nodes[id].waiter {
                    waiter.epoch = Watch::Unchanged(0);
                }
            });
        }
        for other in protocol.serving.iter().filter(|other| **other != id) {
            self.add_watch(id, &waiter, *other);
        }
        let waits = protocol.waits_for_epoch(&self.state, &waiter)
            || (protocol.serving.iter())
                .any(|other| protocol.waits_for_lease(&self.state, id, &waiter, *other));
        if !waits && protocol.can_promise(&self.state) {
            self.add(Action::AnswersChange(id), |state| {
                state.answered = state.answered.with(waiter.change);
                state.nodes[id].waiter = None;
            });
        }
    }

    fn add_change(&mut self, id: NodeId) {
        let protocol = self.protocol;
        for change in protocol.changes.iter().copied() {
            let waiter = Waiter {
                change,
                number: None,
                watches: PerNode::default(),
                epoch: Watch::default(),
            };
            let is_made = self.state.database.feed.number_of(change).is_some();
            if is_made && !protocol.has(Safeguard::RepeatedChangeWaits) {
                self.add(Action::CommitsChange(id, change), |state| {
                    state.answered = state.answered.with(change);
                });
            } else if protocol.has(Safeguard::CommitBeforeListing) {
                self.add(Action::CommitsChange(id, change), |state| {
                    state.commit(waiter, id);
                });
            } else {
                self.add(Action::ListsEarly(id, change), |state| {
                    let mut waiter = waiter;
                    for other in protocol.serving {
                        if !matches!(state.database.leases[*other], Lease::Live { .. }) {
                            waiter.watches[*other] = Watch::Unlisted;
                        }
                    }
                    state.nodes[id].waiter = Some(waiter);
                });
            }
        }
    }

    fn add_watch(&mut self, id: NodeId, waiter: &Waiter, of: NodeId) {
        let protocol = self.protocol;
        if !protocol.waits_for_lease(&self.state, id, waiter, of) {
            return;
        }
        let watch = waiter.watches[of];
        match watch {
            Watch::Unknown if protocol.has(Safeguard::WatchFromAnswer) => {
                self.add(Action::SeesLease(id, of), |state| {
                    state.watch(id, of, Watch::Unchanged(0));
                });
            }
            Watch::Unknown => self.add(Action::AsksForLease(id, of), |state| {
                state.watch(id, of, Watch::Asked(0));
            }),
            Watch::Asked(ticks) => self.add(Action::SeesLease(id, of), |state| {
                state.watch(id, of, Watch::Unchanged(ticks));
            }),
            Watch::Unlisted | Watch::Unchanged(_) => {}
        }
        if protocol.is_over(watch) || !protocol.has(Safeguard::WaitForLease) {
            self.add(Action::Expels(id, of), |state| {
                state.database.leases[of] = Lease::Expelled;
                state.forget_watches(of);
            });
        }
    }
}
