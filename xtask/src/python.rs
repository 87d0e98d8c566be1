//! Python environments in `target/python`, each with the packages of a requirements file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::steps::{command, root, skip, step, succeed};

/// Creates an environment, or recreates it after a change of the requirements. Returns the folder
/// of its programs.
pub(crate) fn environment(name: &str, requirements: &str) -> Result<PathBuf> {
    let folder = root().join("target/python").join(name);
    let list = root().join(requirements);
    let wanted =
        fs::read_to_string(&list).with_context(|| format!("cannot read {requirements}"))?;
    let stamp = folder.join("installed.txt");
    let what = format!("Python environment {name}");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        skip(&what);
        return Ok(folder.join("bin"));
    }
    step(&what, || {
        succeed(command("python3", "-m venv --clear").arg(&folder))
            .context("install Python 3 with venv (Debian packages python3 and python3-venv)")?;
        let pip = "-m pip install --disable-pip-version-check --requirement";
        succeed(command(folder.join("bin/python"), pip).arg(&list))?;
        Ok(fs::write(stamp, wanted)?)
    })?;
    Ok(folder.join("bin"))
}

/// Creates the environment with componentize-py. Returns the folder of its programs.
pub(crate) fn componentize() -> Result<PathBuf> {
    let list = "guest/examples/attendance-policy/python/requirements.txt";
    environment("componentize", list)
}

/// Runs the Python program in a folder, in an environment with its requirements.
pub(crate) fn run(folder: &Path, args: &[String]) -> Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let requirements = folder.join("requirements.txt");
    let mut python = PathBuf::from("python3");
    // The help needs no packages.
    if !args.iter().any(|arg| arg == "--help" || arg == "-h") {
        python = environment(&name, &requirements.to_string_lossy())?.join("python");
    }
    let mut command = command(python, "");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    succeed(command.arg(folder).args(args))
}
