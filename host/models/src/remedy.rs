//! What to do about a pack that is missing or damaged: a command that works for that pack, and
//! other packs to choose.

use std::fs;
use std::path::Path;

use super::manifest::Manifest;
use super::pack::{MANIFEST, Pack};

/// The built-in pack, which needs no installation.
const BUILT_IN: &str = "testing";

/// The way to install a pack into a folder, or to replace it there.
pub(super) fn install(name: &str, models: &Path, replace: bool) -> String {
    let force = if replace { " --force" } else { "" };
    let command = |from: &str| {
        format!(
            "`rostro models install {name}{force}{from} --models {}`",
            models.display()
        )
    };
    match known(name, models) {
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

/// The manifest of a pack that comes with the program or is installed.
fn known(name: &str, models: &Path) -> Option<Manifest> {
    let built_in = Manifest::built_in()
        .map(|(manifest, _)| manifest)
        .find(|manifest| manifest.name == name);
    built_in.or_else(|| {
        Manifest::parse(&fs::read_to_string(models.join(name).join(MANIFEST)).ok()?).ok()
    })
}

/// The packs to choose instead: installed, to be downloaded, and built in.
pub(super) fn others(models: &Path) -> String {
    let installed = match Pack::installed(models) {
        names if names.is_empty() => "none is installed there".to_owned(),
        names => format!("installed there: {}", names.join(", ")),
    };
    format!(
        "{installed}; to be downloaded: {}; built in: {BUILT_IN}, which knows drawn faces only",
        downloadable().join(", ")
    )
}

/// The packs that can be downloaded.
pub(super) fn downloadable() -> Vec<String> {
    let packs = Manifest::built_in().map(|(manifest, _)| manifest);
    packs
        .filter(|pack| pack.archive.is_some())
        .map(|pack| pack.name)
        .collect()
}
