//! Reading requests: who sent them, their parameters, and their bodies within bounds.

pub mod body;
pub mod browser;
pub mod caller;
pub mod extract;
pub mod form;
pub mod group;
pub mod parameters;
pub mod query;
pub mod trace;
