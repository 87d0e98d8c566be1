//! Steps of the request that is followed.

use crate::action::Action;
use crate::protocol::{Protocol, Safeguard};
use crate::state::{Changes, Membership, NodeId, Request, State};
use crate::successors::Successors;

impl Request {
    /// Returns the request without the changes that a failover lost, which promise nothing.
    pub(crate) fn forgive(self, lost: Changes) -> Self {
        let mut request = self;
        let kept = match &mut request {
            Self::Noted { answered, .. } => answered,
            Self::Unnoted { lacks, .. } | Self::Outdated { lacks, .. } => lacks,
            Self::None | Self::Broken => return self,
        };
        *kept = kept.without(lost);
        if kept.is_empty() { Self::None } else { request }
    }
}

impl Protocol {
    /// Returns true if the check after the work passes.
    fn passes_check(&self, state: &State, node: NodeId, is_current: bool) -> bool {
        let has_lease = self.is_valid(&state.nodes[node]);
        let is_same = is_current || !self.has(Safeguard::SameIncarnation);
        let is_stale = state.nodes[node].stale.may_answer;
        !self.has(Safeguard::CheckAfterWork) || has_lease && is_same || is_stale
    }
}

impl Successors<'_> {
    pub(crate) fn add_request(&mut self) {
        let protocol = self.protocol;
        match self.state.request {
            Request::None => {
                for id in protocol.asked {
                    self.add_beginning(*id);
                }
            }
            Request::Noted {
                node,
                answered,
                is_current,
            } => self.add(Action::TakesView(node), |state| {
                let lacks = answered.without(state.nodes[node].view);
                state.request = if lacks.is_empty() {
                    Request::None
                } else {
                    Request::Outdated {
                        node,
                        lacks,
                        is_current,
                    }
                };
            }),
            Request::Unnoted { node, lacks } => {
                if self.state.nodes[node].membership == Membership::Serving {
                    self.add(Action::NotesLate(node), |state| {
                        state.request = Request::Outdated {
                            node,
                            lacks,
                            is_current: true,
                        };
                    });
                }
            }
            Request::Outdated {
                node, is_current, ..
            } => {
                if protocol.passes_check(&self.state, node, is_current) {
                    self.add(Action::AnswersRequest(node), |state| {
                        state.request = Request::Broken;
                    });
                } else {
                    self.add(Action::RefusesRequest(node), |state| {
                        state.request = Request::None;
                    });
                }
            }
            Request::Broken => {}
        }
    }

    /// Requests that begin before any change was answered cannot break the promise.
    fn add_beginning(&mut self, id: NodeId) {
        let protocol = self.protocol;
        let node = self.state.nodes[id];
        let answered = self.state.answered;
        if answered.is_empty() || protocol.has_early_check && !protocol.can_answer(&node) {
            return;
        }
        if !protocol.has(Safeguard::NoteBeforeView) {
            let lacks = answered.without(node.view);
            if !lacks.is_empty() {
                self.add(Action::TakesView(id), |state| {
                    state.request = Request::Unnoted { node: id, lacks };
                });
            }
        } else if node.membership == Membership::Serving || node.stale.may_answer {
            self.add(Action::RequestBegins(id), |state| {
                state.request = Request::Noted {
                    node: id,
                    answered,
                    is_current: true,
                };
            });
        }
    }
}
