//! What Rostro does: it recognises who is in a frame, enrols a person from photos, and says what it
//! sees.
//!
//! This is the path between vision, the people and policy. The host looks at no pixel and decides
//! nothing here.

pub mod audit;
mod contracts;
pub mod deployment;
mod duplicates;
mod enroll;
pub mod executor;
mod manage;
pub mod people;
pub mod transfer;
pub mod types;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Mutex, Semaphore};

use rostro_common::digest::Sha256Digest;
use rostro_common::ids::PersonId;
use rostro_gallery::groups::Members;
use rostro_sandbox::guest::report::Warning;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::run::{Run, RunError};
use rostro_sandbox::review::Review;

use crate::deployment::{
    Deployment, IdentifiedFace, Outcome, Preference, ReadyRevision, RoutedRevision, is_at_fault,
};
use crate::executor::{Client, Executor, ExecutorError, RequestContext};
use crate::people::{People, PeopleError, View};

pub use contracts::EnrollmentWarning;
pub use duplicates::{DuplicatesError, DuplicatesQuery};
pub use enroll::{Mode, PhotoIssue, PhotoOutcome};
pub use rostro_sandbox::bindings::{Analysis, Candidate, Decision, Face, Probe, Purpose};
pub use transfer::{ArchiveError, ArchiveFile, ArchiveFolder, ImportOptions, Imported, PeopleList};

/// People offered to the policy for each face. More than are answered, so that a policy that gives
/// each person to one face can fall back on the next.
const CANDIDATES: usize = 8;

/// How many times as long as the active revision a shadow may take, and how long at least.
const SHADOW_TIMES: u32 = 4;
const SHADOW_LEAST: Duration = Duration::from_secs(1);

/// Recognises and enrols.
#[derive(Debug)]
pub struct Service {
    deployment: Arc<Deployment>,
    people: Arc<People>,
    executor: Executor,
    /// How strictly photos are judged, at least.
    review: ArcSwap<Review>,
    /// Held while an archive is made or taken: one at a time.
    archiving: Arc<Mutex<()>>,
    archives: ArchiveFolder,
    /// Held while people are compared with each other: one comparison at a time.
    comparing: Arc<Semaphore>,
}

/// An encoded photo as it was sent.
#[derive(Debug)]
pub struct Photo {
    /// The field of the form that it was in.
    pub field: &'static str,
    /// The client's name for it.
    pub file_name: String,
    /// The bytes of an image file.
    pub content: Bytes,
}

/// What was seen in images, of which nothing is stored.
#[derive(Debug)]
pub struct Analyses {
    /// The revision that answered.
    pub revision: Arc<Revision>,
    /// One for each image, in their order.
    pub analyses: Vec<Analysis>,
    /// The guest's warnings.
    pub warnings: Vec<Warning>,
    /// Time by stage, in the order of work.
    pub stages: Vec<(String, Duration)>,
}

/// Who is in a frame.
#[derive(Debug)]
pub struct Recognition {
    /// The revision that answered.
    pub revision: Arc<Revision>,
    /// Width of the upright frame in pixels.
    pub width: u32,
    /// Height of the upright frame in pixels.
    pub height: u32,
    /// Every face, largest first.
    pub faces: Vec<RecognizedFace>,
    /// The guests' warnings.
    pub warnings: Vec<Warning>,
    /// Time by stage, in the order of work.
    pub stages: Vec<(String, Duration)>,
}

/// A face and who it is.
#[derive(Debug)]
pub struct RecognizedFace {
    /// The face in the frame.
    pub face: Face,
    /// The people most like it, best first.
    pub candidates: Vec<Candidate>,
    /// The policy's decision.
    pub decision: Decision,
}

/// Why the service could not answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No worker, or no time.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The pipeline failed, or refused the image.
    #[error(transparent)]
    Run(#[from] RunError),
    /// There is nobody under that id.
    #[error("nobody is stored under this id")]
    UnknownPerson,
    /// The people could not be read or written.
    #[error(transparent)]
    People(#[from] PeopleError),
}

impl From<rostro_index::IndexError> for ServiceError {
    fn from(error: rostro_index::IndexError) -> Self {
        Self::People(error.into())
    }
}

impl Service {
    /// A service of these parts.
    #[must_use]
    pub fn new(
        deployment: Arc<Deployment>,
        people: Arc<People>,
        executor: Executor,
        review: Review,
        archives: ArchiveFolder,
    ) -> Self {
        Self {
            deployment,
            people,
            executor,
            review: ArcSwap::from_pointee(review),
            archiving: Arc::default(),
            archives,
            comparing: Arc::new(Semaphore::new(1)),
        }
    }

    /// The people who are known.
    pub fn people(&self) -> &Arc<People> {
        &self.people
    }

    /// Has photos judged so strictly from now on, at least.
    pub fn set_review(&self, review: Review) {
        self.review.store(Arc::new(review));
    }

    /// By when a request that arrives now must be done.
    #[must_use]
    pub(crate) fn deadline(&self) -> Instant {
        self.executor.deadline()
    }

    /// How long a request that came now would wait for a worker, as far as can be told.
    pub fn expected_wait(&self) -> Duration {
        self.executor.expected_wait()
    }

    /// What a client asks for that comes now.
    #[must_use]
    pub fn context(&self, client: Client) -> RequestContext {
        RequestContext {
            client,
            deadline: self.executor.deadline(),
        }
    }

    /// Finds out who is in an encoded frame, of everybody or of a group. The request keeps the
    /// revision that serves when it arrives: its id is given with what came of it.
    ///
    /// # Errors
    ///
    /// [`ServiceError`].
    pub async fn recognize(
        self: &Arc<Self>,
        frame: Bytes,
        group: Option<Members>,
        context: &RequestContext,
        preference: Preference,
    ) -> (Sha256Digest, Result<Recognition, ServiceError>) {
        let taken = self.deployment.take(preference);
        (
            taken.live.id(),
            self.recognize_on(taken, frame, group, context).await,
        )
    }

    async fn recognize_on(
        self: &Arc<Self>,
        taken: RoutedRevision,
        frame: Bytes,
        group: Option<Members>,
        context: &RequestContext,
    ) -> Result<Recognition, ServiceError> {
        let (arrived, deadline) = (Instant::now(), context.deadline);
        let RoutedRevision { live, shadow } = taken;
        let (service, seen_by) = (Arc::clone(self), Arc::clone(&live));
        let bytes = frame.clone();
        let among = group.clone();
        let client = context.client.clone();
        let work = move |wanted| {
            let mut run = seen_by.revision.begin(wanted);
            let result = service.watched(&seen_by, &client, deadline, |_| {
                recognize_now(&seen_by, &mut run, &bytes, among.as_deref(), arrived)
            });
            (result, run)
        };
        let recognition = self.executor.run(context, work).await??;
        if let Some(shadow) = shadow {
            let active: Vec<IdentifiedFace> =
                recognition.faces.iter().map(RecognizedFace::seen).collect();
            // Nobody waits for it: it gets some times what the active revision took, and no more.
            let deadline = Instant::now()
                + (arrived.elapsed() * SHADOW_TIMES)
                    .max(SHADOW_LEAST)
                    .min(deadline - arrived);
            let (candidate, agreement) = (shadow.live, shadow.agreement);
            let counted = Arc::clone(&agreement);
            let (service, client) = (Arc::clone(self), context.client.clone());
            let compare = move |scope| {
                let mut run = candidate.revision.begin(scope);
                match service.watched(&candidate, &client, deadline, |_| {
                    recognize_now(
                        &candidate,
                        &mut run,
                        &frame,
                        group.as_deref(),
                        Instant::now(),
                    )
                }) {
                    Ok(answer) => agreement.compare(
                        &active,
                        &answer
                            .faces
                            .iter()
                            .map(RecognizedFace::seen)
                            .collect::<Vec<_>>(),
                    ),
                    // Requests before others' curiosity, as for workers.
                    Err(ServiceError::Run(RunError::OutOfCapacity(_) | RunError::Cancelled)) => {
                        agreement.note_skipped()
                    }
                    Err(_) => agreement.note_failed(),
                }
            };
            if !self.executor.try_run_background(deadline, compare) {
                counted.note_skipped();
            }
        }
        Ok(recognition)
    }

    /// Finds the faces in encoded images, of which nothing is stored; the revision's id is given
    /// with what was seen.
    ///
    /// # Errors
    ///
    /// [`ServiceError`].
    pub async fn look(
        self: &Arc<Self>,
        images: Vec<Bytes>,
        purpose: Purpose,
        context: &RequestContext,
    ) -> (Sha256Digest, Result<Analyses, ServiceError>) {
        let live = self.deployment.active();
        let (arrived, deadline) = (Instant::now(), context.deadline);
        let (service, by, client) = (Arc::clone(self), Arc::clone(&live), context.client.clone());
        let work = move |wanted| {
            let begun = Instant::now();
            let mut run = by.revision.begin(wanted);
            let result = service.watched(&by, &client, deadline, |_| {
                let see = |image: &Bytes| run.analyze(image, purpose);
                let analyses = images
                    .iter()
                    .map(see)
                    .collect::<Result<Vec<Analysis>, RunError>>()?;
                let mut stages = vec![("queue".to_owned(), begun - arrived)];
                stages.extend_from_slice(run.stages());
                stages.push(("total".to_owned(), arrived.elapsed()));
                Ok(Analyses {
                    revision: Arc::clone(&by.revision),
                    analyses,
                    warnings: run.take_warnings(),
                    stages,
                })
            });
            (result, run)
        };
        (
            live.id(),
            async { self.executor.run(context, work).await? }.await,
        )
    }

    /// Does a client's work on a revision, and counts how it went. The work may say of a fault that
    /// is not its result.
    fn watched<T>(
        &self,
        live: &ReadyRevision,
        client: &Client,
        deadline: Instant,
        work: impl FnOnce(&mut Option<String>) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let time = deadline.saturating_duration_since(Instant::now());
        let mut fault = None;
        let result = work(&mut fault);
        if let Err(ServiceError::Run(error) | ServiceError::People(PeopleError::Run(error))) =
            &result
            && is_at_fault(error, time)
        {
            fault = Some(error.to_string());
        }
        if fault.is_some() {
            // The line at the end of the request names it.
            tracing::Span::current().record("revision", tracing::field::display(live.id().short()));
        }
        let verdict = match (fault, &result) {
            (Some(cause), _) => Outcome::Failure(cause),
            (None, Ok(_)) => Outcome::Success,
            (None, Err(_)) => Outcome::Ignored,
        };
        self.deployment.note_outcome(live, client, &verdict);
        result
    }
}

fn recognize_now(
    live: &ReadyRevision,
    run: &mut Run,
    frame: &[u8],
    group: Option<&HashSet<PersonId>>,
    arrived: Instant,
) -> Result<Recognition, ServiceError> {
    let begun = Instant::now();
    let analysis = run.analyze(frame, Purpose::Recognize)?;
    let searched = Instant::now();
    let (width, height) = (analysis.width, analysis.height);
    let probes = probes(&live.view, analysis, group)?;
    let decided = Instant::now();
    let decisions = run.decide(&probes)?;
    let ended = Instant::now();
    let faces = probes
        .into_iter()
        .zip(decisions)
        .map(|(probe, decision)| RecognizedFace {
            face: probe.face,
            candidates: probe.candidates,
            decision,
        });
    let mut stages = vec![("queue".to_owned(), begun - arrived)];
    stages.extend_from_slice(run.stages());
    stages.push(("search".to_owned(), decided - searched));
    stages.push(("decide".to_owned(), ended - decided));
    stages.push(("total".to_owned(), ended - arrived));
    let warnings = run.take_warnings();
    Ok(Recognition {
        revision: Arc::clone(&live.revision),
        width,
        height,
        faces: faces.collect(),
        warnings,
        stages,
    })
}

/// Each face with the people nearest to it, of everybody or of these.
pub fn probes(
    view: &View,
    analysis: Analysis,
    group: Option<&HashSet<PersonId>>,
) -> Result<Vec<Probe>, ServiceError> {
    let (faces, embeddings): (Vec<_>, Vec<_>) = analysis
        .faces
        .into_iter()
        .map(|analyzed| (analyzed.face, analyzed.embedding))
        .unzip();
    let nearest = match group {
        Some(group) => view.nearest_among(&embeddings, CANDIDATES, group)?,
        None => view.nearest(&embeddings, CANDIDATES)?,
    };
    let candidate = |near: rostro_index::Candidate| Candidate {
        id: near.id.to_string(),
        similarity: near.similarity,
    };
    let probe = |(face, near): (Face, Vec<_>)| Probe {
        face,
        candidates: near.into_iter().map(candidate).collect(),
    };
    Ok(faces.into_iter().zip(nearest).map(probe).collect())
}

impl RecognizedFace {
    /// Where it is and who, for a comparison with another answer.
    fn seen(&self) -> IdentifiedFace {
        let identity = match &self.decision {
            Decision::Known(known) => self
                .candidates
                .get(known.candidate as usize)
                .map(|candidate| candidate.id.clone()),
            Decision::Unknown(_) => None,
        };
        IdentifiedFace {
            bounds: self.face.bounds,
            identity,
        }
    }
}
