//! Copy of all revisions from one store to another, for a move between a folder and a database.

use std::io;

use rostro_common::digest::Sha256Digest;
use rostro_gallery::Store;

use super::super::state_folder::{StateError, StateFolder};

/// Result of a copy.
#[derive(Debug, Default)]
pub struct RevisionCopy {
    /// Number of revisions.
    pub revisions: usize,
    /// Revisions that cannot serve and lack a component.
    pub incomplete: Vec<Sha256Digest>,
}

/// Why the revisions are not copied. The record of the target is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum RevisionCopyError {
    /// The source cannot be read, or the target cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The record of the target cannot be read.
    #[error("cannot read the revisions of the target: {0}")]
    Target(io::Error),
    /// The target has revisions.
    #[error(
        "the target has revisions; copy into an empty one, or allow their replacement with --replace"
    )]
    NotEmpty,
    /// A component cannot be read.
    #[error(
        "cannot read the component {digest} of revision {}: {cause}; retire the revision or push it again",
        revision.short()
    )]
    Component {
        /// The component.
        digest: Sha256Digest,
        /// The revision.
        revision: Sha256Digest,
        /// Cause.
        cause: io::Error,
    },
}

/// Copies the record of revisions and the components that it needs. Those of a folder are in `state`,
/// on either side. A source without a record changes nothing; without `replace` the target must have
/// none. The record is written last, as a whole.
///
/// # Errors
///
/// [`RevisionCopyError`].
pub fn copy_revisions(
    state: &StateFolder,
    from: &dyn Store,
    to: &dyn Store,
    replace: bool,
) -> Result<RevisionCopy, RevisionCopyError> {
    let record = state.read(from)?;
    let mut copy = RevisionCopy::default();
    if record.revisions.is_empty() {
        return Ok(copy);
    }
    let former = to.read_revisions().map_err(RevisionCopyError::Target)?;
    if former.is_some() && !replace {
        return Err(RevisionCopyError::NotEmpty);
    }
    for entry in &record.revisions {
        if entry.status.needs_components() {
            for digest in entry.spec.components() {
                match state.component_of(from, digest) {
                    Ok(bytes) => drop(state.keep_in(to, &bytes)?),
                    Err(cause) if entry.status.is_wanted() => {
                        return Err(RevisionCopyError::Component {
                            digest,
                            revision: entry.id,
                            cause,
                        });
                    }
                    Err(_) => copy.incomplete.push(entry.id),
                }
            }
        }
    }
    copy.revisions = record.revisions.len();
    state.write(to, &record)?;
    Ok(copy)
}
