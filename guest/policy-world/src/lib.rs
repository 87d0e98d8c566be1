//! What `wit-bindgen` makes of the world `policy-only`, for `rostro_sdk::export!`.
//!
//! A crate of its own, because the macros that export an interface have its name and are their crate's: `rostro-sdk` has those of the world `pipeline`.
#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unsafe_code,
    unused_macros,
    unused_imports,
    dead_code,
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
    world: "policy-only",
    path: "../../wit",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export_policy",
    default_bindings_module: "rostro_policy_world",
});
