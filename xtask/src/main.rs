//! `cargo xtask`: the tasks of a developer. Each task sets up what it needs, prints its steps, and
//! skips steps that are up to date.

mod bench;
mod check;
mod fuzz;
mod guest;
mod python;
mod scripting;
mod serve;
mod setup;
mod soak;
mod steps;
mod test;
mod walk;

use std::path::{Path, PathBuf};
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
    /// Walk through a plugin author's first hour, from a new project to a pipeline that serves
    Walk,
    /// Write docs/wit.md from wit/
    Docs,
    /// Install what serving and testing need
    Setup(setup::SetupArgs),
    /// Check format, lints, counts, documentation and dependencies
    Check,
    /// Measure the service
    Bench(bench::BenchArgs),
    /// Load a service for a long time and check that it keeps working
    #[command(disable_help_flag = true)]
    Soak {
        /// Arguments of tests/soak; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Fuzz every reader of untrusted input
    Fuzz(fuzz::FuzzArgs),
    /// Make a model pack with 8-bit numbers from an installed one, and compare the two
    #[command(disable_help_flag = true)]
    Quantize {
        /// Arguments of tools/quantize; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = run(Cli::parse().task);
    if let Err(error) = &result {
        eprintln!("error: {error:#}");
    }
    ExitCode::from(u8::from(result.is_err()))
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Serve(args) => serve::run(args),
        Task::Test(args) => test::run(&args),
        Task::Guest {
            project: Some(folder),
            ..
        } => guest::project(&folder),
        Task::Guest { all: true, .. } => guest::build_all(),
        Task::Guest { .. } => guest::build(),
        Task::Walk => walk::run(),
        Task::Docs => check::docs("--write"),
        Task::Setup(args) => setup::run(&args),
        Task::Check => check::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Soak { args } => soak::run(args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Quantize { args } => python::run(Path::new("tools/quantize"), &args),
    }
}
