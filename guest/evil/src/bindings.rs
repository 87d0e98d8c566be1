//! What `wit-bindgen` makes of the world `pipeline`.
#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unsafe_code,
    unused_macros,
    unused_imports,
    reason = "generated code"
)]
#![allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::use_self,
    clippy::undocumented_unsafe_blocks,
    reason = "generated code"
)]
#![allow(clippy::allow_attributes_without_reason, reason = "generated code")]

wit_bindgen::generate!({
    world: "pipeline",
    path: "../../wit",
    generate_all,
    default_bindings_module: "crate::bindings",
});

// Natively these would be the names of another pipeline's exports too, and tests link both.
#[cfg(target_arch = "wasm32")]
use super::Evil;
#[cfg(target_arch = "wasm32")]
export!(Evil);
