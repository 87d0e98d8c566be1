//! The `rostro` command.
//!
//! Exit codes: 0 for success, 1 for a failure that the message explains, 2 for a command line that
//! is not understood.

// Their macros panic where the output is closed or full; `rostro_common::text` has what to use
// instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod allocator;
mod cli;
mod commands;
mod config;
mod logging;
mod serve;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use rostro_common::text::sanitize_lines;

use crate::cli::Cli;
use crate::logging::report_error;

fn main() -> ExitCode {
    allocator::configure();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // It may quote names out of a component or a file.
            report_error(&sanitize_lines(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}
