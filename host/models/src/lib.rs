//! Model packs and ONNX Runtime on disk: installation, verification and lookup.
//!
//! A pack is a set of ONNX models with a manifest. The manifest has the SHA-256 of every model, and
//! a model's bytes are verified whenever they are read.
//!
//! | module | content |
//! | --- | --- |
//! | [`manifest`] | the TOML manifest, and the names of built-in and installed packs |
//! | [`model_file`] | reads and verifies the files of models |
//! | [`pack`] | an installed pack in memory |
//! | [`variant`] | 8-bit variants of a pack's models |
//! | [`quantize`] | makes the 8-bit variant of a recogniser |
//! | [`install`] | installs a pack from a folder, an archive or a download |
//! | [`archive`] | reads an untrusted zip archive |
//! | [`download`] | fetches an archive and resumes after an interruption |
//! | `remedy` | commands that repair a missing or damaged pack |
//! | [`runtime`] | installs and locates ONNX Runtime's library |
//!
//! Among the host's crates (rostro → api → service → sandbox → {inference, models}, service →
//! {gallery, index}, all → common) it uses only common. The sandbox opens packs, and the program's
//! commands install them.

pub mod archive;
pub mod download;
pub mod install;
pub mod manifest;
pub mod model_file;
pub mod pack;
pub mod quantize;
mod remedy;
pub mod runtime;
pub mod variant;

pub use manifest::{Channels, Manifest, ManifestError, ModelSpec, Thresholds};
pub use pack::{Pack, PackError};
