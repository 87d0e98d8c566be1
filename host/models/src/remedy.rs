//! Remedies for a missing or damaged pack: a command that works for it, and other packs.

use std::fs;
use std::path::Path;

use super::manifest::{MANIFEST, Manifest, installed_names};

/// Built-in pack, which needs no installation.
const BUILT_IN: &str = "testing";

/// Returns the instruction to install a pack into a folder, or to replace it there.
pub(super) fn install_command(name: &str, models: &Path, replace: bool) -> String {
    let force = if replace { " --force" } else { "" };
    let command = |from: &str| {
        format!(
            "`rostro models install {name}{force}{from} --models {}`",
            models.display()
        )
    };
    match find_manifest(name, models) {
        Some(pack) if pack.archive.is_some() || name == BUILT_IN => format!("run {}", command("")),
        Some(pack) => {
            let files: Vec<&str> = pack
                .models
                .values()
                .map(|model| model.file.as_str())
                .collect();
            format!(
                "it cannot be downloaded: put {} into a folder and run {}",
                files.join(" and "),
                command(" --from FOLDER")
            )
        }
        None => format!(
            "run {} with the path of its manifest instead of its name",
            command(" --from FOLDER")
        ),
    }
}

/// Returns the manifest of a built-in or installed pack.
fn find_manifest(name: &str, models: &Path) -> Option<Manifest> {
    let built_in = Manifest::built_in()
        .map(|(manifest, _)| manifest)
        .find(|manifest| manifest.name == name);
    built_in.or_else(|| {
        Manifest::parse(&fs::read_to_string(models.join(name).join(MANIFEST)).ok()?).ok()
    })
}

/// Lists the packs to choose instead: installed, downloadable, and built in.
pub(super) fn other_packs(models: &Path) -> String {
    let installed = match installed_names(models) {
        names if names.is_empty() => "none is installed there".to_owned(),
        names => format!("installed there: {}", names.join(", ")),
    };
    format!(
        "{installed}; to be downloaded: {}; built in: {BUILT_IN}, which knows drawn faces only",
        downloadable().join(", ")
    )
}

/// Returns the names of the packs that can be downloaded.
pub(super) fn downloadable() -> Vec<String> {
    let packs = Manifest::built_in().map(|(manifest, _)| manifest);
    packs
        .filter(|pack| pack.archive.is_some())
        .map(|pack| pack.name)
        .collect()
}
