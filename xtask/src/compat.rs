//! Building the components of earlier versions of the interface, each from its frozen source:
//! `tests/compat`.

use std::fs;

use anyhow::{Context, Result};

use crate::steps::{root, step, succeed};
use crate::wasm::Toolchain;

/// Builds `target/guest/compat-VERSION.wasm` for each version in `tests/compat`.
pub(crate) fn build() -> Result<()> {
    let guest = root().join("target/guest");
    fs::create_dir_all(&guest)?;
    for version in fs::read_dir(root().join("tests/compat"))? {
        let project = version?.path();
        let version = project
            .file_name()
            .context("a folder")?
            .display()
            .to_string();
        step(
            &format!("component compat-{version}, built against rostro:pipeline@{version}"),
            || {
                let target = projects_target();
                succeed(
                    Toolchain::find()?
                        .build_project()?
                        .env("CARGO_TARGET_DIR", &target)
                        .current_dir(&project),
                )?;
                let file = guest.join(format!("compat-{version}.wasm"));
                // Each has a name of its own: in the shared folder the last one that was built
                // would stand for all.
                let built = format!(
                    "wasm32-wasip2/release/rostro_compat_{}.wasm",
                    version.replace('.', "_")
                );
                Ok(fs::copy(target.join(built), file).map(drop)?)
            },
        )?;
    }
    Ok(())
}

/// Where projects are built that are no members of the workspace: one folder, so that they share a
/// standard library.
pub(crate) fn projects_target() -> std::path::PathBuf {
    root().join("target/projects")
}
