//! `cargo xtask test`: from nothing to every test's result.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::guest;
use crate::python;
use crate::setup::{self, Profile, SetupArgs};
use crate::soak;
use crate::steps::{
    cargo, command, debian_packages, in_ci, on_path, root, shared, step, succeed, succeeds,
};

/// The modules of the end-to-end tests that need photos of people, and weights; no other test in
/// Rust does.
const WITH_PHOTOS: [&str; 3] = ["gates", "identification", "parity"];

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
    let photos = shared().join("faces").is_dir();
    if !photos && in_ci() {
        bail!(
            "the folder {} with the test photos is missing; name it with ROSTRO_SHARED",
            shared().display()
        );
    }
    if !photos {
        say_left_out();
    }
    // The drawn faces need no weights.
    let pack = if photos { "mobile" } else { "testing" };
    setup::run(&SetupArgs {
        pack: Some(pack.to_owned()),
        accept_license: true,
    })?;
    if photos {
        setup::models(
            Profile::Dev,
            &SetupArgs {
                pack: Some("mobile-liveness".to_owned()),
                accept_license: true,
            },
        )?;
    }
    guest::build_all()?;
    // Has a library that gives a server another time, which one of the tests in Rust needs.
    python::environment("faketime", &root().join("tests/e2e/requirements.txt"))?;
    nginx()?;
    step("tests in Rust", || rust(args, photos))?;
    step("a short soak", soak::short)?;
    step("documentation's examples", || {
        succeed(cargo().args(["test", "--quiet", "--doc", "--workspace"]))
    })?;
    if photos && !args.no_python {
        browser()?;
        let tests = root().join("tests/python");
        let programs = python::environment("tests", &tests.join("requirements.txt"))?;
        step("tests in Python", || {
            succeed(
                command(programs.join("pytest"))
                    .arg("-q")
                    .arg(tests)
                    .env("PYTHONDONTWRITEBYTECODE", "1"),
            )
        })?;
    }
    let which = if photos {
        "every test"
    } else {
        "every test that needs no photos"
    };
    eprintln!(
        "── {which} passed, {:.0} s from the start",
        begun.elapsed().as_secs_f64()
    );
    if !photos {
        say_left_out();
    }
    Ok(())
}

/// Says what cannot be tested without photos of people, and how it can be.
fn say_left_out() {
    let modules = WITH_PHOTOS.join(" and ");
    eprintln!(
        "── NOT TESTED: the end-to-end modules {modules}, and the tests in Python, which need photos of people and weights"
    );
    let folder = shared();
    eprintln!(
        "   {} is missing; with a folder that holds faces, models and reference: ROSTRO_SHARED=FOLDER cargo xtask test",
        folder.display()
    );
}

/// Makes sure that nginx is there, which end-to-end tests put in front of a server.
fn nginx() -> Result<()> {
    if ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
        .iter()
        .any(|path| Path::new(path).exists())
    {
        return Ok(());
    }
    if !on_path("dpkg") {
        bail!(
            "the end-to-end tests need nginx in /usr/sbin, /usr/local/sbin or /usr/bin; install it"
        );
    }
    debian_packages(&["nginx"])
}

/// Makes sure that a browser and its driver are there, looked for as `tests/python/test_page.py`
/// does.
fn browser() -> Result<()> {
    let programs: [(&str, &str, &[&str]); 2] = [
        (
            "chromium",
            "ROSTRO_CHROMIUM",
            &["chromium", "chromium-browser", "google-chrome"],
        ),
        ("chromium-driver", "ROSTRO_CHROMEDRIVER", &["chromedriver"]),
    ];
    let is_named = |variable| std::env::var_os(variable).is_some_and(|path| !path.is_empty());
    let is_there =
        |variable, names: &[&str]| is_named(variable) || names.iter().any(|name| on_path(name));
    let missing: Vec<_> = programs
        .iter()
        .filter(|(_, variable, names)| !is_there(variable, names))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !on_path("dpkg") {
        let missing: Vec<String> = missing
            .iter()
            .map(|(_, variable, names)| {
                format!("{} (or name it with {variable})", names.join(" or "))
            })
            .collect();
        bail!(
            "the tests in Python need a browser; install {}, or leave them out with --no-python",
            missing.join(" and ")
        );
    }
    debian_packages(
        &missing
            .iter()
            .map(|(package, ..)| *package)
            .collect::<Vec<_>>(),
    )
}

fn rust(args: &TestArgs, photos: bool) -> Result<()> {
    let mut tests = cargo();
    if succeeds(cargo().args(["nextest", "--version"])) {
        tests.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
        if !photos {
            tests.args(["-E", &format!("not test(/^({})::/)", WITH_PHOTOS.join("|"))]);
        }
    } else {
        tests.args([
            "test",
            "--workspace",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
            "--",
        ]);
        if !photos {
            tests.args(
                WITH_PHOTOS
                    .iter()
                    .flat_map(|module| ["--skip".to_owned(), format!("{module}::")]),
            );
        }
    }
    succeed(tests.args(&args.rest))
}
