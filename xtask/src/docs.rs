//! `docs/wit.md`, which is made of `wit/`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

use crate::steps::root;

/// What stands above what is generated.
const HEAD: &str = "<!-- Made from wit/ by `cargo xtask docs`: change it there. -->\n\nWhat a pipeline is to the host that runs it, as `wit/rostro.wit` \
                    says. [plugins.md](plugins.md) shows how to write one, [sandbox.md](sandbox.md) what bounds it.\n\n";

/// Writes the page.
pub(crate) fn write() -> Result<()> {
    Ok(fs::write(page(), generated()?)?)
}

/// Fails unless the page is what the interface says.
pub(crate) fn check() -> Result<()> {
    let written = fs::read_to_string(page()).unwrap_or_default();
    ensure!(
        written == generated()?,
        "docs/wit.md is not what wit/ says; run `cargo xtask docs` and commit it"
    );
    Ok(())
}

fn page() -> PathBuf {
    root().join("docs/wit.md")
}

fn generated() -> Result<String> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root().join("wit"))?;
    let world = resolve.select_world(&[package], Some("pipeline"))?;
    let mut files = Files::default();
    wit_bindgen_markdown::Opts::default()
        .build()
        .generate(&mut resolve, world, &mut files)?;
    let (_, text) = files
        .iter()
        .find(|(name, _)| name.ends_with(".md"))
        .context("no page was made")?;
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    Ok(format!("{HEAD}{}\n", lines.join("\n").trim_end()))
}
