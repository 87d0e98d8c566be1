//! Running commands, and saying what is done.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::setup::Profile;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// The folder with photos, weights and reference results beside the repository; not part of it.
pub(crate) fn shared() -> PathBuf {
    std::env::var_os("ROSTRO_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from)
}

/// Whether a missing prerequisite is a failure and nobody is there to ask.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// A command in the repository's root.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs this, as if called from a shell: what it told this program of its own
/// package would look like a change to build scripts that read such variables, and they and all
/// that depends on them would be built anew at every turn.
pub(crate) fn cargo() -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let of_this_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars().filter(|(name, _)| of_this_package(name)) {
        cargo.env_remove(name);
    }
    cargo
}

/// Returns the command that runs a program of `tests` in a profile. Its arguments come last.
pub(crate) fn bench(name: &str, profile: Profile) -> Command {
    let mut bench = cargo();
    bench.args(["bench", "--workspace", "--bench", name]);
    bench.args(["--profile", profile.name(), "--"]);
    bench
}

/// Says that a step begins, does it, and says how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("── {what}");
    let begun = Instant::now();
    let result = work().with_context(|| what.to_owned())?;
    eprintln!("   done in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(result)
}

/// Says that a step has nothing to do.
pub(crate) fn done_before(what: &str) {
    eprintln!("── {what}: there");
}

/// Runs a command, its output shown, to its success.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command to its success and gives what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command can be run and succeeds; what it writes is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a program is installed, by its name.
pub(crate) fn on_path(program: &str) -> bool {
    succeeds(command("sh").args(["-c", "command -v \"$0\"", program]))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Makes sure that Debian packages are there, installing them where this process may.
pub(crate) fn debian_packages(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !succeeds(command("dpkg").args(["-s", package])))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let is_root = output(command("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root {
        bail!("Debian's packages {list} are missing; run: sudo apt-get install {list}");
    }
    step(&format!("Debian's packages {list}"), || {
        let apt = || {
            let mut apt = command("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive")
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            apt
        };
        succeed(apt().arg("update"))?;
        succeed(
            apt()
                .args(["install", "--yes", "--no-install-recommends"])
                .args(&missing),
        )
    })
}
