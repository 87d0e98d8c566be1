//! Building the components.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::steps::{root, step, succeed};
use crate::wasm::Toolchain;
use crate::{compat, scripted};

/// Each component's file in `target/guest`, and its package.
const COMPONENTS: [(&str, &str); 5] = [
    ("insightface", "rostro-insightface"),
    ("attendance-policy", "rostro-attendance-policy"),
    ("minimal", "rostro-minimal"),
    ("liveness", "rostro-liveness"),
    ("evil", "rostro-evil"),
];

/// The changes that make the component `variant`, each in a file: the default pipeline with a
/// matching rule that no cosine can meet. Tests use it to show that answers are the component's. It
/// has a name of its own: cargo takes packages of one name, built into one folder, for the same.
const VARIANT: [(&str, &str, &str); 2] = [
    (
        "guest/insightface/src/lib.rs",
        "assigned(probes, rule)",
        "assigned(probes, Rule::plain(1.5 + rule.surcharge))",
    ),
    (
        "guest/insightface/Cargo.toml",
        "name = \"rostro-insightface\"",
        "name = \"rostro-variant\"",
    ),
];

/// Builds every component that is not up to date.
pub(crate) fn build() -> Result<()> {
    let toolchain = Toolchain::find()?;
    for (name, package) in COMPONENTS {
        step(&format!("component {name}"), || {
            component(&toolchain, &root(), name, package)
        })?;
    }
    Ok(())
}

/// Builds every component, those of tests too.
pub(crate) fn build_all() -> Result<()> {
    build()?;
    build_variant()?;
    scripted::build()?;
    compat::build()
}

/// Builds the component `variant` from a changed copy of the sources.
pub(crate) fn build_variant() -> Result<()> {
    let toolchain = Toolchain::find()?;
    step(
        "component variant, the default pipeline with another matching rule",
        || {
            let copy = root().join("target/variant");
            // The workspace of the copy is the guest's part of ours.
            let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
            let members = |line: &str| match line.split_once(" = ") {
                Some(("members", _)) => Some(
                    r#"members = ["guest/policy-world", "guest/sdk", "guest/insightface"]"#
                        .to_owned(),
                ),
                Some((_, value)) if value.contains("path = \"host/") => None,
                _ => Some(line.to_owned()),
            };
            let manifest: Vec<String> = manifest.lines().filter_map(members).collect();
            write_changed(&copy.join("Cargo.toml"), &manifest.join("\n"))?;
            write_changed(
                &copy.join("Cargo.lock"),
                &fs::read_to_string(root().join("Cargo.lock"))?,
            )?;
            for folder in [
                "wit",
                "guest/policy-world",
                "guest/sdk",
                "guest/insightface",
            ] {
                copy_sources(&root().join(folder), &copy.join(folder))?;
            }
            component(&toolchain, &copy, "variant", "rostro-variant")
        },
    )
}

/// Builds a package of the workspace at `sources` into `target/guest`.
fn component(toolchain: &Toolchain, sources: &Path, name: &str, package: &str) -> Result<()> {
    // A folder of its own: other flags than the host's would make cargo build everything anew in
    // turns.
    let work = root().join("target/guest-build");
    let target = root().join("target/guest");
    fs::create_dir_all(&target)?;
    succeed(
        toolchain
            .build(package)?
            .env("CARGO_TARGET_DIR", &work)
            .current_dir(sources),
    )?;
    let built = work
        .join("wasm32-wasip2/guest")
        .join(format!("{}.wasm", package.replace('-', "_")));
    let file = target.join(format!("{name}.wasm"));
    // By rename, so that a running service that reads it sees the old file or the new.
    let temporary = target.join(format!(".{name}.wasm"));
    fs::copy(&built, &temporary).with_context(|| format!("{} was not built", built.display()))?;
    Ok(fs::rename(temporary, file)?)
}

/// Copies a folder of sources, with the changes of [`VARIANT`].
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path: PathBuf = entry?.path();
        let target = to.join(path.file_name().context("a name")?);
        if path.is_dir() {
            copy_sources(&path, &target)?;
            continue;
        }
        let mut text = fs::read_to_string(&path)?;
        for (changed, before, after) in VARIANT {
            if path == root().join(changed) {
                ensure!(
                    text.contains(before),
                    "{changed} has no `{before}` to change"
                );
                text = text.replace(before, after);
            }
        }
        write_changed(&target, &text)?;
    }
    Ok(())
}

/// Writes a file unless it is so already, so that cargo builds only what changed.
fn write_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().context("a folder")?)?;
    Ok(fs::write(path, text)?)
}
