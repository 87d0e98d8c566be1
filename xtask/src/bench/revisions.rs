//! What deploying costs: the program is `tests/benches/revisions.rs`.

use anyhow::Result;

use super::machine;
use crate::guest;
use crate::steps::{cargo, step, succeed};

/// Measures and prints; fails if a request fails, is mixed up, or what was dropped is held.
pub(super) fn measure(swaps: u32) -> Result<()> {
    guest::build_variant()?;
    let bench = || {
        let mut bench = cargo();
        bench.args([
            "bench",
            "--quiet",
            "--package",
            "rostro-tests",
            "--bench",
            "revisions",
        ]);
        bench
    };
    step("benchmark revisions, optimised", || {
        succeed(bench().arg("--no-run"))
    })?;
    println!("{}\n", machine::described());
    succeed(bench().args(["--", "--swaps", &swaps.to_string()]))
}
