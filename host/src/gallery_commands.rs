//! `rostro gallery`: looks after the gallery of a service that is stopped.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::gallery::{CsvGallery, GalleryError};
use crate::printed::say;

/// Which gallery, and what to do with it.
#[derive(Debug, Args)]
pub(crate) struct GalleryArgs {
    /// Folder of the gallery
    #[arg(long, global = true, env = "ROSTRO_GALLERY", value_name = "DIR", default_value = "embeddings_csvs")]
    gallery: PathBuf,
    #[command(subcommand)]
    command: GalleryCommand,
}

/// What can be done with a gallery.
#[derive(Debug, Subcommand)]
enum GalleryCommand {
    /// Match people again by samples of unknown age in `.contracts`
    ///
    /// A program before enrolment ids kept a person's samples of an earlier recogniser when the person was enrolled with another one. They
    /// may be of somebody else who had the id then, so they are not matched until the person is enrolled again. If no id was ever given to
    /// another person, this command puts them in force. Stop the service first.
    TrustContracts,
}

/// Why a gallery is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum GalleryCommandError {
    /// The folder does not exist.
    #[error("cannot find the gallery {0}: no such folder; name it with --gallery")]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
}

/// Does what was asked for.
///
/// # Errors
///
/// [`GalleryCommandError`], whose message says what to do.
pub(crate) fn run(args: &GalleryArgs) -> Result<(), GalleryCommandError> {
    match args.command {
        GalleryCommand::TrustContracts => trust_contracts(&args.gallery),
    }
}

fn trust_contracts(folder: &Path) -> Result<(), GalleryCommandError> {
    // Opening it would make it.
    if !folder.is_dir() {
        return Err(GalleryCommandError::Missing(folder.to_owned()));
    }
    let files = CsvGallery::open(folder)?.trust_contracts()?;
    say(&format!("{files} files of unknown age in {} are matched from the next start on", folder.display()));
    Ok(())
}
