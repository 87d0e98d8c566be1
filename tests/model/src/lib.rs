//! model
mod action;
mod environment;
mod node;
mod protocol;
mod request;
mod search;
mod state;
mod successors;
#[cfg(test)]
mod tests;
mod waiter;

pub use action::Action;
pub use protocol::{Failover, Protocol, Safeguard};
pub use search::{Search, search};
pub use state::*;
