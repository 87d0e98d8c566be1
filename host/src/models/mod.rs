//! Model packs: which models belong together, where they come from, and whether the files are what they should be.

mod archive;
mod commands;
mod download;
mod install;
mod manifest;
mod pack;
mod remedy;

pub(crate) use commands::{ModelsCommand, ModelsError, run};
pub use manifest::{Channels, Manifest, ManifestError, ModelSpec, Thresholds};
pub use pack::{Pack, PackError};
