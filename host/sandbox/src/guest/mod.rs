//! One instance of a component at work: what it may ask of the host, and what it reports.

pub mod report;
pub mod state;
