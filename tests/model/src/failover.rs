//! Replacement of the database by a standby or a backup.

use crate::action::Action;
use crate::protocol::{Failover, Protocol, Safeguard};
use crate::state::{Lease, State};
use crate::successors::Successors;

impl Successors<'_> {
    /// Replaces the database by any copy that may lack the latest commits. Copies are more varied
    /// than those that PostgreSQL can make, because each lease is chosen for itself.
    pub(crate) fn add_failover(&mut self) {
        let protocol = self.protocol;
        if protocol.failover == Failover::Never || self.state.database.is_replaced {
            return;
        }
        let is_lossy = protocol.failover == Failover::Asynchronous;
        let counter = self.state.database.feed.counter();
        let losses = if is_lossy { counter } else { 0 };
        let copies = if is_lossy { 3_u8 } else { 1 };
        let variants = copies.pow(protocol.serving.len() as u32);
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
        for id in protocol.serving {
            let lease = &mut database.leases[*id];
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
        for id in protocol.serving {
            self.forget_watches(*id);
        }
        for node in self.nodes.values_mut() {
            if protocol.has(Safeguard::WaiterEpoch) {
                node.waiter = None;
            }
        }
    }
}
