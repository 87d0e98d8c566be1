//! Errors of the commands on pipelines.

use std::path::PathBuf;

use rostro_sandbox::pipeline::run::RunError;
use rostro_service::people::PeopleError;

use super::check::CheckError;
use super::draw::DrawError;
use super::local::LocalError;
use super::new::NewError;
use super::operate::OperateError;
use super::photos::ImagesError;

/// Why a command on pipelines failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PipelineError {
    /// A component is not usable.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// There is no project.
    #[error(transparent)]
    New(#[from] NewError),
    /// A pipeline was not tried, or failed.
    #[error(transparent)]
    Try(#[from] TrialError),
    /// The service cannot be asked, or refuses.
    #[error(transparent)]
    Operate(#[from] OperateError),
}

/// Why a pipeline was not tried, or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    /// The pipeline cannot run.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The people cannot be prepared.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// There is no such folder.
    #[error(
        "there is no gallery at {0}; enrol people with `rostro serve --gallery` first, or leave --gallery out"
    )]
    NoGallery(PathBuf),
    /// There are no photos.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// A drawing cannot be made.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// It failed on a picture.
    #[error("{file} fails on {picture}: {cause}", file = file.display())]
    Run {
        /// Which component.
        file: PathBuf,
        /// On which picture.
        picture: String,
        /// Why.
        cause: RunError,
    },
    /// What to compare it with is not there.
    #[error("cannot read {file}, with which it is to be compared: {cause}; name another component with --against", file = file.display())]
    NothingToCompare {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Two pipelines differ.
    #[error("the pipelines differ on {differing} of {photos} photos")]
    Differ {
        /// On how many.
        differing: usize,
        /// Of how many.
        photos: usize,
    },
    /// Some photos could not be looked at, or drawn on.
    #[error("{failed} of {photos} photos failed; the table says why")]
    Failed {
        /// How many.
        failed: usize,
        /// Of how many.
        photos: usize,
    },
}
