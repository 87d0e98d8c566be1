//! What `wit-bindgen` makes of the world `pipeline`: for [`crate::export`], and for whoever wants
//! the interfaces as they are.
//!
//! Generated: a pipeline is written against [`crate::vision`], [`crate::policy`] and
//! [`crate::host`], and needs nothing of this.
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
    world: "pipeline",
    path: "../../wit",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export_pipeline",
    default_bindings_module: "rostro_sdk::bindings",
});
