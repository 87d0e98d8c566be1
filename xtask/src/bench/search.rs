//! The gallery's search: the program is `tests/benches/search.rs`.

use anyhow::Result;

use super::machine;
use crate::steps::{cargo, step, succeed};

/// Measures galleries up to so many vectors and prints.
pub(super) fn measure(vectors: u64) -> Result<()> {
    let bench = || {
        let mut bench = cargo();
        bench.args([
            "bench",
            "--quiet",
            "--package",
            "rostro-tests",
            "--bench",
            "search",
        ]);
        bench
    };
    step("benchmark search, optimised", || {
        succeed(bench().arg("--no-run"))
    })?;
    println!("{}\n", machine::described());
    succeed(bench().args(["--", "--vectors", &vectors.to_string()]))
}
