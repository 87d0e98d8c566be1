//! Bindings of `rostro:pipeline@0.1`.
//!
//! Each export has a world of its own, because vision and policy may come from two components.
//! `wasi:nn` is absent because `wasmtime-wasi-nn` links it.

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
        path: "../../wit/0.1",
        with: { "rostro:pipeline/types@0.1.2": crate::bindings::v0_2::about::rostro::pipeline::types },
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
        path: "../../wit/0.1",
        with: { "rostro:pipeline/types@0.1.2": crate::bindings::v0_2::about::rostro::pipeline::types },
    });
}
