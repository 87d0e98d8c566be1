//! Commands other than `rostro serve`.

pub(crate) mod audit;
mod client;
pub(crate) mod database;
pub(crate) mod gallery;
pub(crate) mod models;
pub(crate) mod nodes;
pub(crate) mod people;
pub(crate) mod pipeline;
pub(crate) mod runtime;
pub(crate) mod watch;
