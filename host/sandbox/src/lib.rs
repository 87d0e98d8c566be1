//! Sandbox: runs the untrusted components of a pipeline within limits, and validates their output.
//!
//! A component enters through [`component`], which compiles it and checks its imports. [`pipeline`]
//! stages components and models as a revision and runs requests on it. Each request gets instances
//! of its own ([`guest`]). Every answer passes [`validate`] before a caller sees it.
//!
//! - [`bindings`]: host side of `wit/`, generated
//! - [`component`]: compiled and inspected components
//! - [`engine`]: Wasmtime engine with its memory pool
//! - [`error`]: failures of a run
//! - [`face_matching`]: pairs of boxes that show the same face
//! - [`guest`]: one instance, the data of its store, and its reports
//! - [`half`]: the two halves of a pipeline, vision and policy
//! - [`limits`]: limits of a guest, how they are enforced, and usage
//! - [`pipeline`]: revisions, staging, runs and the self-test
//! - [`review`], [`settings`]: input of guests that operators choose
//! - [`stream`]: what a pipeline keeps between the frames of a stream
//! - [`types`]: analyses as the host uses them
//! - [`validate`]: rules for the output of guests
//!
//! Place in the workspace: rostro → api → service → sandbox → {inference, models}; all crates may
//! use common.

pub mod bindings;
pub mod component;
pub mod engine;
pub mod error;
pub mod face_matching;
pub mod guest;
pub mod half;
pub mod limits;
pub mod pipeline;
pub mod review;
pub mod settings;
pub mod stream;
pub mod types;
pub mod validate;
mod wasmtime_errors;
