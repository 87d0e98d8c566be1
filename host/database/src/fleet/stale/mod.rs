//! Stale reads: answers without a lease, which an operator allows for outages of the database.
//!
//! A renewal tells the node whether it may. The row of its lease then says so, and keeps saying it
//! until the node reported that it knows otherwise. No deletion is answered with success meanwhile.
//! Stale reads that were turned off are `ending` until each live node reported that, and no expelled
//! lease is left of a node that may answer without it. At the latest they end after the limit by
//! which each node ends them on its own clock.

mod control;

use std::time::Duration;

use super::position::Epoch;

pub(super) use control::{end, forget};
pub use control::{turn_off, turn_on};

/// Setting of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaleReads {
    /// Whether nodes may answer without a lease.
    pub state: StaleState,
    /// For how long they may at most, from the last renewal on.
    pub limit: Duration,
    /// Number of changes of the setting.
    pub(crate) number: i64,
    /// Epoch since which every node that may has a row.
    pub(crate) epoch: Option<Epoch>,
}

/// State of [`StaleReads`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StaleState {
    /// No node answers without a lease.
    #[default]
    Off,
    /// Nodes may.
    On,
    /// They were turned off, and some node may not know it.
    Ending,
}

impl StaleState {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Ending => "ending",
        }
    }

    pub(crate) fn of(name: &str) -> Self {
        match name {
            "on" => Self::On,
            "ending" => Self::Ending,
            _ => Self::Off,
        }
    }
}
