//! Log on standard error. It never has biometric data: pixels, embeddings, or names of people.

pub(crate) mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::logging::writer::LogWriter;
use crate::terminal::warn_user;

/// Default of `RUST_LOG`. wasi-nn is off, because it logs errors that a guest can cause at will.
const DEFAULT: &str = "warn,rostro=info,wasmtime_wasi_nn=off";

/// Timeout for the last lines at the end. A stalled reader must not keep the process from ending.
const LAST_LINES: Duration = Duration::from_millis(200);

static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// Shows only the lines of guests, on standard error, for commands that run a component locally.
pub(crate) fn show_guests() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("off,rostro::guest=debug"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .without_time();
    // A closed standard error must not end the command.
    let builder = builder.log_internal_errors(false);
    let _ = builder.with_ansi(io::stderr().is_terminal()).try_init();
}

/// Starts logging to standard error, including panics.
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
    // Escape codes of colours would make a log file unreadable.
    let builder = builder.with_ansi(io::stderr().is_terminal());
    // Only tests call this twice; the first subscriber stays.
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

/// Returns the number of lost log lines.
pub(crate) fn dropped_lines() -> u64 {
    WRITER.get().map_or(0, LogWriter::dropped)
}

/// Writes the last lines of the log, as far as its reader accepts them in time.
pub(crate) fn finish() {
    if let Some(writer) = WRITER.get() {
        writer.flush(LAST_LINES);
    }
}

/// Prints the error that ends the program. If a log is written, the error passes through it,
/// because a direct write to standard error could wait for a stalled reader.
pub(crate) fn report_error(error: &str) {
    match WRITER.get() {
        Some(writer) => {
            writer.push(format!("error: {error}\n").as_bytes());
            finish();
        }
        None => warn_user(&format!("error: {error}")),
    }
}

/// Logs a panic. The standard hook would write to standard error directly and could block.
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
