//! Generates `docs/wit.md` from `wit/`: `cargo xtask docs`, and `--check` in `cargo xtask check`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

/// Text above the generated part.
const HEAD: &str = "\
<!-- Made from wit/ by `cargo xtask docs`: change it there. -->

What a pipeline is to the host that runs it, as `wit/0.2/rostro.wit` says; components for `wit/0.1` keep running. [plugins.md](plugins.md) \
shows how to write one, [sandbox.md](sandbox.md) what bounds it.

";

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = root.join("docs/wit.md");
    let generated = generate(&root.join("wit/0.2"))?;
    if std::env::args().any(|arg| arg == "--check") {
        let written = std::fs::read_to_string(page).unwrap_or_default();
        let remedy = "run `cargo xtask docs` and commit it";
        ensure!(written == generated, "docs/wit.md is out of date; {remedy}");
        return Ok(());
    }
    Ok(std::fs::write(page, generated)?)
}

fn generate(wit: &Path) -> Result<String> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit)?;
    let world = resolve.select_world(&[package], Some("pipeline"))?;
    let mut files = Files::default();
    wit_bindgen_markdown::Opts::default()
        .build()
        .generate(&mut resolve, world, &mut files)?;
    let mut pages = files.iter().filter(|(name, _)| name.ends_with(".md"));
    let (_, text) = pages.next().context("no page was generated")?;
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    Ok(format!("{HEAD}{}\n", lines.join("\n").trim_end()))
}
