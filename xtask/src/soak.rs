//! `cargo xtask soak`: starts the program of `tests/soak`.

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;

use crate::setup::Profile::{Dev, Release};
use crate::setup::{self, Profile};
use crate::steps::{bench, succeed};
use crate::{guest, python};

/// Runs half a minute of the soak, on a host that is built already.
pub(crate) fn short() -> Result<()> {
    run(["--no-setup", "--profile", "dev", "--minutes", "0.5"]
        .map(str::to_owned)
        .to_vec())
}

/// Builds everything, unless there is `--no-setup`, and passes the other arguments on.
pub(crate) fn run(mut args: Vec<String>) -> Result<()> {
    // Without an optimised build, which takes minutes.
    let is_help = args.iter().any(|arg| arg == "--help" || arg == "-h");
    let mut profile = if is_help { Dev } else { Release };
    if let Some(flag) = args.iter().position(|arg| arg == "--profile") {
        let value = args.drain(flag..args.len().min(flag + 2)).nth(1);
        let value = value.context("--profile needs release or dev")?;
        profile = Profile::from_str(&value, false).map_err(|error| anyhow!(error))?;
    }
    if !is_help && !args.iter().any(|arg| arg == "--no-setup") {
        setup::host(profile)?;
        guest::build()?;
        // It has PostgreSQL, which `fleet` needs.
        python::environment("e2e", "tests/e2e/requirements.txt")?;
    }
    args.retain(|arg| arg != "--no-setup");
    succeed(bench("soak", profile).args(args))
}
