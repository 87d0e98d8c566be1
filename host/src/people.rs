//! The people who are known: the durable gallery and the index that is searched, kept in step.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::cores::Cores;
use crate::gallery::{FileError, Gallery, GalleryError, Problem, Stored};
use crate::index::{Candidate, Index, IndexError, Method};
use crate::person::{PersonId, Sample};
use crate::revision::Revision;
use crate::run::RunError;

/// Everybody enrolled, as one revision's embeddings see them.
pub(crate) struct People {
    gallery: Box<dyn Gallery>,
    index: Index,
    /// Held while a person is written, so that the gallery and the index change in the same order.
    writing: Mutex<()>,
}

/// What was found in the gallery at the start.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// People who can be recognised.
    pub known: usize,
    /// People whose embeddings are of another contract: still stored, not matched.
    pub need_enrolment: usize,
    /// Files that were left alone, each with its cause.
    pub problems: Vec<Problem>,
}

/// Why a person cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// The gallery cannot be written or read.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The templates do not fit the index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The policy cannot make templates.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl People {
    /// Loads everybody whom `revision` can recognise, to be searched by `method` on idle `cores`.
    ///
    /// A person is matched by the samples of the revision's contract; samples without one (written by the replaced service) count as
    /// the revision's if their dimension agrees. A person of whose samples no templates can be made is a [`Problem`], like a file that
    /// cannot be read.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be read, or if the deadline passes.
    pub(crate) fn load(
        gallery: Box<dyn Gallery>,
        revision: &Arc<Revision>,
        method: Method,
        cores: Cores,
        deadline: Instant,
    ) -> Result<(Self, Report), PeopleError> {
        let loaded = gallery.load()?;
        let index = Index::new(revision.contract().dimension, method, cores);
        let mut report = Report { problems: loaded.problems, ..Report::default() };
        let mut run = revision.begin(deadline);
        for Stored { id, samples, path } in loaded.people {
            let embeddings = matched(&samples, revision);
            if embeddings.is_empty() {
                report.need_enrolment += 1;
                continue;
            }
            let templates = run.template(&embeddings).map_err(PeopleError::from);
            match templates.and_then(|templates| index.upsert(&id, &templates).map_err(PeopleError::from)) {
                Ok(()) => report.known += 1,
                // The time of the start as a whole, and no fault of this file: each after it would fail alike.
                Err(error @ PeopleError::Run(RunError::Deadline)) => return Err(error),
                Err(error) => {
                    report.problems.push(Problem { path, cause: FileError::Unusable(error.into()) });
                    // A run that failed may be of no further use.
                    run = revision.begin(deadline);
                }
            }
        }
        report.problems.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((Self { gallery, index, writing: Mutex::new(()) }, report))
    }

    /// Stores a person, in place of what was stored under that id; recognised from the return on.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be written; the person is then as before.
    pub(crate) fn replace(&self, id: &PersonId, samples: &[Sample], templates: &[Vec<f32>]) -> Result<PathBuf, PeopleError> {
        let _order = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.gallery.replace(id, samples)?;
        self.index.upsert(id, templates)?;
        Ok(path)
    }

    /// For each face the `k` people nearest to it, most similar first.
    ///
    /// # Errors
    ///
    /// If an embedding does not fit the index.
    pub(crate) fn nearest(&self, embeddings: &[Vec<f32>], k: usize) -> Result<Vec<Vec<Candidate>>, IndexError> {
        self.index.nearest(embeddings, k)
    }
}

impl std::fmt::Debug for People {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("People").finish_non_exhaustive()
    }
}

fn matched(samples: &[Sample], revision: &Revision) -> Vec<Vec<f32>> {
    let contract = revision.contract();
    samples
        .iter()
        .filter(|sample| sample.embedding.len() == contract.dimension)
        .filter(|sample| sample.contract.as_ref().is_none_or(|id| *id == contract.id))
        .map(|sample| sample.embedding.clone())
        .collect()
}
