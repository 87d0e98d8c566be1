//! `rostro models`: lists, installs and verifies model packs.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use rostro_models::install::{InstallError, InstallOutcome, InstallRequest, install};
use rostro_models::manifest::{MANIFEST, Manifest};
use rostro_models::pack::Pack;
use rostro_models::quantize::{self, QuantizeError, QuantizeOutcome, QuantizeRequest};

use crate::commands::client;
use crate::terminal::say;

/// Subcommand of `rostro models`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List known and installed packs
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Install a pack, by download or from files
    Install {
        /// Name of a pack, or path of your own manifest
        pack: String,
        /// Folder or zip archive with the files, instead of a download
        #[arg(long, value_name = "DIR|ZIP")]
        from: Option<PathBuf>,
        /// Accept the pack's terms of use
        #[arg(long)]
        accept_license: bool,
        /// Replace an installed pack
        #[arg(long)]
        force: bool,
    },
    /// Make an installed pack's 8-bit variant, which frames use where it is faster
    ///
    /// Needs Python 3.11 or later. The packages of ONNX Runtime's tools are
    /// installed into `.quantize` in the folder of packs.
    Quantize {
        /// Name of the pack
        pack: String,
        /// Folder with photos of faces; some hundred, as the cameras take them
        #[arg(long, value_name = "DIR")]
        photos: PathBuf,
        /// Python interpreter that has the packages already
        #[arg(long, value_name = "FILE")]
        python: Option<PathBuf>,
        /// Replace an existing variant
        #[arg(long)]
        force: bool,
    },
    /// Check the files of installed packs
    Verify {
        /// Names of packs [default: all installed ones]
        packs: Vec<String>,
    },
}

/// Error of a command on packs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelsError {
    /// A pack was not installed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// A variant was not made.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// Some packs cannot be used; their lines give the causes.
    #[error("{0} of the packs cannot be used")]
    Damaged(usize),
}

/// Runs a command in the folder `models`.
///
/// # Errors
///
/// [`ModelsError`] with a remedy in its message.
pub(crate) fn run(command: ModelsCommand, models: &Path) -> Result<(), ModelsError> {
    match command {
        ModelsCommand::List { json } => list(models, json),
        ModelsCommand::Install {
            pack,
            from,
            accept_license,
            force,
        } => {
            let request = InstallRequest {
                pack: &pack,
                from: from.as_deref(),
                accept_license,
                force,
                trust: |url| Ok(client::tls(None, url)?),
            };
            match install(&request, models)? {
                InstallOutcome::Already(path) => {
                    say(&format!("{} is installed and whole", path.display()))
                }
                InstallOutcome::Now(path) => say(&format!("installed {}", path.display())),
            }
        }
        ModelsCommand::Quantize {
            pack,
            photos,
            python,
            force,
        } => {
            let request = QuantizeRequest {
                models,
                pack: &pack,
                photos: &photos,
                python: python.as_deref(),
                force,
            };
            match quantize::quantize(&request)? {
                QuantizeOutcome::Already => say(&format!(
                    "{pack} has a whole variant; --force makes it again"
                )),
                QuantizeOutcome::Made(path) => say(&format!("made {}", path.display())),
            }
        }
        ModelsCommand::Verify { packs } => return verify(models, packs),
    }
    Ok(())
}

/// Returns the state of a pack in a word or two.
fn state(models: &Path, name: &str) -> &'static str {
    if !models.join(name).join(MANIFEST).exists() {
        return if name == "testing" {
            "built in"
        } else {
            "not installed"
        };
    }
    if Pack::open(models, name).is_ok() {
        "installed"
    } else {
        "damaged"
    }
}

fn list(models: &Path, json: bool) {
    let mut all: Vec<_> = Manifest::built_in()
        .map(|(manifest, _)| (manifest.name.clone(), Some(manifest)))
        .collect();
    for name in Pack::installed(models) {
        if all.iter().all(|(known, _)| *known != name) {
            let manifest = fs::read_to_string(models.join(&name).join(MANIFEST))
                .ok()
                .and_then(|text| Manifest::parse(&text).ok());
            all.push((name, manifest));
        }
    }
    if json {
        // The fields of an unreadable manifest are null.
        let row = |(name, manifest): &(String, Option<Manifest>)| {
            let files = manifest.as_ref().map(|pack| {
                pack.models
                    .values()
                    .map(|model| model.file.as_str())
                    .collect::<Vec<_>>()
            });
            let description = manifest.as_ref().map(|pack| &pack.description);
            let license = manifest.as_ref().map(|pack| &pack.license);
            let is_downloadable = manifest.as_ref().is_some_and(|pack| pack.archive.is_some());
            json!({ "name": name, "state": state(models, name), "description": description, "license": license, "files": files, "downloadable": is_downloadable })
        };
        say(&format!(
            "{:#}",
            serde_json::Value::from_iter(all.iter().map(row))
        ));
        return;
    }
    for (name, manifest) in all {
        let (description, license) =
            manifest.map_or_else(Default::default, |pack| (pack.description, pack.license));
        say(&format!(
            "{name:<12} {:<14} {description}\n{:27} {license}",
            state(models, &name),
            ""
        ));
    }
}

fn verify(models: &Path, packs: Vec<String>) -> Result<(), ModelsError> {
    let packs = if packs.is_empty() {
        Pack::installed(models)
    } else {
        packs
    };
    if packs.is_empty() {
        say(&format!("no pack is installed in {}", models.display()));
    }
    let mut damaged = 0;
    for name in packs {
        match Pack::open(models, &name) {
            Ok(pack) => match pack.read_variant(quantize::ROLE) {
                Ok(None) => say(&format!("{name}: whole")),
                Ok(Some(_)) => say(&format!("{name}: whole, with an 8-bit variant")),
                Err(error) => {
                    damaged += 1;
                    say(&format!("{name}: {error}"));
                }
            },
            Err(error) => {
                damaged += 1;
                say(&format!("{name}: {error}"));
            }
        }
    }
    if damaged > 0 {
        Err(ModelsError::Damaged(damaged))
    } else {
        Ok(())
    }
}
