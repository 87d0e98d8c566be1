//! `cargo xtask guest`: builds components.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::scripting;
use crate::steps::{root, step, succeed};
use crate::wasm::Toolchain;

/// Components of this workspace: the file's name in `target/guest`, the package and its features.
const COMPONENTS: [(&str, &str, &[&str]); 5] = [
    ("insightface", "rostro-insightface", &[]),
    ("attendance-policy", "rostro-attendance-policy", &[]),
    ("minimal", "rostro-minimal", &[]),
    ("liveness", "rostro-liveness", &[]),
    ("evil", "rostro-evil", &[]),
];

/// Default pipeline that names no one, because tests need a second one whose answers differ.
const VARIANT: (&str, &str, &[&str]) = (
    "variant",
    "rostro-insightface",
    &["--features", "unmatchable"],
);

/// Builds every component that is not up to date.
pub(crate) fn build() -> Result<()> {
    COMPONENTS.into_iter().try_for_each(component)
}

/// Builds every component, including those that only tests need.
pub(crate) fn build_all() -> Result<()> {
    build()?;
    build_variant()?;
    scripting::build()?;
    for version in fs::read_dir(root().join("tests/compat"))? {
        compat(&version?.path())?;
    }
    Ok(())
}

/// Builds the component `variant`.
pub(crate) fn build_variant() -> Result<()> {
    component(VARIANT)
}

/// Builds a package of this workspace into `target/guest`.
fn component((name, package, features): (&str, &str, &[&str])) -> Result<()> {
    step(&format!("component {name}"), || {
        // A separate folder, because the flags differ from the host's: in a shared one, cargo would
        // rebuild everything at each change between the two.
        let work = root().join("target/guest-build");
        let mut build = Toolchain::find()?.build(package)?;
        succeed(build.args(features).env("CARGO_TARGET_DIR", &work))?;
        let file = format!("{}.wasm", package.replace('-', "_"));
        install(&work.join("wasm32-wasip2/guest").join(file), name)
    })
}

/// Builds a component for an earlier version of the interface from its frozen source.
fn compat(folder: &Path) -> Result<()> {
    let version = folder
        .file_name()
        .context("a folder")?
        .display()
        .to_string();
    let file = format!("rostro_compat_{}.wasm", version.replace('.', "_"));
    project(folder)?;
    install(
        &projects_target().join("wasm32-wasip2/release").join(file),
        &format!("compat-{version}"),
    )
}

/// Builds a Rust project outside this workspace as its author would, into [`projects_target`].
pub(crate) fn project(folder: &Path) -> Result<()> {
    step(&format!("component of {}", folder.display()), || {
        let mut build = Toolchain::find()?.build_project()?;
        succeed(
            build
                .env("CARGO_TARGET_DIR", projects_target())
                .current_dir(folder),
        )
    })
}

/// Target folder of projects outside this workspace. They share one standard library there.
pub(crate) fn projects_target() -> PathBuf {
    root().join("target/projects")
}

/// Copies a component to `target/guest/NAME.wasm`, atomically, because a running service may read
/// the file at any time.
pub(crate) fn install(built: &Path, name: &str) -> Result<()> {
    let folder = root().join("target/guest");
    fs::create_dir_all(&folder)?;
    let temporary = folder.join(format!(".{name}.wasm"));
    fs::copy(built, &temporary).with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(fs::rename(temporary, folder.join(format!("{name}.wasm")))?)
}
