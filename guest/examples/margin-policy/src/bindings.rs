//! What `wit-bindgen` makes of the world `policy-only`.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, unsafe_code, reason = "generated code")]
#![allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::use_self,
    clippy::undocumented_unsafe_blocks,
    reason = "generated code"
)]
#![allow(clippy::allow_attributes_without_reason, reason = "generated code")]

use super::MarginPolicy;

wit_bindgen::generate!({
    world: "policy-only",
    path: "../../../wit",
    generate_all,
    default_bindings_module: "crate::bindings",
});

export!(MarginPolicy);
