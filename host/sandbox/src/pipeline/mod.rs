//! A pipeline with its models: staged as a revision, tried, and run.

pub mod revision;
pub mod run;
pub mod self_test;
