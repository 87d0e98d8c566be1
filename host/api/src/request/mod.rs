//! Reading requests: their sender, their parameters, and their bodies within bounds.

pub(crate) mod body;
pub(crate) mod browser;
pub(crate) mod caller;
pub(crate) mod drain;
pub(crate) mod extract;
pub mod form;
pub(crate) mod frame;
pub(crate) mod frame_options;
pub(crate) mod group;
pub(crate) mod headers;
pub(crate) mod memory;
pub(crate) mod parameters;
pub(crate) mod query;
pub(crate) mod trace;
pub(crate) mod upload;
