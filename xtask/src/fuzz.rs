//! `cargo xtask fuzz`: runs the targets of `tests/fuzz` with cargo-fuzz. Without a sanitizer, which
//! needs a nightly compiler, they find panics, overflows, slow inputs and excessive memory.

use std::fs;

use anyhow::Result;
use clap::Args;

use crate::steps::{cargo, output, root, step, succeed, succeeds};

/// What to fuzz, and for how long.
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// Targets of tests/fuzz [default: all]
    targets: Vec<String>,
    /// Minutes for each target
    #[arg(long, value_name = "M", default_value_t = 10.0)]
    minutes: f64,
    /// Processes for each target
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: u8,
}

/// Runs each target. Stops at the first that fails; cargo-fuzz prints how to repeat it.
pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    if !succeeds(&mut cargo("fuzz --version")) {
        succeed(&mut cargo("install cargo-fuzz --locked --version 0.13.2"))?;
    }
    let mut targets = args.targets.clone();
    if targets.is_empty() {
        let list = output(&mut cargo("fuzz list --fuzz-dir tests/fuzz"))?;
        targets = list.lines().map(str::to_owned).collect();
    }
    for target in &targets {
        let corpus = root().join("tests/fuzz/corpus").join(target);
        fs::create_dir_all(&corpus)?;
        let mut fuzz = cargo("fuzz run --fuzz-dir tests/fuzz --sanitizer none --jobs");
        fuzz.arg(args.jobs.to_string()).arg(target).arg(&corpus);
        // An input may take 10 s and 2 GB. The slowest valid ones take milliseconds and 400 MB.
        fuzz.args([
            "--",
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]);
        fuzz.arg(format!("-max_total_time={}", (args.minutes * 60.0).ceil()));
        step(target, || succeed(fuzz.env("ROSTRO_FUZZ_SEEDS", &corpus)))?;
    }
    Ok(())
}
