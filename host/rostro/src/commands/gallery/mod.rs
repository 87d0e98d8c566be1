//! `rostro gallery`: checks and repairs the files of a gallery.

pub(crate) mod check;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};

use rostro_gallery::{CsvGallery, GalleryError};

use crate::commands::gallery::check::CheckArgs;
use crate::terminal::say;

/// Arguments of `rostro gallery`.
#[derive(Debug, Args)]
pub(crate) struct GalleryArgs {
    /// Folder of the gallery
    #[arg(
        long,
        global = true,
        env = "ROSTRO_GALLERY",
        value_name = "DIR",
        default_value = "embeddings_csvs"
    )]
    gallery: PathBuf,
    #[command(subcommand)]
    command: GalleryCommand,
}

/// Subcommand of `rostro gallery`.
#[derive(Debug, Subcommand)]
enum GalleryCommand {
    /// List files that are damaged, left alone or quarantined, with remedies
    Check(CheckArgs),
    /// Match people again by samples of unknown age in `.contracts`
    ///
    /// Versions without enrolment ids kept samples of an earlier recogniser when a person was
    /// re-enrolled with another one. The samples may show another person who had the id then, so
    /// they are not matched until the person is enrolled again. If no id was ever given to another
    /// person, this command puts them in force. Stop the service first.
    TrustContracts,
}

/// Error of a command on a gallery.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GalleryCommandError {
    /// The folder does not exist.
    #[error("cannot find the gallery {0}: no such folder; name it with --gallery")]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// A file cannot be restored.
    #[error("cannot restore {path}: {cause}; remove the cause, and restore again", path = path.display())]
    Restore {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

/// Runs a command.
///
/// # Errors
///
/// [`GalleryCommandError`] with a remedy in its message.
pub(crate) fn run(args: &GalleryArgs) -> Result<(), GalleryCommandError> {
    let folder = &args.gallery;
    // Opening a gallery would create the folder.
    if !folder.is_dir() {
        return Err(GalleryCommandError::Missing(folder.clone()));
    }
    match &args.command {
        GalleryCommand::Check(args) => check::run(args, folder),
        GalleryCommand::TrustContracts => trust_contracts(folder),
    }
}

fn trust_contracts(folder: &Path) -> Result<(), GalleryCommandError> {
    let files = CsvGallery::open_locked(folder, &Instant::now().into())?.trust_contracts()?;
    say(&format!(
        "{files} files of unknown age in {} are matched from the next start on",
        folder.display()
    ));
    Ok(())
}
