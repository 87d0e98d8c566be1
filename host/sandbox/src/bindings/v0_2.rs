//! Bindings of `rostro:pipeline@0.2`: a world for each interface that a component may export.
//!
//! `wasi:nn` is absent because `wasmtime-wasi-nn` links it.

/// World of `about`, and the imports of all components.
pub mod about {
    wasmtime::component::bindgen!({
        inline: "
            package rostro:host;
            world about-host {
                import rostro:pipeline/settings@0.2.0;
                import rostro:pipeline/telemetry@0.2.0;
                import rostro:pipeline/samples@0.2.0;
                import rostro:pipeline/types@0.2.0;
                export rostro:pipeline/about@0.2.0;
            }
        ",
        path: "../../wit/0.2",
        additional_derives: [PartialEq],
    });
}

/// World of `vision`.
pub mod vision {
    wasmtime::component::bindgen!({
        inline: "
            package rostro:host;
            world vision-host {
                export rostro:pipeline/vision@0.2.0;
            }
        ",
        path: "../../wit/0.2",
        additional_derives: [PartialEq],
        with: { "rostro:pipeline/types@0.2.0": crate::bindings::v0_2::about::rostro::pipeline::types },
    });
}

/// World of `review`.
pub mod review {
    wasmtime::component::bindgen!({
        inline: "
            package rostro:host;
            world review-host {
                export rostro:pipeline/review@0.2.0;
            }
        ",
        path: "../../wit/0.2",
        additional_derives: [PartialEq],
        with: { "rostro:pipeline/types@0.2.0": crate::bindings::v0_2::about::rostro::pipeline::types },
    });
}

/// World of `template`.
pub mod template {
    wasmtime::component::bindgen!({
        inline: "
            package rostro:host;
            world template-host {
                export rostro:pipeline/template@0.2.0;
            }
        ",
        path: "../../wit/0.2",
    });
}

/// World of `decide`.
pub mod decide {
    wasmtime::component::bindgen!({
        inline: "
            package rostro:host;
            world decide-host {
                export rostro:pipeline/decide@0.2.0;
            }
        ",
        path: "../../wit/0.2",
        additional_derives: [PartialEq],
        with: { "rostro:pipeline/types@0.2.0": crate::bindings::v0_2::about::rostro::pipeline::types },
    });
}
