//! The `rostro` command.
//!
//! Exit codes: 0 for success, 1 for a failure that the message explains, 2 for a command line that is not understood.

use std::process::ExitCode;

use clap::Parser;
use rostro_host::{Cli, allocator, printed_lines, report_error};

fn main() -> ExitCode {
    allocator::configure();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // It may quote names out of a component or a file.
            report_error(&printed_lines(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}
