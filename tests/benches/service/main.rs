//! Benchmarks of the running service: `cargo xtask bench peer`, `memory` and `policies`.
//!
//! Machines differ and are noisy, so ratios are reported. The services work alternately on the same
//! requests, and the median over the rounds counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark fails by panicking"
)]

mod builds;
#[path = "../common/frames.rs"]
mod frames;
#[path = "../../e2e/harness.rs"]
mod harness;
#[path = "../common/machine.rs"]
mod machine;
#[path = "../common/median.rs"]
mod median;
mod memory;
mod peer;
mod policies;
mod server;
mod wrk;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

/// Arguments of the benchmark.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Seconds of load on each service in each round
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Rounds of alternating load
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Requests of the memory test
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    requests: u64,
    /// Other build of the program (builds)
    #[arg(long, value_name = "PROGRAM")]
    other: Option<PathBuf>,
    /// Flag that cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// The service and the one that it replaces
    Peer,
    /// This build of the service and another one
    Builds,
    /// The service's memory over many large frames from eight callers
    Memory,
    /// One policy in Rust, JavaScript and Python
    Policies,
}

fn main() -> Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(server::scratch())?;
    println!("{}\n", machine::description());
    match args.what {
        What::Peer => peer::measure(&args),
        What::Builds => builds::measure(&args),
        What::Memory => memory::measure(args.requests),
        What::Policies => policies::measure(args.seconds),
    }
}
