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
//! # The crates of the host
//!
//! They lie along a request's path and use each other in one direction only, which Cargo enforces:
//!
//! | crate | in one sentence | may use |
//! |---|---|---|
//! | `rostro` | the program: configuration, start and stop, commands | all |
//! | [`rostro_api`] | HTTP: connections, keys, requests, public and admin routes | `service`, `common` |
//! | [`rostro_service`] | what Rostro does: recognise, enrol, manage people and revisions | `sandbox`, `inference`, `gallery`, `index`, `models`, `common` |
//! | [`rostro_sandbox`] | runs untrusted components within limits | `inference`, `models`, `common` |
//! | [`rostro_inference`] | ONNX models for guests | `common` |
//! | [`rostro_models`] | model packs and ONNX Runtime on disk | `common` |
//! | [`rostro_gallery`] | durable data: people, groups, the record of revisions, the audit log | `common` |
//! | [`rostro_index`] | nearest-neighbour search in memory | `common` |
//! | [`rostro_common`] | ids, digests, files, cores, cancellation | – |
//!
//! docs/architecture.md follows a request and a revision through them.
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
