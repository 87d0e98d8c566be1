//! `cargo xtask`: everything that a developer runs. Each task does its own set-up, says what it
//! does, and skips what is done.

mod bench;
mod check;
mod docs;
mod fuzz;
mod guest;
mod python;
mod quantize;
mod scripting;
mod serve;
mod setup;
mod soak;
mod steps;
mod test;
mod walk;
mod wasm;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Rostro's development tasks
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Set everything up and serve on port 4000
    Serve(serve::ServeArgs),
    /// Set everything up and run every test
    Test(test::TestArgs),
    /// Build the WebAssembly components into target/guest
    Guest {
        /// Include components that only tests need: in JavaScript and Python, and for earlier
        /// versions of the interface
        #[arg(long, conflicts_with = "project")]
        all: bool,
        /// Build only the Rust project in this folder, into target/projects
        #[arg(long, value_name = "DIR")]
        project: Option<PathBuf>,
    },
    /// Walk a plugin author's first hour, from nothing to a pipeline that serves, in each language
    Walk,
    /// Make docs/wit.md of wit/
    Docs,
    /// Install what serving and testing need
    Setup(setup::SetupArgs),
    /// Check format, lints, documentation and dependencies
    Check,
    /// Measure this service beside the one that it replaces
    Bench(bench::BenchArgs),
    /// Load a service for a long time and check that it keeps working
    #[command(disable_help_flag = true)]
    Soak {
        /// Arguments of the soak; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Fuzz whatever reads what strangers send, with what covers most of its code
    Fuzz(fuzz::FuzzArgs),
    /// Make a pack of 8-bit numbers from an installed one, and measure it
    Quantize(quantize::QuantizeArgs),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    match Cli::parse().task {
        Task::Serve(args) => serve::run(args),
        Task::Test(args) => test::run(&args),
        Task::Guest {
            project: Some(folder),
            ..
        } => guest::project(&folder),
        Task::Guest { all: true, .. } => guest::build_all(),
        Task::Guest { .. } => guest::build(),
        Task::Walk => walk::run(),
        Task::Docs => docs::write(),
        Task::Setup(args) => setup::run(&args),
        Task::Check => check::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Soak { args } => soak::run(args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Quantize(args) => quantize::run(&args),
    }
}
