//! `cargo xtask test`: from nothing to every test's result.

use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::guest;
use crate::python;
use crate::setup::{self, SetupArgs};
use crate::steps::{cargo, command, debian_packages, root, shared, step, succeed, succeeds};

/// Which tests.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Leave out the tests in Python, which need a browser
    #[arg(long)]
    no_python: bool,
    /// Further arguments for nextest (or for `cargo test` where that is missing), after `--`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Sets everything up and runs every test.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let begun = Instant::now();
    if !shared().join("faces").is_dir() {
        bail!("the folder {} with the test photos is missing; name it with ROSTRO_SHARED", shared().display());
    }
    setup::run(&SetupArgs { pack: Some("mobile".to_owned()), accept_license: true })?;
    guest::build_variant()?;
    step("tests in Rust", || rust(args))?;
    step("documentation's examples", || succeed(cargo().args(["test", "--quiet", "--doc", "--workspace"])))?;
    if !args.no_python {
        debian_packages(&["chromium", "chromium-driver"])?;
        let tests = root().join("tests/python");
        let programs = python::environment("tests", &tests.join("requirements.txt"))?;
        step("tests in Python", || succeed(command(programs.join("pytest")).arg("-q").arg(tests).env("PYTHONDONTWRITEBYTECODE", "1")))?;
    }
    eprintln!("── every test passed, {:.0} s from the start", begun.elapsed().as_secs_f64());
    Ok(())
}

fn rust(args: &TestArgs) -> Result<()> {
    let mut tests = cargo();
    if succeeds(cargo().args(["nextest", "--version"])) {
        tests.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        tests.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests", "--"]);
    }
    succeed(tests.args(&args.rest))
}
