//! `cargo xtask bench`: what the service takes, beside the one that it replaces and beside the
//! least that it could take.
//!
//! Machines differ and are noisy, so what is reported is a ratio: all that is compared works in
//! turns on the same requests, and of each figure the median over the rounds counts.

mod floor;
mod frames;
mod machine;
mod memory;
mod peer;
mod policies;
mod revisions;
mod search;
mod service;
mod wrk;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::guest;
use crate::setup::{self, Profile, SetupArgs};
use crate::steps::shared;

/// What to measure, and how long.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure; several may be named
    #[arg(value_enum, default_values = ["peer", "floor"])]
    what: Vec<What>,
    /// Seconds of load on each service in each round
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Rounds, in which the services take turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Requests of the memory test
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    requests: u64,
    /// Swaps of pipelines under load
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(6..=10_000))]
    swaps: u32,
    /// Vectors in the largest gallery of the search
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    vectors: u64,
}

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The service beside the one that it replaces
    Peer,
    /// The service beside ONNX Runtime alone, and the component beside the same code compiled
    /// natively, by stage
    Floor,
    /// The gallery's search beside reading its memory once
    Search,
    /// The service's memory over many large frames from eight callers
    Memory,
    /// Starts, staging, and swaps of pipelines under load
    Revisions,
    /// One policy in Rust, JavaScript and Python, beside the default pipeline's own
    Policies,
}

/// Sets everything up, measures, prints tables, and fails if any request failed.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    if args.what.contains(&What::Search) {
        search::measure(args.vectors)?;
    }
    if args.what == [What::Search] {
        return Ok(());
    }
    if !shared().join("faces").is_dir() {
        bail!(
            "the folder {} with the photos is missing; name it with ROSTRO_SHARED",
            shared().display()
        );
    }
    setup::host(Profile::Release)?;
    setup::runtime(Profile::Release)?;
    setup::models(
        Profile::Release,
        &SetupArgs {
            pack: Some("mobile".to_owned()),
            accept_license: true,
        },
    )?;
    guest::build()?;
    for what in &args.what {
        match what {
            What::Peer => peer::compare(args)?,
            What::Floor => floor::measure()?,
            What::Memory => memory::watch(args.requests)?,
            What::Revisions => revisions::measure(args.swaps)?,
            What::Policies => policies::compare(args.seconds)?,
            What::Search => {}
        }
    }
    Ok(())
}
