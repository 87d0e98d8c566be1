//! Steps of a node: its lease, the feed, and what it acknowledges.

use crate::action::Action;
use crate::protocol::{Protocol, Safeguard};
use crate::state::{
    Lease, Membership, Node, NodeId, Request, StaleKnowledge, StalePhase, State, Statement, Watch,
};
use crate::successors::Successors;

impl Protocol {
    /// Returns true if the node may rely on its lease, by its own clock.
    pub(crate) fn is_valid(&self, node: &Node) -> bool {
        node.membership == Membership::Serving && node.age < self.expiry()
    }

    /// Returns true if the node answers requests, with a lease or without.
    pub(crate) fn can_answer(&self, node: &Node) -> bool {
        self.is_valid(node) || node.stale.may_answer
    }

    /// Returns true if the node's statements are refused because the epoch changed.
    fn meets_epoch(&self, state: &State, id: NodeId) -> bool {
        let is_other = state.nodes[id].knows_replaced != state.database.is_replaced;
        self.has(Safeguard::NodeEpoch) && is_other
    }
}

impl State {
    /// Ends the incarnation of a node.
    fn leave(&mut self, id: NodeId) {
        let node = &mut self.nodes[id];
        node.membership = Membership::Out;
        node.statement = Statement::None;
        node.age = 0;
        node.target = None;
        node.told = StalePhase::Off;
        if let Request::Noted {
            node, is_current, ..
        }
        | Request::Outdated {
            node, is_current, ..
        } = &mut self.request
            && *node == id
        {
            *is_current = false;
        }
    }

    /// Writes a lease, which waiters see as a change.
    fn write_lease(&mut self, protocol: &Protocol, id: NodeId, lease: Lease) {
        self.database.leases[id] = lease;
        if protocol.has(Safeguard::CompareBeforeExpelling) {
            self.forget_watches(id);
        }
    }

    /// Makes waiters begin to watch a lease anew, because it is another one now.
    pub(crate) fn forget_watches(&mut self, id: NodeId) {
        for node in self.nodes.values_mut() {
            if let Some(waiter) = &mut node.waiter
                && let Watch::Unchanged(_) = waiter.watches[id]
            {
                waiter.watches[id] = Watch::Unknown;
            }
        }
    }
}

impl Successors<'_> {
    pub(crate) fn add_node(&mut self, id: NodeId) {
        self.add_lease(id);
        self.add_statement(id);
        self.add_feed(id);
        self.add(Action::Crashes(id), |state| {
            state.leave(id);
            let node = &mut state.nodes[id];
            node.waiter = None;
            node.stale = StaleKnowledge::default();
            if let Request::Noted { node, .. }
            | Request::Unnoted { node, .. }
            | Request::Outdated { node, .. } = state.request
                && node == id
            {
                state.request = Request::None;
            }
        });
    }

    /// Joining, renewing and leaving, as far as the node decides it.
    fn add_lease(&mut self, id: NodeId) {
        let protocol = self.protocol;
        let node = self.state.nodes[id];
        match node.membership {
            Membership::Out => {
                let reads_early = !protocol.has(Safeguard::LeaseBeforeCounter);
                if reads_early && node.target.is_none() {
                    self.add_reading_counter(id);
                } else {
                    self.add(Action::InsertionBegins(id), |state| {
                        let node = &mut state.nodes[id];
                        node.membership = Membership::Inserting;
                        node.statement = Statement::Sent(0);
                    });
                }
            }
            Membership::Inserting => {}
            Membership::Joining => {
                let is_idle = node.statement == Statement::None;
                // Only stale reads make a difference of these.
                if protocol.has_stale_reads && is_idle {
                    self.add_renewal(id);
                }
                if node.target.is_none() {
                    self.add_reading_counter(id);
                } else if node.applied >= node.target && is_idle {
                    self.add(Action::Serves(id), |state| {
                        let node = &mut state.nodes[id];
                        node.membership = Membership::Serving;
                        node.target = None;
                    });
                }
            }
            Membership::Serving => {
                if node.statement == Statement::None {
                    self.add_renewal(id);
                }
                if !protocol.is_valid(&node) {
                    self.add(Action::Leaves(id), |state| state.leave(id));
                }
            }
        }
    }

    fn add_renewal(&mut self, id: NodeId) {
        self.add(Action::RenewalBegins(id), |state| {
            state.nodes[id].statement = Statement::Sent(0);
        });
    }

    fn add_reading_counter(&mut self, id: NodeId) {
        let meets_epoch = self.protocol.meets_epoch(&self.state, id);
        self.add(Action::ReadsCounter(id), |state| {
            if meets_epoch {
                state.leave(id);
            } else {
                state.nodes[id].target = Some(state.database.feed.counter());
            }
        });
    }

    /// The way of an insertion or renewal through the database.
    fn add_statement(&mut self, id: NodeId) {
        let protocol = self.protocol;
        let node = self.state.nodes[id];
        let is_insertion = node.membership == Membership::Inserting;
        match node.statement {
            Statement::None => {}
            Statement::Sent(age) if is_insertion => {
                self.add(Action::StatementCommits(id), |state| {
                    state.insert_lease(protocol, id);
                    state.nodes[id].statement = Statement::Committed(age);
                });
            }
            Statement::Sent(age) => {
                let meets_epoch = protocol.meets_epoch(&self.state, id);
                self.add(Action::StatementCommits(id), |state| {
                    let renewed = match state.database.leases[id] {
                        live @ Lease::Live { .. } => Some(live),
                        Lease::Expelled if !protocol.has(Safeguard::RefuseExpelled) => {
                            Some(Lease::Live { acknowledged: 0 })
                        }
                        Lease::Expelled | Lease::Absent => None,
                    };
                    state.nodes[id].statement = Statement::Refused;
                    if let Some(lease) = renewed.filter(|_| !meets_epoch) {
                        state.write_lease(protocol, id, lease);
                        state.nodes[id].statement = Statement::Committed(age);
                        state.renew_stale_row(protocol, id);
                    }
                });
            }
            Statement::Committed(age) => self.add(Action::StatementReturns(id), |state| {
                let node = &mut state.nodes[id];
                node.statement = Statement::None;
                node.age = if protocol.has(Safeguard::LeaseFromRequest) {
                    age
                } else {
                    0
                };
                if is_insertion {
                    node.membership = if protocol.has(Safeguard::ApplyBeforeServing) {
                        Membership::Joining
                    } else {
                        Membership::Serving
                    };
                } else {
                    state.adopt_stale_reads(protocol, id);
                }
            }),
            Statement::Refused => self.add(Action::StatementReturns(id), |state| state.leave(id)),
        }
    }

    /// Applying and acknowledging changes.
    fn add_feed(&mut self, id: NodeId) {
        let protocol = self.protocol;
        let node = self.state.nodes[id];
        if !matches!(node.membership, Membership::Joining | Membership::Serving) {
            return;
        }
        let meets_epoch = protocol.meets_epoch(&self.state, id);
        let counter = self.state.database.feed.counter();
        if meets_epoch || node.applied > Some(counter) {
            self.add(Action::Applies(id), |state| {
                state.leave(id);
                state.nodes[id].applied = None;
            });
        } else if node.applied != Some(counter) {
            self.add(Action::Applies(id), |state| state.apply(protocol, id));
        }
        if let Lease::Live { acknowledged } = self.state.database.leases[id] {
            let number = if protocol.has(Safeguard::ApplyBeforeAcknowledging) {
                node.applied.unwrap_or(0)
            } else {
                counter
            };
            if number > acknowledged && !meets_epoch {
                self.add(Action::Acknowledges(id), |state| {
                    state.database.leases[id] = Lease::Live {
                        acknowledged: number,
                    };
                });
            }
        }
    }
}

impl State {
    /// Inserts a lease of a new incarnation in place of the process's former one.
    fn insert_lease(&mut self, protocol: &Protocol, id: NodeId) {
        self.write_lease(protocol, id, Lease::Live { acknowledged: 0 });
        self.insert_stale_row(protocol, id);
        if !protocol.has(Safeguard::KeepNamesakes) {
            for other in NodeId::ALL.into_iter().filter(|other| *other != id) {
                self.write_lease(protocol, other, Lease::Absent);
            }
        }
        let node = &mut self.nodes[id];
        if protocol.has(Safeguard::NodeEpoch) && node.knows_replaced != self.database.is_replaced {
            node.knows_replaced = self.database.is_replaced;
            node.applied = None;
        }
    }

    /// Applies the next change of the feed, or loads everything if a row is missing.
    fn apply(&mut self, protocol: &Protocol, id: NodeId) {
        let database = &self.database;
        let node = &mut self.nodes[id];
        match node.applied {
            Some(applied) if applied >= database.pruned => {
                if let Some(change) = database.feed.get(applied + 1) {
                    node.view = node.view.with(change);
                    node.applied = Some(applied + 1);
                }
            }
            Some(_) if !protocol.has(Safeguard::NoticeGap) => node.applied = Some(database.pruned),
            _ => {
                node.view = database.feed.content();
                node.applied = Some(database.feed.counter());
            }
        }
    }
}
