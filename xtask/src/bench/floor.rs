//! The service beside the least that a frame could take: the program is `tests/benches/floor`.

use anyhow::Result;

use super::{frames, machine, peer};
use crate::steps::{cargo, root, step, succeed};

/// Measures and prints.
pub(super) fn measure() -> Result<()> {
    let bench = || {
        let mut bench = cargo();
        bench.args([
            "bench",
            "--quiet",
            "--package",
            "rostro-tests",
            "--bench",
            "floor",
        ]);
        bench
    };
    step("benchmark floor, optimised", || {
        succeed(bench().arg("--no-run"))
    })?;
    let ours = step("rostro, with the students enrolled", peer::ours)?;
    println!("{}\n", machine::described());
    let mut run = bench();
    run.arg("--");
    for (what, picture) in frames::all() {
        run.arg(format!("{what}={}", picture.display()));
    }
    run.arg("--models").arg(root().join("models/installed"));
    run.arg("--runtime").arg(root().join("models/runtime"));
    run.arg("--pipeline")
        .arg(root().join("target/guest/insightface.wasm"));
    succeed(run.args(["--url", &ours.url]))
}
