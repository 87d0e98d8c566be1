//! Rostro's host: serves facial analysis over HTTP, with everything that looks at pixels or decides who is who in a sandboxed
//! WebAssembly component.
//!
//! The files of this crate are its architecture, a noun each. A request goes through `http`, the `executor` (admission, worker
//! threads, deadlines), a `run` of the `revision` that the `deployment` chooses (fresh instances of its `plugin`s, which call `inference`), the `people`
//! (`gallery` on disk and `index` in memory), and back. See `docs/architecture.md`.

// Their macros panic where the output is closed or full; `printed` has what to use instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod admin;
pub mod allocator;
mod audit;
mod bindings;
mod checked;
mod cli;
mod client;
mod config;
mod config_check;
mod cores;
mod deployment;
mod digest;
mod durable;
mod engine;
mod executor;
mod files;
mod folder_lock;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod gallery;
mod gallery_commands;
mod groups;
mod guest_report;
mod http;
pub mod index;
mod inference;
mod jpeg_stream;
mod keyed_hash;
mod keyring;
mod ledger;
mod limits;
mod listener;
mod log_writer;
mod models;
mod overlap;
mod people;
mod person;
mod pipeline;
mod plugin;
mod printed;
mod reload;
mod review;
mod revision;
mod run;
mod runtime;
mod selftest;
mod serve;
mod service;
mod setting_names;
mod settings;
mod shutdown;
mod signals;
mod state;
mod telemetry;
mod tls;
mod traffic;
mod wasm_frames;
mod watch;
mod world;

pub use bindings::{Analysis, AnalyzedFace, BoundingBox, Face, Measure, Point, Purpose};
pub use checked::InvalidOutput;
pub use cli::{Cli, CliError};
pub use cores::{Core, Cores};
pub use digest::Sha256Digest;
pub use engine::Engine;
pub use executor::Wanted;
pub use inference::{Batching, LoadError, Model, ModelError, Models, NamedTensor, OnnxRuntime, Tensor, TensorType};
pub use limits::{Crowded, LimitError, LimitReached, Limits, Usage};
pub use models::{Channels, Manifest, ManifestError, ModelSpec, Pack, PackError, Thresholds};
pub use person::{ContractId, PersonId};
pub use plugin::{Half, Plugin, PluginError};
pub use printed::printed_lines;
pub use review::Review;
pub use revision::{Contract, Revision, StageError, Tuning};
pub use run::{Run, RunError};
pub use runtime::{RuntimeError, locate as locate_runtime};
pub use telemetry::report_error;
pub use world::WORLD_VERSION;
