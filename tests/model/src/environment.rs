//! Steps outside the nodes: time and the database's upkeep. Also the state at the beginning.

use crate::action::Action;
use crate::protocol::Protocol;
use crate::state::{Lease, Membership, Node, NodeId, State, Statement, Watch};
use crate::successors::Successors;

impl State {
    /// Returns the state in which all nodes serve and nothing was changed.
    pub(crate) fn initial(protocol: &Protocol) -> Self {
        let mut state = Self::default();
        for id in NodeId::ALL {
            state.nodes[id].applied = Some(0);
        }
        for id in protocol.serving {
            state.nodes[*id].membership = Membership::Serving;
            state.database.leases[*id] = Lease::Live { acknowledged: 0 };
        }
        state
    }
}

impl Node {
    /// Advances the node's clock. Ages stop where nothing depends on them any more.
    fn tick(&mut self, protocol: &Protocol) {
        let older = |age: u8| (age + 1).min(protocol.expiry());
        if matches!(self.membership, Membership::Joining | Membership::Serving) {
            self.age = older(self.age);
        }
        match &mut self.statement {
            Statement::Sent(age) | Statement::Committed(age) => *age = older(*age),
            Statement::None | Statement::Refused => {}
        }
        if let Some(waiter) = &mut self.waiter {
            let mut watches = waiter.watches.values_mut().into_iter();
            for watch in watches.by_ref().chain([&mut waiter.epoch]) {
                if let Watch::Asked(ticks) | Watch::Unchanged(ticks) = watch {
                    *ticks = (*ticks + 1).min(protocol.patience());
                }
            }
        }
    }
}

impl Successors<'_> {
    /// Collects all steps from a state.
    pub(crate) fn expand(&mut self, state: State) {
        self.state = state;
        let protocol = self.protocol;
        for id in protocol.members() {
            self.add_tick(id);
        }
        for id in protocol.serving {
            self.add_node(*id);
        }
        for id in protocol.waiting {
            self.add_waiter(*id);
        }
        self.add_request();
        self.add_failover();
        self.add_stale_reads();
        let database = &self.state.database;
        let counter = database.feed.counter();
        if protocol.has_pruning && database.pruned < counter {
            self.add(Action::Prunes, |state| state.database.pruned = counter);
        }
    }

    /// A clock advances unless it would be too far ahead of another.
    fn add_tick(&mut self, id: NodeId) {
        let protocol = self.protocol;
        let mut others = protocol.members().filter(|other| *other != id);
        let lead = self.state.lead[id];
        if others.any(|other| lead - self.state.lead[other].min(lead) >= protocol.drift) {
            return;
        }
        self.add(Action::Tick(id), |state| {
            state.lead[id] += 1;
            let slowest = protocol.members().map(|other| state.lead[other]).min();
            for other in protocol.members() {
                state.lead[other] -= slowest.unwrap_or(0);
            }
            state.nodes[id].tick(protocol);
        });
    }
}
