//! Logs. Biometric data (pixels, embeddings, names of people) is never in them.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// What is logged unless `RUST_LOG` says otherwise: our own lines; of wasi-nn nothing, because it logs errors that a guest causes
/// at will.
const DEFAULT: &str = "warn,rostro=info,rostro_host=info,wasmtime_wasi_nn=off";

/// Starts logging to standard error.
pub(crate) fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Colours are for people at a terminal; in a file they are noise.
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    // A second call keeps the first subscriber, which only happens in tests.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
