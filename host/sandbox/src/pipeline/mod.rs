//! Pipeline with its models: staged as a revision, tested, and run.

mod call;
pub mod describe;
mod functions;
pub mod revision;
pub mod revision_id;
pub mod run;
pub mod self_test;
pub mod stage;
pub mod templates;
