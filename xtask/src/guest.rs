//! `cargo xtask guest`: builds components.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::scripting;
use crate::steps::{cargo, command, debian_packages, output, root, step, succeed, succeeds};

/// Components of this workspace. The package of each is `rostro-NAME`.
const COMPONENTS: &str =
    "insightface attendance-policy region-of-interest minimal liveness evil variant";

/// Builds every component that is not up to date.
pub(crate) fn build() -> Result<()> {
    let mut names = COMPONENTS.split(' ');
    names.try_for_each(component)
}

/// Builds every component, including those that only tests need.
pub(crate) fn build_all() -> Result<()> {
    build()?;
    scripting::build()?;
    for version in fs::read_dir(root().join("tests/compat"))? {
        compat(&version?.path())?;
    }
    Ok(())
}

/// Builds the package of a component into `target/guest`.
pub(crate) fn component(name: &str) -> Result<()> {
    step(&format!("component {name}"), || {
        // A separate folder, because the flags differ from the host's: in a shared one, cargo would
        // rebuild everything at each change between the two.
        let work = root().join("target/guest-build");
        // Only this build asks for a cdylib, because native linkers reject its exported names.
        let args = format!("--package rostro-{name} --lib --crate-type cdylib --profile guest");
        let mut build = wasm_cargo("rustc")?;
        succeed(build.args(args.split(' ')).env("CARGO_TARGET_DIR", &work))?;
        let file = format!("rostro_{}.wasm", name.replace('-', "_"));
        install(&work.join("wasm32-wasip2/guest").join(file), name)
    })
}

/// Builds a component for an earlier version of the interface from its frozen source.
fn compat(folder: &Path) -> Result<()> {
    let version = folder.file_name().context("a folder")?.display();
    let file = format!("rostro_compat_{version}").replace('.', "_") + ".wasm";
    project(folder)?;
    let folder = root().join("target/projects/wasm32-wasip2/release");
    install(&folder.join(file), &format!("compat-{version}"))
}

/// Builds a Rust project outside this workspace as its author would, into `target/projects`.
pub(crate) fn project(folder: &Path) -> Result<()> {
    step(&format!("component of {}", folder.display()), || {
        let mut build = wasm_cargo("build")?;
        // One folder for all, so that they share the built dependencies.
        let target = root().join("target/projects");
        build.arg("--release").env("CARGO_TARGET_DIR", target);
        succeed(build.current_dir(folder))
    })
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

/// Returns a command of a cargo that builds for WebAssembly with SIMD. Debian's compiler is used if
/// rustup cannot install the target.
fn wasm_cargo(subcommand: &str) -> Result<Command> {
    const TARGET: &str = "wasm32-wasip2";
    let sysroot = PathBuf::from(output(&mut command("rustc", "--print sysroot"))?);
    let has_target = || sysroot.join("lib/rustlib").join(TARGET).is_dir();
    let rustup = || succeeds(command("rustup", "target add").arg(TARGET));
    let mut cargo = if has_target() || rustup() && has_target() {
        cargo(subcommand)
    } else if Path::new("/etc/debian_version").exists() {
        debian_packages("rustc-web cargo-web rust-web-src wasi-libc")?;
        command(root().join("tools/debian-wasm-cargo"), subcommand)
    } else {
        bail!("the target {TARGET} is missing; run: rustup target add {TARGET}");
    };
    cargo
        .env("RUSTFLAGS", "-C target-feature=+simd128")
        .args(["--target", TARGET]);
    Ok(cargo)
}
