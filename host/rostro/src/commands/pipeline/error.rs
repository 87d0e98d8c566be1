//! Errors of the commands on pipelines.

use std::path::PathBuf;

use rostro_sandbox::error::RunError;
use rostro_service::people::PeopleError;

use super::check::CheckError;
use super::draw::DrawError;
use super::local::LocalError;
use super::new::NewError;
use super::operate::OperateError;
use super::photos::PhotosError;

/// Error of a command on pipelines.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PipelineError {
    /// A component is unusable.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// No project was created.
    #[error(transparent)]
    New(#[from] NewError),
    /// A trial could not start, or failed.
    #[error(transparent)]
    Try(#[from] TrialError),
    /// The service cannot be reached, or refuses.
    #[error(transparent)]
    Operate(#[from] OperateError),
}

/// Error of a trial.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    /// The pipeline cannot run.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The people cannot be prepared.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// The gallery does not exist.
    #[error(
        "there is no gallery at {0}; enrol people with `rostro serve --gallery` first, or leave --gallery out"
    )]
    NoGallery(PathBuf),
    /// No photos can be read.
    #[error(transparent)]
    Images(#[from] PhotosError),
    /// A drawing cannot be made.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// The pipeline failed on a picture.
    #[error("{file} failed on {picture}: {cause}", file = file.display())]
    Run {
        /// The component.
        file: PathBuf,
        /// The picture.
        picture: String,
        /// The cause.
        cause: RunError,
    },
    /// The other component cannot be read.
    #[error("cannot read {file} for the comparison: {cause}; name another component with --against", file = file.display())]
    UnreadableBaseline {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// Two pipelines differ.
    #[error("the pipelines differ on {differing} of {photos} photos")]
    Differ {
        /// Number of photos with differences.
        differing: usize,
        /// Number of all photos.
        photos: usize,
    },
    /// Some photos could not be analysed, or drawn on.
    #[error("{failed} of {photos} photos failed; the table says why")]
    Failed {
        /// Number of failed photos.
        failed: usize,
        /// Number of all photos.
        photos: usize,
    },
}
