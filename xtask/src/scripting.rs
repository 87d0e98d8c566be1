//! Components in JavaScript and Python: the example policy, and the tools that such projects need.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::steps::{command, debian_packages, done_before, on_path, root, step, succeed};
use crate::{guest, python};

/// Folder of the example policy.
const EXAMPLE: &str = "guest/examples/attendance-policy";

const JS_SOURCES: [&str; 4] = ["attendance.js", "review.js", "told.js", "package.json"];

const PYTHON_SOURCES: [&str; 4] = ["app.py", "review.py", "told.py", "requirements.txt"];

/// Builds the example policy in both languages, unless its sources are unchanged.
pub(crate) fn build() -> Result<()> {
    let (wit, example) = (root().join("wit"), root().join(EXAMPLE));
    component(
        "attendance-policy-js",
        &example.join("js"),
        &JS_SOURCES,
        |file| {
            let work = root().join("target/js");
            fs::create_dir_all(&work)?;
            for name in JS_SOURCES {
                fs::copy(example.join("js").join(name), work.join(name))?;
            }
            npm_install(&work)?;
            let mut build = command(work.join("node_modules/.bin/componentize-js"));
            build
                .args(["attendance.js", "--world-name", "policy-only", "--wit"])
                .arg(&wit);
            build.args(
                ["stdio", "http", "fetch-event"]
                    .iter()
                    .flat_map(|name| ["--disable", name]),
            );
            succeed(build.arg("--out").arg(file).current_dir(&work))
        },
    )?;
    let programs = python::componentize()?;
    component(
        "attendance-policy-python",
        &example.join("python"),
        &PYTHON_SOURCES,
        |file| {
            let mut build = command(programs.join("componentize-py"));
            build
                .arg("--wit-path")
                .arg(&wit)
                .args(["--world", "policy-only", "componentize"]);
            build
                .args(["--stub-wasi", "app", "-o"])
                .arg(file)
                .env("PYTHONDONTWRITEBYTECODE", "1");
            succeed(build.current_dir(example.join("python")))
        },
    )
}

/// Installs npm if it is missing, and the packages of a project. A stamp file marks a complete
/// installation, because npm treats an interrupted one as complete.
fn npm_install(folder: &Path) -> Result<()> {
    if !on_path("npm") {
        debian_packages(&["nodejs", "npm"])?;
    }
    let modules = folder.join("node_modules");
    let stamp = modules.join(".installed");
    let wanted = fs::read_to_string(folder.join("package.json"))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if modules.exists() {
        fs::remove_dir_all(&modules)?;
    }
    succeed(
        command("npm")
            .args(["install", "--no-audit", "--no-fund"])
            .current_dir(folder),
    )?;
    Ok(fs::write(stamp, wanted)?)
}

/// Builds `target/guest/NAME.wasm`, unless it was built from the same sources.
fn component(
    name: &str,
    folder: &Path,
    sources: &[&str],
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let target = root().join("target/guest");
    let (file, stamp) = (
        target.join(format!("{name}.wasm")),
        target.join(format!(".{name}.sources")),
    );
    let own = sources.iter().map(|source| folder.join(source));
    let read = |source: PathBuf| {
        fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))
    };
    let sources: Vec<String> = own
        .chain([root().join("wit/rostro.wit")])
        .map(read)
        .collect::<Result<_>>()?;
    let (what, sources) = (format!("component {name}"), sources.concat());
    if file.is_file() && fs::read_to_string(&stamp).is_ok_and(|built| built == sources) {
        done_before(&what);
        return Ok(());
    }
    step(&what, || {
        let built = root().join("target").join(format!("{name}.wasm"));
        build(&built)?;
        guest::install(&built, name)?;
        Ok(fs::write(stamp, sources)?)
    })
}
