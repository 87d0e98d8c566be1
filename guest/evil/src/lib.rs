//! A pipeline that misbehaves on demand, for tests of the host.
//!
//! The image selects the mode: `evil:` and a name of [`modes::MODES`], at its beginning or after
//! the end of a PNG. The rest after the first newline is the mode's argument. With any other image
//! the component is honest: it finds one face in an image of 100×100 pixels. `analyze` stores the
//! mode for the policy, which the host calls later in the same instance. The setting
//! [`modes::SETTING`] selects the faults of `describe`.

mod answer;
mod environment;
mod flood;
mod memory;
mod model;
pub mod modes;
mod policy;
mod vision;

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

use rostro_sdk::bindings::rostro::pipeline::types::Identity;

/// The mode of the last image, which `analyze` stores for the policy.
static MODE: Mutex<String> = Mutex::new(String::new());

/// The component.
#[derive(Debug)]
pub struct Evil;

// A native build exports nothing, because tests link this crate and another pipeline with the same
// export names.
#[cfg(target_arch = "wasm32")]
rostro_sdk::bindings::export_pipeline!(Evil with_types_in rostro_sdk::bindings);

/// Returns name and version.
fn identity() -> Identity {
    Identity {
        name: "evil".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Stores a mode for the policy.
fn set_mode(mode: &str) {
    mode.clone_into(&mut MODE.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Returns the mode of the last image.
fn mode() -> String {
    MODE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Computes without end.
fn spin() -> ! {
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}
