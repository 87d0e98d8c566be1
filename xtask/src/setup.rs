//! What a fresh machine lacks.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::guest;
use crate::steps::{cargo, command, done_before, in_ci, root, shared, step, succeed};

/// Which models are wanted.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// Model pack to install; `testing` is part of the program [default: `mobile` where its weights
    /// are, else `buffalo_sc` by download]
    #[arg(long)]
    pub(crate) pack: Option<String>,
    /// Accept the pack's terms of use
    #[arg(long)]
    pub(crate) accept_license: bool,
}

impl SetupArgs {
    /// The pack that is named; else the one whose weights are here; else the smallest that is
    /// published.
    pub(crate) fn pack(&self) -> &str {
        let is_here =
            || mobile_weights().is_some() || root().join("models/installed/mobile").is_dir();
        self.pack
            .as_deref()
            .unwrap_or_else(|| if is_here() { "mobile" } else { "buffalo_sc" })
    }
}

/// The folder with the weights of `mobile`, which is not published as a whole, beside the
/// repository.
fn mobile_weights() -> Option<PathBuf> {
    Some(shared().join("models")).filter(|folder| folder.join("mobilefacenet.onnx").is_file())
}

/// How the host is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build: for tests.
    Dev,
    /// Quick to run: for serving and measuring.
    Release,
}

impl Profile {
    /// Parses the value of a flag.
    pub(crate) fn named(name: &str) -> Result<Self> {
        match name {
            "dev" => Ok(Self::Dev),
            "release" => Ok(Self::Release),
            _ => bail!("profile {name} does not exist; use release or dev"),
        }
    }

    /// Returns the name that cargo uses.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

/// Installs everything, with the host built for tests.
pub(crate) fn run(args: &SetupArgs) -> Result<()> {
    host(Profile::Dev)?;
    runtime(Profile::Dev)?;
    models(Profile::Dev, args)?;
    guest::build()
}

/// The `rostro` program of a profile.
pub(crate) fn program(profile: Profile) -> PathBuf {
    root()
        .join("target")
        .join(if profile == Profile::Dev {
            "debug"
        } else {
            "release"
        })
        .join("rostro")
}

fn rostro(profile: Profile) -> Command {
    command(program(profile))
}

/// Builds the host.
pub(crate) fn host(profile: Profile) -> Result<()> {
    let what = match profile {
        Profile::Dev => "host, for tests (Wasmtime takes some minutes the first time)",
        Profile::Release => "host, optimised (Wasmtime takes about ten minutes the first time)",
    };
    step(what, || {
        let packages: &[&str] = match profile {
            // The whole workspace, as the tests are: dependencies have the same features then and
            // are built once.
            Profile::Dev => &["--workspace"],
            Profile::Release => &["--workspace", "--bin", "rostro", "--release"],
        };
        succeed(cargo().arg("build").args(packages))
    })
}

/// Installs ONNX Runtime.
pub(crate) fn runtime(profile: Profile) -> Result<()> {
    step("ONNX Runtime", || {
        succeed(rostro(profile).args(["runtime", "install"]))
    })
}

/// Installs a pack: from the folder beside the repository if its files are there, else by download.
pub(crate) fn models(profile: Profile, args: &SetupArgs) -> Result<()> {
    let pack = args.pack();
    if pack == "testing" {
        done_before("models of the pack testing, part of the program");
        return Ok(());
    }
    let mut install = rostro(profile);
    install.args(["models", "install", pack]);
    if let Some(weights) = mobile_weights().filter(|_| pack.starts_with("mobile")) {
        install.arg("--from").arg(weights).arg("--accept-license");
    } else if args.accept_license {
        install.arg("--accept-license");
    }
    let installed = step(&format!("models of the pack {pack}"), || {
        succeed(&mut install)
    });
    match installed {
        Err(error) if in_ci() => Err(error),
        Err(error) => bail!(
            "{error:#}\n\nWithout weights, the service can be tried with drawn faces: cargo xtask serve --pack testing"
        ),
        Ok(()) => Ok(()),
    }
}
