//! `cargo xtask setup`: installs what serving and testing need.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::guest;
use crate::steps::{cargo, command, root, shared, skip, step, succeed};

/// Models to install.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// Model pack to install; the program contains `testing` [default: `mobile` if its weights are
    /// here, else `buffalo_sc` by download]
    #[arg(long)]
    pub(crate) pack: Option<String>,
    /// Accept the pack's terms of use
    #[arg(long)]
    pub(crate) accept_license: bool,
}

impl SetupArgs {
    /// Returns the arguments for a pack and accepts its terms of use.
    pub(crate) fn accepted(pack: &str) -> Self {
        Self {
            pack: Some(pack.to_owned()),
            accept_license: true,
        }
    }

    /// Returns the named pack, else `mobile` if it is here, else the smallest published one.
    pub(crate) fn pack(&self) -> &str {
        let is_installed = root().join("models/installed/mobile").is_dir();
        match &self.pack {
            Some(pack) => pack,
            None if is_installed || mobile_weights().is_some() => "mobile",
            None => "buffalo_sc",
        }
    }
}

/// Returns the folder with the weights of `mobile`, which are not published as a whole.
fn mobile_weights() -> Option<PathBuf> {
    Some(shared().join("models")).filter(|folder| folder.join("mobilefacenet.onnx").is_file())
}

/// Build profile of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Quick to build
    Dev,
    /// Quick to run
    Release,
}

impl Profile {
    /// Returns the name that cargo uses.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }

    /// Returns the path of the program `rostro`.
    pub(crate) fn rostro(self) -> PathBuf {
        root().join(match self {
            Self::Dev => "target/debug/rostro",
            Self::Release => "target/release/rostro",
        })
    }
}

/// Installs everything, with the host built for tests.
pub(crate) fn run(args: &SetupArgs) -> Result<()> {
    host(Profile::Dev)?;
    models(Profile::Dev, args)?;
    guest::build()
}

/// Builds the host and installs ONNX Runtime.
pub(crate) fn host(profile: Profile) -> Result<()> {
    let (what, args) = match profile {
        // The whole workspace, so that dependencies have the features that tests need and are
        // built once.
        Profile::Dev => (
            "host for tests (some minutes the first time)",
            "build --workspace",
        ),
        Profile::Release => (
            "optimised host (about ten minutes the first time)",
            "build --workspace --bin rostro --release",
        ),
    };
    step(what, || succeed(&mut cargo(args)))?;
    step("ONNX Runtime", || {
        succeed(&mut command(profile.rostro(), "runtime install"))
    })
}

/// Installs a pack from the shared folder if its files are there, else by download.
pub(crate) fn models(profile: Profile, args: &SetupArgs) -> Result<()> {
    let pack = args.pack();
    if pack == "testing" {
        skip("models of the pack testing, which the program contains");
        return Ok(());
    }
    let mut install = command(profile.rostro(), "models install");
    install.arg(pack);
    let weights = mobile_weights().filter(|_| pack.starts_with("mobile"));
    if let Some(weights) = &weights {
        install.arg("--from").arg(weights);
    }
    if weights.is_some() || args.accept_license {
        install.arg("--accept-license");
    }
    match step(&format!("models of the pack {pack}"), || {
        succeed(&mut install)
    }) {
        Err(error) if std::env::var_os("CI").is_none() => {
            bail!("{error:#}\n\nWithout weights, try: cargo xtask serve --pack testing")
        }
        result => result,
    }
}
