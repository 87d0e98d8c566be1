//! Building the components that are written in JavaScript and Python.

use std::fs;
use std::path::{Path, PathBuf};

use crate::python;
use crate::steps::{command, debian_packages, done_before, on_path, root, step, succeed};
use anyhow::{Context, Result};

/// The example in JavaScript and Python.
const EXAMPLE: &str = "guest/examples/attendance-policy";

/// Builds the example policy in JavaScript and Python, unless they are up to date.
pub(crate) fn build() -> Result<()> {
    let example = root().join(EXAMPLE);
    let sources = |files: &[&str]| -> Vec<PathBuf> {
        let own = files.iter().map(|file| example.join(file));
        own.chain([root().join("wit/rostro.wit")]).collect()
    };
    let js = [
        "js/attendance.js",
        "js/review.js",
        "js/host_log.js",
        "js/package.json",
    ];
    component("attendance-policy-js", &sources(&js), |file| {
        let work = root().join("target/js");
        fs::create_dir_all(&work)?;
        for name in js.map(|name| name.trim_start_matches("js/")) {
            fs::copy(example.join("js").join(name), work.join(name))?;
        }
        install(&work)?;
        let mut build = command(work.join("node_modules/.bin/componentize-js"));
        build
            .arg("attendance.js")
            .arg("--wit")
            .arg(root().join("wit"))
            .args(["--world-name", "policy-only"]);
        build
            .args([
                "--disable",
                "stdio",
                "--disable",
                "http",
                "--disable",
                "fetch-event",
                "--out",
            ])
            .arg(file);
        succeed(build.current_dir(&work))
    })?;
    let requirements = example.join("python/requirements.txt");
    let programs = python::environment("componentize", &requirements)?;
    let python = [
        "python/app.py",
        "python/review.py",
        "python/host_log.py",
        "python/requirements.txt",
    ];
    component("attendance-policy-python", &sources(&python), |file| {
        let mut build = command(programs.join("componentize-py"));
        build
            .arg("--wit-path")
            .arg(root().join("wit"))
            .args([
                "--world",
                "policy-only",
                "componentize",
                "--stub-wasi",
                "app",
                "-o",
            ])
            .arg(file);
        succeed(
            build
                .current_dir(example.join("python"))
                .env("PYTHONDONTWRITEBYTECODE", "1"),
        )
    })
}

/// Installs what a `package.json` names, and npm if need be. An installation that was interrupted
/// is begun again: npm takes it for whole.
pub(crate) fn install(folder: &Path) -> Result<()> {
    if !on_path("npm") {
        debian_packages(&["nodejs", "npm"])?;
    }
    let (modules, stamp) = (
        folder.join("node_modules"),
        folder.join("node_modules/.installed"),
    );
    let wanted = fs::read_to_string(folder.join("package.json"))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if modules.exists() {
        fs::remove_dir_all(&modules)?;
    }
    succeed(
        command("npm")
            .args(["install", "--no-audit", "--no-fund", "--silent"])
            .current_dir(folder),
    )?;
    Ok(fs::write(stamp, wanted)?)
}

/// Builds `target/guest/NAME.wasm`, unless it was made of the same sources.
fn component(
    name: &str,
    sources: &[PathBuf],
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let folder = root().join("target/guest");
    let (file, stamp) = (
        folder.join(format!("{name}.wasm")),
        folder.join(format!(".{name}.sources")),
    );
    let text = |source: &PathBuf| {
        fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))
    };
    let wanted = sources
        .iter()
        .map(text)
        .collect::<Result<Vec<_>>>()?
        .concat();
    let what = format!("component {name}");
    if file.is_file() && fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        done_before(&what);
        return Ok(());
    }
    step(&what, || {
        fs::create_dir_all(&folder)?;
        // By rename, so that a running service that reads it sees the old file or the new.
        let temporary = folder.join(format!(".{name}.wasm"));
        build(&temporary)?;
        fs::rename(&temporary, &file)?;
        Ok(fs::write(stamp, wanted)?)
    })
}
