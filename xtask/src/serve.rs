//! `cargo xtask serve`: sets everything up and serves.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::Result;
use clap::Args;

use crate::guest;
use crate::setup::Profile::{Dev, Release};
use crate::setup::{self, SetupArgs};
use crate::steps::{command, root};

/// How to serve.
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
    let profile = if args.dev { Dev } else { Release };
    setup::host(profile)?;
    setup::models(profile, &args.setup)?;
    // The second is what the README pushes.
    ["insightface", "attendance-policy"]
        .into_iter()
        .try_for_each(guest::component)?;
    let mut serve = command(profile.rostro(), "serve --pack");
    serve.arg(args.setup.pack()).arg("--pipeline");
    serve
        .arg(root().join("target/guest/insightface.wasm"))
        .args(args.rest);
    // Replaces this process, so that signals reach the service directly.
    Err(serve.exec().into())
}
