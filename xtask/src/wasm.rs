//! A toolchain that builds for wasm32-wasip2: rustup's target, or Debian's compiler where rustup
//! has no network.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::{command, debian_packages, output, succeeds};

const TARGET: &str = "wasm32-wasip2";

/// Debian's compiler of a current Rust with the standard library's sources, and the C library that
/// it is built on.
const DEBIAN: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc"];

/// What builds components.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// Rustup's toolchain with the target.
    Rustup,
    /// Debian's compiler, which builds the standard library too, with the linkers of rustup's
    /// toolchain.
    Debian {
        /// Debian's rustc.
        rustc: PathBuf,
        /// Debian's cargo.
        cargo: PathBuf,
        /// The folder of the C library.
        libc: PathBuf,
        /// Folders with the linkers.
        linkers: Vec<PathBuf>,
    },
}

impl Toolchain {
    /// Finds a toolchain, installing one if need be.
    pub(crate) fn find() -> Result<Self> {
        let sysroot = PathBuf::from(output(command("rustc").args(["--print", "sysroot"]))?.trim());
        let installed = || sysroot.join("lib/rustlib").join(TARGET).is_dir();
        if installed()
            || (succeeds(command("rustup").args(["target", "add", TARGET])) && installed())
        {
            return Ok(Self::Rustup);
        }
        if !Path::new("/etc/debian_version").exists() {
            bail!("the target {TARGET} is missing; run: rustup target add {TARGET}");
        }
        debian_packages(&DEBIAN)?;
        let file = |package: &str, end: &str| {
            let files = output(command("dpkg").args(["-L", package]))?;
            let found = files
                .lines()
                .find(|line| line.ends_with(end))
                .map(PathBuf::from);
            found.with_context(|| format!("Debian's package {package} has no {end}"))
        };
        let host = output(command("rustc").arg("-vV"))?;
        let host = host
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .context("rustc names no host")?
            .to_owned();
        let bin = sysroot.join("lib/rustlib").join(host).join("bin");
        let libc = file("wasi-libc", "/libc.a")?;
        Ok(Self::Debian {
            rustc: file("rustc-web", "/bin/rustc")?,
            cargo: file("cargo-web", "/bin/cargo")?,
            libc: libc.parent().map(Path::to_owned).unwrap_or_default(),
            linkers: vec![bin.clone(), bin.join("gcc-ld")],
        })
    }

    /// The command that builds the library of a package as a component; SIMD is on.
    pub(crate) fn build(&self, package: &str) -> Result<Command> {
        let mut build = self.cargo("rustc")?;
        // A component is a cdylib, which native linkers refuse for the names of its exports: only
        // this build asks for one.
        build.args([
            "--quiet",
            "--package",
            package,
            "--lib",
            "--crate-type",
            "cdylib",
            "--target",
            TARGET,
            "--profile",
            "guest",
        ]);
        Ok(build)
    }

    /// The command that builds the project in the current folder as its author would: `cargo build
    /// --release --target wasm32-wasip2`.
    pub(crate) fn build_project(&self) -> Result<Command> {
        let mut build = self.cargo("build")?;
        build.args(["--quiet", "--release", "--target", TARGET]);
        Ok(build)
    }

    fn cargo(&self, subcommand: &str) -> Result<Command> {
        let simd = "-C target-feature=+simd128";
        Ok(match self {
            Self::Rustup => {
                let mut build = crate::steps::cargo();
                build.env("RUSTFLAGS", simd).arg(subcommand);
                build
            }
            Self::Debian {
                rustc,
                cargo,
                libc,
                linkers,
            } => {
                let paths = std::env::var_os("PATH").unwrap_or_default();
                let path = std::env::join_paths(
                    linkers.iter().cloned().chain(std::env::split_paths(&paths)),
                )?;
                let mut build = command(cargo);
                build
                    .env("PATH", path)
                    .env("RUSTC", rustc)
                    // Building the standard library is an unstable feature of cargo; Debian's
                    // version of it is fixed.
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("RUSTFLAGS", format!("{simd} -L native={}", libc.display()))
                    // What rustup set for the cargo that runs this.
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .env_remove("CARGO")
                    .arg(subcommand)
                    .arg("-Zbuild-std=std,panic_abort");
                build
            }
        })
    }
}
