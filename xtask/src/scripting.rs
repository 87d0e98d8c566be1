//! The example policy in JavaScript and Python.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::guest::install;
use crate::python;
use crate::steps::{command, debian_packages, on_path, root, skip, step, succeed};

const JS_FILES: [&str; 4] = ["attendance.js", "review.js", "host_log.js", "package.json"];

const PYTHON_FILES: [&str; 4] = ["app.py", "review.py", "host_log.py", "requirements.txt"];

/// Builds the example policy in both languages, unless its sources are unchanged.
pub(crate) fn build() -> Result<()> {
    component("js", &JS_FILES, |folder| {
        // A copy, so that npm writes no files into the sources. Its depth is that of the original,
        // because the build script names the interface by a relative path.
        let copy = root().join("target/examples/attendance-policy/js");
        fs::create_dir_all(&copy)?;
        for file in JS_FILES {
            fs::copy(folder.join(file), copy.join(file))?;
        }
        if !on_path("npm") {
            debian_packages("nodejs npm")?;
        }
        succeed(command("npm", "install --no-audit").current_dir(&copy))?;
        succeed(command("npm", "run build").current_dir(&copy))?;
        Ok(copy.join("attendance-policy.wasm"))
    })?;
    component("python", &PYTHON_FILES, |folder| {
        let built = root().join("target/attendance-policy-python.wasm");
        let args = "-d ../../../../wit/0.1 -w policy-only componentize --stub-wasi app -o";
        let mut build = command(python::componentize()?.join("componentize-py"), args);
        build.arg(&built).env("PYTHONDONTWRITEBYTECODE", "1");
        succeed(build.current_dir(folder))?;
        Ok(built)
    })
}

/// Builds `target/guest/attendance-policy-LANGUAGE.wasm`, unless its sources are unchanged.
fn component(
    language: &str,
    files: &[&str],
    build: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<()> {
    let name = format!("attendance-policy-{language}");
    let folder = root()
        .join("guest/examples/attendance-policy")
        .join(language);
    let mut sources = fs::read_to_string(root().join("wit/0.1/rostro.wit"))?;
    for file in files {
        sources += &fs::read_to_string(folder.join(file))?;
    }
    let target = root().join("target/guest");
    let stamp = target.join(format!(".{name}.sources"));
    let is_built = target.join(format!("{name}.wasm")).is_file();
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
