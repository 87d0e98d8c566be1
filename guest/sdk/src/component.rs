//! The glue of a component: what `wit-bindgen` makes of `wit/`, and conversions between its types and ours.
//!
//! A component implements the generated `Guest` traits for a type and exports it with `export!`.

/// The bindings of the world `pipeline`.
#[cfg(feature = "pipeline")]
#[allow(missing_docs, missing_debug_implementations, unsafe_code, clippy::all, clippy::unwrap_used, clippy::indexing_slicing, clippy::use_self, clippy::undocumented_unsafe_blocks, clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod pipeline {
    wit_bindgen::generate!({
        world: "pipeline",
        path: "../../wit",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_pipeline",
        default_bindings_module: "rostro_sdk::component::pipeline",
    });
}

/// The bindings of the world `policy-only`.
#[cfg(feature = "policy-only")]
#[allow(missing_docs, missing_debug_implementations, unsafe_code, clippy::all, clippy::unwrap_used, clippy::indexing_slicing, clippy::use_self, clippy::undocumented_unsafe_blocks, clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod policy_only {
    wit_bindgen::generate!({
        world: "policy-only",
        path: "../../wit",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_policy",
        default_bindings_module: "rostro_sdk::component::policy_only",
    });
}
