//! Model packs: which models belong together, where they come from, and whether the files are what
//! they should be.

pub mod archive;
pub mod download;
pub mod install;
pub mod manifest;
pub mod pack;
mod remedy;
pub mod runtime;

pub use manifest::{Channels, Manifest, ManifestError, ModelSpec, Thresholds};
pub use pack::{Pack, PackError};
