//! What `wit-bindgen` makes of the world `policy-only`, for `rostro_sdk::export!`.
//!
//! A crate of its own, because the macros that export an interface have its name and are their
//! crate's: `rostro-sdk` has those of the world `pipeline`.
#![allow(clippy::all, reason = "generated code")]

wit_bindgen::generate!({
    world: "policy-only",
    path: "../../wit",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export_policy",
    default_bindings_module: "rostro_policy_world",
});
