//! A pipeline that misbehaves on demand: for tests of the host, which must stand all of it.
//!
//! The image says how. One that begins with `evil:`, or a PNG with that behind its end, names a
//! mode of [`modes::MODES`], up to the first newline; what follows that is the mode's argument. On
//! any other the component is honest: it sees one face in an image of 100×100 pixels. The modes of
//! its policy are remembered by `analyze`, and acted on when the host asks the policy, in the same
//! instance. How `describe` misbehaves is the setting [`modes::SETTING`].

mod answer;
mod flood;
mod memory;
mod model;
pub mod modes;
mod outside;
mod policy;
mod vision;

/// The component.
#[derive(Debug)]
pub struct Evil;

// Natively these would be the names of another pipeline's exports too, and tests link both.
#[cfg(target_arch = "wasm32")]
rostro_sdk::bindings::export_pipeline!(Evil with_types_in rostro_sdk::bindings);
