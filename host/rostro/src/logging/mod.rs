//! Logs. Biometric data (pixels, embeddings, names of people) is never in them.

pub(crate) mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::logging::writer::LogWriter;
use crate::terminal::warn_user;

/// What is logged unless `RUST_LOG` says otherwise: our own lines; of wasi-nn nothing, because it
/// logs errors that a guest causes at will.
const DEFAULT: &str = "warn,rostro=info,wasmtime_wasi_nn=off";

/// Time for the last lines at the end. A reader that stalls must not hold up the process.
const LAST_LINES: Duration = Duration::from_millis(200);

static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// Shows the lines of guests on standard error, and no other: for commands that authors try
/// components with.
pub(crate) fn show_guests() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("off,rostro::guest=debug"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .without_time();
    // A standard error that cannot be written must not end the command.
    let builder = builder.log_internal_errors(false);
    let _ = builder.with_ansi(io::stderr().is_terminal()).try_init();
}

/// Starts logging to standard error, panics included.
///
/// # Errors
///
/// If the operating system refuses the thread that writes.
pub(crate) fn init(format: LogFormat) -> io::Result<()> {
    let writer = LogWriter::start(io::stderr())?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer.clone())
        .with_target(false);
    // Colours are for people at a terminal; in a file they are noise.
    let builder = builder.with_ansi(io::stderr().is_terminal());
    // A second call keeps the first subscriber, which only happens in tests.
    let is_first = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if is_first.is_ok() {
        let _ = WRITER.set(writer);
        std::panic::set_hook(Box::new(log_panic));
    }
    Ok(())
}

/// Number of log lines that were lost.
pub(crate) fn dropped_lines() -> u64 {
    WRITER.get().map_or(0, LogWriter::dropped)
}

/// Writes the last lines of the log, as far as its reader takes them.
pub(crate) fn finish() {
    if let Some(writer) = WRITER.get() {
        writer.flush(LAST_LINES);
    }
}

/// Prints the error that ends the program. Where a log is written, the error follows its last
/// lines, because writing to standard error directly could wait for a reader that stalls.
pub(crate) fn report_error(error: &str) {
    match WRITER.get() {
        Some(writer) => {
            writer.push(format!("error: {error}\n").as_bytes());
            finish();
        }
        None => warn_user(&format!("error: {error}")),
    }
}

/// Logs a panic. The standard hook writes to standard error itself, and waits for its reader.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let location = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let cause = panic.payload_as_str().unwrap_or("no message");
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured)
        .then(|| tracing::field::display(backtrace));
    tracing::error!(
        thread = thread.name(),
        location,
        backtrace,
        "panicked: {cause}"
    );
}
