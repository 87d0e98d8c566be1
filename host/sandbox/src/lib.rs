//! Runs untrusted components: checks, limits, and validates whatever comes out of them.

pub mod bindings;
pub mod component;
pub mod engine;
pub mod face_matching;
pub mod guest;
pub mod limits;
pub mod pipeline;
pub mod review;
pub mod settings;
pub mod validate;
