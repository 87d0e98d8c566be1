//! `cargo xtask soak`: starts the program of `tests/soak`.

use anyhow::{Context, Result};

use crate::guest;
use crate::setup::{self, Profile};
use crate::steps::{bench, succeed};

/// Runs half a minute of the soak, on a host that is built already.
pub(crate) fn short() -> Result<()> {
    run(["--no-setup", "--profile", "dev", "--minutes", "0.5"]
        .map(str::to_owned)
        .to_vec())
}

/// Builds everything, unless there is `--no-setup`, and passes the other arguments on.
pub(crate) fn run(mut args: Vec<String>) -> Result<()> {
    let mut profile = Profile::Release;
    if let Some(flag) = args.iter().position(|arg| arg == "--profile") {
        let value = args.drain(flag..args.len().min(flag + 2)).nth(1);
        profile = Profile::named(&value.context("--profile needs release or dev")?)?;
    }
    let needs_setup = !args
        .iter()
        .any(|arg| ["--no-setup", "--help", "-h"].contains(&&**arg));
    args.retain(|arg| arg != "--no-setup");
    if needs_setup {
        setup::host(profile)?;
        setup::runtime(profile)?;
        guest::build()?;
    }
    succeed(bench("soak", profile).args(args))
}
