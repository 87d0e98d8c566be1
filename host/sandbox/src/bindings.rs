//! Generated host side of `wit/`: the two interfaces that a pipeline exports, and those that it
//! imports.
//!
//! Each export has a world of its own, because vision and policy may come from two components.
//! `wasi:nn` is absent because `wasmtime-wasi-nn` links it.
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    reason = "generated code"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::use_self,
    reason = "generated code"
)]

/// World of a component that exports `vision`.
pub mod vision {
    wasmtime::component::bindgen!({
        inline: "
            package rostro:host;
            world vision-host {
                import rostro:pipeline/settings@0.1.2;
                import rostro:pipeline/telemetry@0.1.2;
                import rostro:pipeline/samples@0.1.2;
                export rostro:pipeline/vision@0.1.2;
            }
        ",
        path: "../../wit",
        additional_derives: [PartialEq],
    });
}

/// World of a component that exports `policy`.
pub mod policy {
    wasmtime::component::bindgen!({
        inline: "
            package rostro:host;
            world policy-host {
                export rostro:pipeline/policy@0.1.2;
            }
        ",
        path: "../../wit",
        additional_derives: [PartialEq],
        with: { "rostro:pipeline/types@0.1.2": crate::bindings::vision::rostro::pipeline::types },
    });
}

pub use policy::exports::rostro::pipeline::policy::{
    Candidate, Decision, Match, Probe, Reason, ReviewOutcome,
};
pub use vision::exports::rostro::pipeline::vision::{Analysis, AnalyzedFace, Purpose};
pub use vision::exports::rostro::pipeline::vision::{Description, VisionError};
pub(crate) use vision::rostro::pipeline::settings::ReviewLevel;
pub(crate) use vision::rostro::pipeline::types::Identity;
pub use vision::rostro::pipeline::types::{BoundingBox, Face, Measure, Point};
