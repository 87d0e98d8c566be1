//! Python environments under `target/python`, each made from a list of pinned packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::steps::{command, done_before, root, step, succeed};

/// The folder of programs of the environment `name` with the packages of a requirements file, made
/// or remade if the file changed.
pub(crate) fn environment(name: &str, requirements: &Path) -> Result<PathBuf> {
    let folder = root().join("target/python").join(name);
    let wanted = fs::read_to_string(requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let stamp = folder.join("installed.txt");
    let what = format!("Python environment {name}");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        done_before(&what);
        return Ok(folder.join("bin"));
    }
    step(&what, || {
        let cleared = succeed(
            command("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&folder),
        );
        cleared
            .context("Python 3 with venv is needed (Debian's packages python3 and python3-venv)")?;
        let pip = folder.join("bin/python");
        succeed(
            command(pip)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--requirement",
                ])
                .arg(requirements),
        )?;
        Ok(fs::write(stamp, wanted)?)
    })?;
    Ok(folder.join("bin"))
}

/// Returns the folder of programs with componentize-py.
pub(crate) fn componentize() -> Result<PathBuf> {
    let list = "guest/examples/attendance-policy/python/requirements.txt";
    environment("componentize", &root().join(list))
}
