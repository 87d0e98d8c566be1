//! The error of a request to the service.

use rostro_common::digest::Sha256Digest;
use rostro_gallery::PendingChange;
use rostro_sandbox::error::RunError;
use rostro_sandbox::pipeline::revision::InvalidChoice;

use crate::executor::ExecutorError;
use crate::people::PeopleError;

/// Reason why the service could not answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No worker was free, or the deadline passed.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The pipeline failed, or refused the image.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The request chooses a value of a setting that the pipeline does not offer.
    #[error(transparent)]
    Choice(#[from] InvalidChoice),
    /// The person does not exist.
    #[error("no person is stored under this id")]
    UnknownPerson,
    /// This node has no valid lease, so that its answer may be outdated.
    #[error("this node has no lease of the database, so that what it knows may be outdated")]
    NoLease,
    /// The change was made, and another node may not have applied it.
    #[error(transparent)]
    Pending(#[from] PendingChange),
    /// The people could not be read or written.
    #[error(transparent)]
    People(#[from] PeopleError),
}

/// Failure of a request that a revision was chosen for.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct RevisionError {
    /// The revision.
    pub revision: Sha256Digest,
    /// The reason.
    pub cause: ServiceError,
}

impl From<rostro_index::IndexError> for ServiceError {
    fn from(error: rostro_index::IndexError) -> Self {
        Self::People(error.into())
    }
}
