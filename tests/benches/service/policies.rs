//! Cost of the same policy in each language, compared with the default pipeline's own.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::frames;
use crate::harness::{component, rostro};
use crate::server::{Target, gallery};

/// Times `attendance-policy` in Rust, JavaScript and Python on the frame with thirty faces.
pub(crate) fn measure(seconds: u64) -> Result<()> {
    // Only its gallery with the students is needed.
    drop(Target::rostro()?);
    let (_, picture) = frames::usual().pop().context("there are no frames")?;
    let default = component("insightface");
    for name in [
        "attendance-policy",
        "attendance-policy-js",
        "attendance-policy-python",
    ] {
        println!("\n{name}");
        let mut bench: Command = rostro();
        bench.args(["pipeline", "bench"]).arg(component(name));
        bench
            .arg("--beside")
            .arg(&default)
            .arg("--against")
            .arg(&default);
        bench.args(["--pack", "mobile", "--seconds", &seconds.to_string()]);
        bench
            .arg("--images")
            .arg(&picture)
            .arg("--gallery")
            .arg(gallery());
        let status = bench.status()?;
        ensure!(
            status.success(),
            "rostro pipeline bench ended with {status}"
        );
    }
    Ok(())
}
