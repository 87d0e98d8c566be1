//! Analysis of images of which nothing is stored: the faces of one image, or a comparison of two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use rostro_common::cancel::CancelScope;
use rostro_common::vector::cosine;
use rostro_sandbox::bindings::Purpose;
use rostro_sandbox::error::RunError;
use rostro_sandbox::guest::report::Warning;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::run::Run;
use rostro_sandbox::types::{Analysis, AnalyzedFace};

use crate::deployment::{Outcome, ReadyRevision};
use crate::executor::{ReplySender, RequestContext};
use crate::{RevisionError, Service, ServiceError};

/// Analyses of `N` images.
#[derive(Debug)]
pub struct Analyses<const N: usize> {
    /// The revision that answered.
    pub revision: Arc<Revision>,
    /// One analysis for each image, in their order.
    pub analyses: [Analysis; N],
    /// The guest's warnings.
    pub warnings: Vec<Warning>,
    /// Time by stage, in the order of work.
    pub stages: Vec<(String, Duration)>,
}

/// Similarities of the faces of two images.
#[derive(Debug)]
pub struct Comparison {
    /// Cosine similarity of each face of the first image (rows) and each of the second (columns).
    pub similarities: Vec<Vec<f32>>,
    /// The most similar pair. None if either image has no face.
    pub best: Option<FacePair>,
    /// Similarity above which two faces count as one person.
    pub threshold: f32,
    /// The images, and the revision that analysed them.
    pub analyses: Analyses<2>,
}

/// A face of the first image and a face of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FacePair {
    /// Index of the face in the first image.
    pub a: usize,
    /// Index of the face in the second image.
    pub b: usize,
    /// Cosine similarity of the two faces.
    pub similarity: f32,
}

impl Service {
    /// Compares every face of two encoded images.
    ///
    /// # Errors
    ///
    /// [`RevisionError`].
    pub async fn compare(
        self: &Arc<Self>,
        images: [Bytes; 2],
        context: &RequestContext,
    ) -> Result<Comparison, RevisionError> {
        let analyses = self.analyze(images, Purpose::Recognize, context).await?;
        Ok(Comparison::of(analyses))
    }

    /// Finds the faces in encoded images.
    ///
    /// # Errors
    ///
    /// [`RevisionError`].
    pub async fn analyze<const N: usize>(
        self: &Arc<Self>,
        images: [Bytes; N],
        purpose: Purpose,
        context: &RequestContext,
    ) -> Result<Analyses<N>, RevisionError> {
        let active = self.deployment.active();
        let revision = active.id();
        self.analyze_on(active, images, purpose, context)
            .await
            .map_err(|cause| RevisionError { revision, cause })
    }

    async fn analyze_on<const N: usize>(
        self: &Arc<Self>,
        ready: Arc<ReadyRevision>,
        images: [Bytes; N],
        purpose: Purpose,
        context: &RequestContext,
    ) -> Result<Analyses<N>, ServiceError> {
        let arrived = Instant::now();
        let work = {
            let (service, context) = (Arc::clone(self), context.clone());
            move |scope: CancelScope, reply: ReplySender<Analyses<N>, ServiceError>| {
                let begun = Instant::now();
                let mut run = ready.revision.begin(scope);
                let result = analyze_now(&mut run, &images, purpose).map(|analyses| Analyses {
                    revision: Arc::clone(&ready.revision),
                    analyses,
                    warnings: run.take_warnings(),
                    stages: stages(&run, arrived, begun),
                });
                let result = result.map_err(ServiceError::from);
                let outcome =
                    Outcome::of(&result, context.deadline.saturating_duration_since(begun));
                service.record_outcome(&ready, &context.client, &outcome);
                reply.send(result);
                // The run's instances are cleared here, after the answer.
            }
        };
        self.executor.run(context, work).await
    }
}

fn analyze_now<const N: usize>(
    run: &mut Run,
    images: &[Bytes; N],
    purpose: Purpose,
) -> Result<[Analysis; N], RunError> {
    let analyses = images
        .iter()
        .map(|image| run.analyze(image, purpose))
        .collect::<Result<Vec<Analysis>, RunError>>()?;
    let Ok(analyses) = analyses.try_into() else {
        unreachable!("there is one analysis for each of the {N} images");
    };
    Ok(analyses)
}

fn stages(run: &Run, arrived: Instant, begun: Instant) -> Vec<(String, Duration)> {
    let mut stages = vec![("queue".to_owned(), begun - arrived)];
    stages.extend_from_slice(run.stages());
    stages.push(("total".to_owned(), arrived.elapsed()));
    stages
}

impl Comparison {
    fn of(analyses: Analyses<2>) -> Self {
        let [a, b] = &analyses.analyses;
        let similarities = similarities(&a.faces, &b.faces);
        Self {
            best: most_similar(&similarities),
            similarities,
            threshold: analyses.revision.thresholds().similarity,
            analyses,
        }
    }
}

fn similarities(a: &[AnalyzedFace], b: &[AnalyzedFace]) -> Vec<Vec<f32>> {
    let row = |face: &AnalyzedFace| {
        b.iter()
            .map(|other| cosine(&face.embedding, &other.embedding))
            .collect()
    };
    a.iter().map(row).collect()
}

/// Returns the first of the most similar pairs.
fn most_similar(similarities: &[Vec<f32>]) -> Option<FacePair> {
    let pairs = similarities.iter().enumerate().flat_map(|(a, row)| {
        row.iter()
            .enumerate()
            .map(move |(b, &similarity)| FacePair { a, b, similarity })
    });
    pairs.reduce(|best, pair| {
        if pair.similarity > best.similarity {
            pair
        } else {
            best
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_pair_is_first_of_equals() {
        let best =
            |similarities: &[Vec<f32>]| most_similar(similarities).map(|pair| (pair.a, pair.b));
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[vec![], vec![]]), None);
        assert_eq!(best(&[vec![0.1, 0.5], vec![0.5, -1.0]]), Some((0, 1)));
        assert_eq!(best(&[vec![-0.5], vec![-0.25]]), Some((1, 0)));
    }
}
