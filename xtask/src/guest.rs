//! Building the components.

use std::fs;

use anyhow::{Context, Result};

use crate::steps::{root, step, succeed};
use crate::wasm::Toolchain;

/// Each component's file in `target/guest`, and its package.
const COMPONENTS: [(&str, &str); 2] = [("insightface", "rostro-insightface"), ("margin-policy", "rostro-margin-policy")];

/// Builds every component that is not up to date.
pub(crate) fn build() -> Result<()> {
    let toolchain = Toolchain::find()?;
    // A folder of its own: other flags than the host's would make cargo build everything anew in turns.
    let work = root().join("target/guest-build");
    let target = root().join("target/guest");
    fs::create_dir_all(&target)?;
    for (name, package) in COMPONENTS {
        step(&format!("component {name}"), || {
            // One package at a time: the SDK's features differ by world.
            succeed(toolchain.build()?.args(["--quiet", "--package", package]).env("CARGO_TARGET_DIR", &work))?;
            let built = work.join("wasm32-wasip2/guest").join(format!("{}.wasm", package.replace('-', "_")));
            let file = target.join(format!("{name}.wasm"));
            // By rename, so that a running service that reads it sees the old file or the new.
            let temporary = target.join(format!(".{name}.wasm"));
            fs::copy(&built, &temporary).with_context(|| format!("{} was not built", built.display()))?;
            Ok(fs::rename(temporary, file)?)
        })?;
    }
    Ok(())
}
