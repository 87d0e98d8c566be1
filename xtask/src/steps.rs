//! Running commands and printing progress.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::setup::Profile;

/// Returns the repository's root.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Returns the folder with photos, weights and reference results, which is not in the repository.
pub(crate) fn shared() -> PathBuf {
    std::env::var_os("ROSTRO_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from)
}

/// Returns a command in the repository's root. The words of `args` are its first arguments.
pub(crate) fn command(program: impl AsRef<OsStr>, args: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).args(args.split_whitespace());
    command
}

/// Returns a command of the cargo that runs xtask, without the variables of the package xtask.
/// Build scripts read such variables, so cargo would rebuild their packages each time.
pub(crate) fn cargo(args: &str) -> Command {
    let mut cargo = command(
        std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
        args,
    );
    let is_own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars().filter(|(name, _)| is_own(name)) {
        cargo.env_remove(name);
    }
    cargo
}

/// Returns the command that runs a program of `tests`. The program's arguments come last.
pub(crate) fn bench(name: &str, profile: Profile) -> Command {
    let profile = profile.name();
    cargo(&format!(
        "bench --workspace --bench {name} --profile {profile} --"
    ))
}

/// Runs a step and prints its name and duration.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("── {what}");
    let begun = Instant::now();
    let result = work().with_context(|| what.to_owned())?;
    eprintln!("   done in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(result)
}

/// Prints that a step is up to date.
pub(crate) fn skip(what: &str) {
    eprintln!("── {what}: up to date");
}

/// Runs a command that must succeed.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// Runs a command that must succeed and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns true if a command succeeds. Its output is discarded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Returns true if a program is on the path.
pub(crate) fn on_path(program: &str) -> bool {
    succeeds(command("sh", "-c").args(["command -v \"$0\"", program]))
}

/// Installs the Debian packages that are missing, if this process is root.
pub(crate) fn debian_packages(packages: &str) -> Result<()> {
    if !on_path("dpkg") {
        bail!("this is not Debian; install the programs of its packages {packages}");
    }
    let is_missing = |package: &&str| !succeeds(&mut command("dpkg", &format!("-s {package}")));
    let missing: Vec<&str> = packages.split_whitespace().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if output(&mut command("id", "-u"))? != "0" {
        bail!("Debian packages are missing; run: sudo apt-get install {list}");
    }
    step(&format!("Debian packages {list}"), || {
        let apt = |args: &str| {
            let mut apt = command("apt-get", args);
            apt.env("DEBIAN_FRONTEND", "noninteractive")
                .stdin(Stdio::null());
            apt
        };
        succeed(&mut apt("update"))?;
        succeed(&mut apt(&format!(
            "install --yes --no-install-recommends {list}"
        )))
    })
}
