//! All steps from one state. The modules of the processes add theirs.

use crate::action::Action;
use crate::protocol::Protocol;
use crate::state::State;

/// Collects the steps from one state and the states to which they lead.
#[derive(Debug)]
pub(crate) struct Successors<'a> {
    pub(crate) protocol: &'a Protocol,
    pub(crate) state: State,
    pub(crate) found: Vec<(Action, State)>,
}

impl<'a> Successors<'a> {
    pub(crate) fn new(protocol: &'a Protocol) -> Self {
        Self {
            protocol,
            state: State::default(),
            found: Vec::new(),
        }
    }

    /// Adds a step that edits a copy of the state.
    pub(crate) fn add(&mut self, action: Action, edit: impl FnOnce(&mut State)) {
        let mut next = self.state;
        edit(&mut next);
        self.found.push((action, next));
    }
}
