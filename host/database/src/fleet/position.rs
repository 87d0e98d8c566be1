//! How far this node applied the changes.

use std::sync::Arc;

use tokio::sync::watch;

/// Identity of a history of the database: system identifier, timeline and generation.
pub(crate) type Epoch = Arc<str>;

/// A number, with the epoch to which it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub epoch: Epoch,
    pub number: u64,
}

/// Position up to which this node applied every change; none before it loaded the people.
#[derive(Debug)]
pub(crate) struct AppliedPosition(watch::Sender<Option<Position>>);

impl Default for AppliedPosition {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl AppliedPosition {
    pub(crate) fn get(&self) -> Option<Position> {
        self.0.borrow().clone()
    }

    pub(crate) fn set(&self, position: Position) {
        self.0.send_replace(Some(position));
    }

    /// Returns the number if it belongs to an epoch.
    pub(super) fn number_in(&self, epoch: &Epoch) -> Option<u64> {
        let position = self.0.borrow();
        position
            .as_ref()
            .filter(|position| position.epoch == *epoch)
            .map(|position| position.number)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Position>> {
        self.0.subscribe()
    }
}
