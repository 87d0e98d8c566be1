//! `cargo xtask serve`: from nothing to a running service.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::guest;
use crate::setup::{self, Profile, SetupArgs};
use crate::steps::{command, root};

/// What to serve with.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    setup: SetupArgs,
    /// Build the host quickly instead of optimised
    #[arg(long)]
    dev: bool,
    /// Further flags for `rostro serve`, after `--`
    #[arg(last = true)]
    rest: Vec<OsString>,
}

/// Sets everything up and serves until interrupted.
pub(crate) fn run(args: ServeArgs) -> Result<()> {
    let profile = if args.dev {
        Profile::Dev
    } else {
        Profile::Release
    };
    setup::host(profile)?;
    setup::runtime(profile)?;
    setup::models(profile, &args.setup)?;
    guest::build()?;
    let mut serve = command(setup::program(profile));
    serve
        .args(["serve", "--pack", args.setup.pack(), "--pipeline"])
        .arg(root().join("target/guest/insightface.wasm"))
        .args(args.rest);
    become_it(&mut serve)
}

/// Becomes the service, so that signals reach it and nothing stands between.
#[cfg(unix)]
fn become_it(serve: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    Err(serve.exec().into())
}

#[cfg(not(unix))]
fn become_it(serve: &mut Command) -> Result<()> {
    crate::steps::succeed(serve)
}
