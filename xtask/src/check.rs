//! `cargo xtask check`: format, lints, counts, documentation and dependencies.

use std::process::Command;

use anyhow::Result;

use crate::python;
use crate::setup::Profile;
use crate::steps::{bench, cargo, command, step, succeed, succeeds};

/// Runs every check.
pub(crate) fn run() -> Result<()> {
    step("format", || {
        succeed(&mut cargo("fmt --all --check"))?;
        succeed(&mut cargo(
            "fmt --manifest-path tests/fuzz/Cargo.toml --check",
        ))
    })?;
    step("lints", || {
        succeed(&mut cargo(
            "clippy --workspace --all-targets --no-deps -- --deny warnings",
        ))
    })?;
    step("documentation", || {
        let mut doc = cargo("doc --workspace --no-deps --document-private-items");
        succeed(doc.env("RUSTDOCFLAGS", "--deny warnings"))
    })?;
    step("counts", || succeed(&mut bench("counts", Profile::Dev)))?;
    step("docs/wit.md", || docs("--check"))?;
    let mut deny = cargo_deny()?;
    step("licences, duplicates and sources of dependencies", || {
        succeed(deny.args(["check", "licenses", "bans", "sources"]))
    })?;
    // The database of advisories is in a repository that some machines cannot reach.
    if !succeeds(cargo_deny()?.args(["fetch", "db"])) {
        eprintln!("── advisories: NOT CHECKED, because the database cannot be downloaded");
        return Ok(());
    }
    step("advisories", || {
        succeed(cargo_deny()?.args(["check", "advisories"]))
    })
}

/// Writes docs/wit.md, or with `--check`, fails if it is out of date.
pub(crate) fn docs(flag: &str) -> Result<()> {
    succeed(bench("docs", Profile::Dev).arg(flag))
}

/// Returns the command `cargo deny` if it is installed, else the one of a Python package.
fn cargo_deny() -> Result<Command> {
    if succeeds(&mut cargo("deny --version")) {
        return Ok(cargo("deny --workspace"));
    }
    let programs = python::environment("check", "xtask/check-requirements.txt")?;
    Ok(command(programs.join("cargo-deny"), "--workspace"))
}
