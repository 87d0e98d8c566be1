//! What the same policy costs in each language, beside the default pipeline's own.

use anyhow::{Context, Result};

use super::frames;
use super::peer;
use crate::scripting;
use crate::setup::{Profile, program};
use crate::steps::{command, root, step, succeed};

/// Times `attendance-policy` in Rust, JavaScript and Python on a frame with thirty faces, with the
/// students enrolled.
///
/// # Errors
///
/// If one cannot be built or fails.
pub(super) fn compare(seconds: u64) -> Result<()> {
    scripting::build()?;
    let ours = step("rostro, with the students enrolled", peer::ours)?;
    // It is done with what it is for: the gallery.
    drop(ours);
    let gallery = super::service::folder("gallery-rostro");
    let (_, picture) = frames::usual().last().context("a frame")?;
    let guest = |name: &str| root().join("target/guest").join(format!("{name}.wasm"));
    for name in [
        "attendance-policy",
        "attendance-policy-js",
        "attendance-policy-python",
    ] {
        println!("\n{name}");
        let mut bench = command(program(Profile::Release));
        bench
            .args(["pipeline", "bench"])
            .arg(guest(name))
            .arg("--beside")
            .arg(guest("insightface"));
        bench.arg("--against").arg(guest("insightface")).args([
            "--pack",
            "mobile",
            "--seconds",
            &seconds.to_string(),
        ]);
        succeed(
            bench
                .arg("--images")
                .arg(&picture)
                .arg("--gallery")
                .arg(&gallery),
        )?;
    }
    Ok(())
}
