//! `cargo xtask test`: sets everything up and runs every test.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;

use crate::setup::{self, Profile, SetupArgs};
use crate::steps::{cargo, command, debian_packages, on_path, shared, step, succeed, succeeds};
use crate::{guest, python, soak};

/// Modules of the end-to-end tests that need photos of people and weights.
const WITH_PHOTOS: [&str; 5] = ["gates", "identification", "parity", "precision", "presence"];

/// Which tests to run.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Skip the tests in Python, which need a browser
    #[arg(long)]
    no_python: bool,
    /// Further arguments for nextest (or `cargo test` if that is missing), after `--`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Sets everything up and runs every test.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let begun = Instant::now();
    let folder = shared();
    let has_photos = folder.join("faces").is_dir();
    let skipped = format!(
        "the end-to-end modules {} and the tests in Python need photos of people and weights: {} \
         is missing; name a folder with faces, models and reference with ROSTRO_SHARED",
        WITH_PHOTOS.join(", "),
        folder.display()
    );
    ensure!(has_photos || std::env::var_os("CI").is_none(), "{skipped}");
    if !has_photos {
        eprintln!("── SKIPPED: {skipped}");
    }
    // For the test of upgrades. The set-up then builds the program itself in this place.
    step("program with the next schema", || {
        let build = "build --workspace --bin rostro --features rostro/next-schema";
        succeed(&mut cargo(build))?;
        let copy = "-D target/debug/rostro target/next-schema/rostro";
        succeed(&mut command("install", copy))
    })?;
    // The drawn faces need no weights.
    let pack = if has_photos { "mobile" } else { "testing" };
    setup::run(&SetupArgs::accepted(pack))?;
    if has_photos {
        setup::models(Profile::Dev, &SetupArgs::accepted("mobile-liveness"))?;
    }
    guest::build_all()?;
    python::environment("e2e", "tests/e2e/requirements.txt")?;
    python::environment("quantize", "tools/quantize/requirements.txt")?;
    for program in ["nginx", "pgbouncer", "ffmpeg", "mosquitto"] {
        let mut folders = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].into_iter();
        if !folders.any(|folder| Path::new(folder).join(program).exists()) {
            debian_packages(program)?;
        }
    }
    if !succeeds(&mut command("/usr/bin/python3", "tests/e2e/rtsp_server.py")) {
        debian_packages("gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi")?;
    }
    step("tests in Rust", || rust(args, has_photos))?;
    step("short soak", soak::short)?;
    step("examples in the documentation", || {
        succeed(&mut cargo("test --doc --workspace"))
    })?;
    if has_photos && !args.no_python {
        browser()?;
        let programs = python::environment("tests", "tests/python/requirements.txt")?;
        let mut pytest = command(programs.join("pytest"), "-q tests/python");
        step("tests in Python", || {
            succeed(pytest.env("PYTHONDONTWRITEBYTECODE", "1"))
        })?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("── tests passed after {seconds:.0} s");
    if !has_photos {
        eprintln!("── SKIPPED: {skipped}");
    }
    Ok(())
}

fn rust(args: &TestArgs, has_photos: bool) -> Result<()> {
    let mut tests;
    if succeeds(&mut cargo("nextest --version")) {
        tests = cargo("nextest run --workspace --no-fail-fast");
        if !has_photos {
            tests.args(["-E", &format!("not test(/^({})::/)", WITH_PHOTOS.join("|"))]);
        }
    } else {
        tests = cargo("test --workspace --no-fail-fast --lib --bins --tests --");
        if !has_photos {
            tests.args(WITH_PHOTOS.iter().flat_map(|module| ["--skip", module]));
        }
    }
    succeed(tests.args(&args.rest))
}

/// Installs a browser and its driver, unless `tests/python/browser.py` finds them.
fn browser() -> Result<()> {
    let has = |variable, programs: &[&str]| {
        std::env::var_os(variable).is_some_and(|path| !path.is_empty())
            || programs.iter().any(|program| on_path(program))
    };
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    if !has("ROSTRO_CHROMIUM", &browsers) {
        debian_packages("chromium")?;
    }
    if !has("ROSTRO_CHROMEDRIVER", &["chromedriver"]) {
        debian_packages("chromium-driver")?;
    }
    Ok(())
}
