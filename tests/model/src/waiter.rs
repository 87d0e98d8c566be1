//! Steps of a node at which a caller makes a change.

use crate::action::Action;
use crate::protocol::{Failover, Protocol, Safeguard};
use crate::state::{Lease, NodeId, PerNode, State, Waiter, Watch};
use crate::successors::Successors;

impl Protocol {
    /// Returns true if nothing that a waiter watches can still be in force elsewhere.
    fn is_over(&self, watch: Watch) -> bool {
        matches!(watch, Watch::Unchanged(ticks) if ticks >= self.patience())
    }

    fn waits_for_epoch(&self, state: &State, waiter: &Waiter) -> bool {
        state.database.is_replaced
            && self.has(Safeguard::SettleEpoch)
            && !self.is_over(waiter.epoch)
    }

    fn waits_for_lease(&self, state: &State, waiter: &Waiter, id: NodeId) -> bool {
        let is_listed = waiter.listed.is_none_or(|listed| listed[id]);
        let has_acknowledged = match state.database.leases[id] {
            Lease::Live { acknowledged } => Some(acknowledged) >= waiter.number,
            Lease::Absent | Lease::Expelled => true,
        };
        is_listed && !has_acknowledged
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
                .any(|other| protocol.waits_for_lease(&self.state, &waiter, *other));
        if !waits {
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
                listed: None,
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
                    let mut listed = PerNode::default();
                    for other in NodeId::ALL {
                        let lease = state.database.leases[other];
                        listed[other] = matches!(lease, Lease::Live { .. });
                    }
                    state.nodes[id].waiter = Some(Waiter {
                        listed: Some(listed),
                        ..waiter
                    });
                });
            }
        }
    }

    fn add_watch(&mut self, id: NodeId, waiter: &Waiter, of: NodeId) {
        let protocol = self.protocol;
        if !protocol.waits_for_lease(&self.state, waiter, of) {
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
            Watch::Unchanged(_) => {}
        }
        if protocol.is_over(watch) || !protocol.has(Safeguard::WaitForLease) {
            self.add(Action::Expels(id, of), |state| {
                state.database.leases[of] = Lease::Expelled;
                state.forget_watches(of);
            });
        }
    }

    /// Replaces the database by a copy that may lack the latest commits.
    pub(crate) fn add_failover(&mut self) {
        let protocol = self.protocol;
        if protocol.failover == Failover::Never || self.state.database.is_replaced {
            return;
        }
        let is_lossy = protocol.failover == Failover::Asynchronous;
        let counter = self.state.database.feed.counter();
        let losses = if is_lossy { counter } else { 0 };
        let copies = if is_lossy { 3_u8 } else { 1 };
        let variants = copies.pow(NodeId::ALL.len() as u32);
        for lost in 0..=losses {
            for variant in 0..variants {
                self.add(Action::FailsOver(lost), |state| {
                    state.replace_database(protocol, counter - lost, variant);
                });
            }
        }
    }
}

impl State {
    /// Replaces the database by a copy with a counter. The digits of `variant` to the base of 3
    /// say for each lease whether the copy has it, has it not yet expelled, or lacks it.
    fn replace_database(&mut self, protocol: &Protocol, counter: u8, mut variant: u8) {
        let database = &mut self.database;
        let before = database.feed.content();
        database.is_replaced = true;
        database.feed.truncate(counter);
        database.pruned = database.pruned.min(counter);
        for id in NodeId::ALL {
            let lease = &mut database.leases[id];
            *lease = match (variant % 3, *lease) {
                (0, Lease::Live { acknowledged }) => Lease::Live {
                    acknowledged: acknowledged.min(counter),
                },
                (0, lease) => lease,
                (1, Lease::Expelled) => Lease::Live { acknowledged: 0 },
                _ => Lease::Absent,
            };
            variant /= 3;
        }
        let lost = before.without(database.feed.content());
        self.answered = self.answered.without(lost);
        self.request = self.request.forgive(lost);
        for id in NodeId::ALL {
            self.forget_watches(id);
        }
        for node in self.nodes.values_mut() {
            if protocol.has(Safeguard::WaiterEpoch) {
                node.waiter = None;
            }
        }
    }
}
