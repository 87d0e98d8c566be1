//! The `rostro` command.
//!
//! The program at the top of the host. It reads the command line, assembles the service for
//! `rostro serve`, and has the commands for operators and pipeline authors.
//!
//! - [`cli`]: the command line.
//! - [`config`]: configuration of the service from flags, variables and a file.
//! - [`serve`]: start, reload and stop of the service.
//! - [`commands`]: every other command.
//! - [`logging`]: the log. [`terminal`]: output of commands. [`allocator`]: the C library's heap.
//!
//! Crates use each other in one direction only: rostro → api → service → sandbox → {inference,
//! models}, service → {gallery, index}, all → common.
//!
//! Exit codes: 0 for success, 1 for a failure that the message explains, 2 for an invalid command
//! line.

// These macros panic if the output is closed or full; `terminal` has functions that do not.
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
            // The message may quote names from a component or a file.
            report_error(&sanitize_lines(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}
