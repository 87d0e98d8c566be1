//! `rostro gallery`: looks after the files of a gallery.

pub(crate) mod check;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};

use rostro_common::text::say;
use rostro_gallery::{CsvGallery, GalleryError};

use crate::commands::gallery::check::CheckArgs;

/// Which gallery, and what to do with it.
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

/// What can be done with a gallery.
#[derive(Debug, Subcommand)]
enum GalleryCommand {
    /// List files that are damaged, left alone or set aside, with a remedy for each
    Check(CheckArgs),
    /// Match people again by samples of unknown age in `.contracts`
    ///
    /// A program before enrolment ids kept a person's samples of an earlier recogniser when the
    /// person was enrolled with another one. They may be of somebody else who had the id then, so
    /// they are not matched until the person is enrolled again. If no id was ever given to another
    /// person, this command puts them in force. Stop the service first.
    TrustContracts,
}

/// Why a gallery is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GalleryCommandError {
    /// The folder does not exist.
    #[error("cannot find the gallery {0}: no such folder; name it with --gallery")]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// A file cannot be restored.
    #[error("cannot restore {path}: {cause}; mend what keeps it from being moved, and restore again", path = path.display())]
    Restore {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Does what was asked for.
///
/// # Errors
///
/// [`GalleryCommandError`], whose message says what to do.
pub(crate) fn run(args: &GalleryArgs) -> Result<(), GalleryCommandError> {
    let folder = &args.gallery;
    // Opening it would make it.
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
