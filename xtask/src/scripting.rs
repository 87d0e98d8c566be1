//! The example policies in JavaScript and Python.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::guest::install;
use crate::python::componentize;
use crate::steps::{command, debian_packages, on_path, root, skip, step, succeed};

/// Builds the example policies, unless their sources are unchanged.
pub(crate) fn build() -> Result<()> {
    component("attendance-policy/js", |folder| {
        // A copy, so that npm writes no files into the sources. Its depth is that of the original,
        // because the build script names the interface by a relative path.
        let copy = root().join("target/examples/attendance-policy/js");
        fs::create_dir_all(&copy)?;
        for file in files(folder)? {
            fs::copy(&file, copy.join(file.file_name().unwrap_or_default()))?;
        }
        if !on_path("npm") {
            debian_packages("nodejs npm")?;
        }
        succeed(command("npm", "install --no-audit").current_dir(&copy))?;
        succeed(command("npm", "run build").current_dir(&copy))?;
        Ok(copy.join("attendance-policy.wasm"))
    })?;
    let attendance = "-d ../../../../wit/0.1 -w policy-only";
    component("attendance-policy/python", |folder| {
        python(folder, attendance)
    })?;
    let seen_twice = "-d ../../../wit/0.2 -w decide-only";
    component("seen-twice", |folder| python(folder, seen_twice))
}

fn python(folder: &Path, world: &str) -> Result<PathBuf> {
    let built = root().join("target/python-policy.wasm");
    let args = format!("{world} componentize --stub-wasi app -o");
    let mut build = command(componentize()?.join("componentize-py"), &args);
    build.arg(&built).env("PYTHONDONTWRITEBYTECODE", "1");
    succeed(build.current_dir(folder))?;
    Ok(built)
}

/// Builds a folder of the examples into `target/guest`, unless its sources are unchanged.
fn component(folder: &str, build: impl FnOnce(&Path) -> Result<PathBuf>) -> Result<()> {
    let name = folder.replace('/', "-");
    let folder = root().join("guest/examples").join(folder);
    let mut sources = String::new();
    for folder in [&root().join("wit/0.1"), &root().join("wit/0.2"), &folder] {
        for file in files(folder)? {
            sources += &fs::read_to_string(file)?;
        }
    }
    let stamp = root().join(format!("target/guest/.{name}.sources"));
    let is_built = root().join(format!("target/guest/{name}.wasm")).is_file();
    let what = format!("component {name}");
    if is_built && fs::read_to_string(&stamp).is_ok_and(|built| built == sources) {
        skip(&what);
        return Ok(());
    }
    step(&what, || {
        install(&build(&folder)?, &name)?;
        Ok(fs::write(stamp, sources)?)
    })
}

/// Returns the files of a folder.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let paths = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    Ok(paths.filter(|path| path.is_file()).collect())
}
