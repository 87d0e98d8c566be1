//! `cargo xtask bench`: this service beside the one that it replaces, on one machine in one run.
//!
//! Machines differ and are noisy, so what is reported is a ratio: both services get the same requests in turns, and of each figure the
//! median over the rounds counts.

mod machine;
mod peer;
mod service;
mod wrk;

use anyhow::{Result, bail};
use clap::Args;

use crate::guest;
use crate::setup::{self, Profile, SetupArgs};
use crate::steps::shared;

/// How long to measure.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Seconds of load on each service in each round
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Rounds, in which the services take turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
}

/// Sets everything up, measures, prints a table, and fails if any request failed.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    if !shared().join("faces").is_dir() {
        bail!("the folder {} with the photos is missing; name it with ROSTRO_SHARED", shared().display());
    }
    setup::host(Profile::Release)?;
    setup::runtime(Profile::Release)?;
    setup::models(Profile::Release, &SetupArgs { pack: Some("mobile".to_owned()), accept_license: true })?;
    guest::build()?;
    peer::compare(args)
}
