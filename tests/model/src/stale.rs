//! Stale reads: answers without a lease, which an operator turns on and off once.

use crate::action::Action;
use crate::protocol::{Protocol, Safeguard};
use crate::state::{Lease, Membership, NodeId, StaleKnowledge, StalePhase, State};
use crate::successors::Successors;

impl Protocol {
    /// Returns true if a change may be answered with success.
    pub(crate) fn can_promise(&self, state: &State) -> bool {
        let is_off = matches!(
            state.database.stale_reads,
            StalePhase::Off | StalePhase::Over
        );
        is_off || !self.has(Safeguard::PromiseWithoutStale)
    }

    /// Returns true if every node has reported that stale reads were turned off.
    fn can_end(&self, state: &State) -> bool {
        state.database.stale_reads == StalePhase::Ending
            && self.serving.iter().all(|id| {
                let row = state.database.stale_rows[*id];
                let is_uninformed = match state.database.leases[*id] {
                    Lease::Live { .. } => {
                        row.knows != StalePhase::Ending && self.has(Safeguard::ReportEndOfStale)
                    }
                    Lease::Expelled => row.may_answer,
                    Lease::Absent => false,
                };
                !is_uninformed
            })
    }
}

impl State {
    /// Writes with a renewal what the node knows, and what it is about to be told.
    pub(crate) fn renew_stale_row(&mut self, protocol: &Protocol, id: NodeId) {
        let phase = self.database.stale_reads;
        let node = &mut self.nodes[id];
        let is_granted = phase == StalePhase::On && node.membership == Membership::Serving;
        let keeps = node.stale.may_answer && protocol.has(Safeguard::KeepStaleRow);
        self.database.stale_rows[id] = StaleKnowledge {
            may_answer: keeps || is_granted,
            knows: node.stale.knows,
        };
        node.told = match phase {
            StalePhase::Over => StalePhase::Ending,
            phase => phase,
        };
    }

    /// Adopts what a renewal returned.
    pub(crate) fn adopt_stale_reads(&mut self, protocol: &Protocol, id: NodeId) {
        let node = &mut self.nodes[id];
        let told = std::mem::take(&mut node.told);
        let is_leased = node.membership == Membership::Serving;
        let may_begin = is_leased || !protocol.has(Safeguard::BeginStaleUnderLease);
        node.stale = StaleKnowledge {
            may_answer: told == StalePhase::On && (node.stale.may_answer || may_begin),
            knows: told,
        };
    }

    /// Begins the row of a new lease.
    pub(crate) fn insert_stale_row(&mut self, protocol: &Protocol, id: NodeId) {
        let may_answer = self.nodes[id].stale.may_answer && protocol.has(Safeguard::CarryStaleRow);
        self.database.stale_rows[id] = StaleKnowledge {
            may_answer,
            ..StaleKnowledge::default()
        };
    }
}

impl Successors<'_> {
    pub(crate) fn add_stale_reads(&mut self) {
        if !self.protocol.has_stale_reads {
            return;
        }
        match self.state.database.stale_reads {
            StalePhase::Off => self.add(Action::TurnsOnStaleReads, |state| {
                state.database.stale_reads = StalePhase::On;
            }),
            StalePhase::On => self.add(Action::TurnsOffStaleReads, |state| {
                state.database.stale_reads = StalePhase::Ending;
            }),
            StalePhase::Ending | StalePhase::Over => {}
        }
        if self.protocol.can_end(&self.state) {
            self.add(Action::EndsStaleReads, |state| {
                state.database.stale_reads = StalePhase::Over;
            });
        }
    }
}
