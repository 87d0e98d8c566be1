//! Files of the audit log.

pub mod file;
mod unsent;

pub use unsent::{UNSENT_LINES, UnsentLines};
