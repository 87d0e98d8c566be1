//! The two things that Rostro does: recognise who is in a frame, and enrol a person from photos.
//!
//! This is the path between vision, the people and policy. The host looks at no pixel and decides nothing here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bindings::{Analysis, Candidate, Decision, Face, Probe, Purpose, ReviewOutcome};
use crate::deployment::{Deployment, Live, Preference, Seen, Taken, Verdict, is_at_fault};
use crate::digest::Sha256Digest;
use crate::executor::{Executor, ExecutorError};
use crate::http::Content;
use crate::people::{People, PeopleError, View};
use crate::person::{PersonId, Sample};
use crate::revision::Revision;
use crate::run::{Run, RunError};

/// People offered to the policy for each face. More than are answered, so that a policy that gives each person to one face
/// can fall back on the next.
const CANDIDATES: usize = 8;

/// How many times as long as the active revision a shadow may take, and how long at least.
const SHADOW_TIMES: u32 = 4;
const SHADOW_LEAST: Duration = Duration::from_secs(1);

/// Recognises and enrols.
#[derive(Debug)]
pub(crate) struct Service {
    deployment: Arc<Deployment>,
    people: Arc<People>,
    executor: Executor,
}

/// An encoded photo as it was sent.
#[derive(Debug)]
pub(crate) struct Photo {
    /// The client's name for it.
    pub file_name: String,
    /// JPEG, PNG or WebP.
    pub content: Content,
}

/// Who is in a frame.
#[derive(Debug)]
pub(crate) struct Recognition {
    /// The revision that answered.
    pub revision: Arc<Revision>,
    /// Width of the upright frame in pixels.
    pub width: u32,
    /// Height of the upright frame in pixels.
    pub height: u32,
    /// Every face, largest first.
    pub(crate) faces: Vec<RecognizedFace>,
    /// Time by stage, in the order of work.
    pub stages: Vec<(String, Duration)>,
}

/// A face and who it is.
#[derive(Debug)]
pub(crate) struct RecognizedFace {
    pub(crate) face: Face,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) decision: Decision,
}

/// What became of an enrolment.
#[derive(Debug)]
pub(crate) struct Enrollment {
    /// The revision that answered.
    pub revision: Arc<Revision>,
    /// Where the person is stored; none if no photo was accepted, and then nothing changed.
    pub path: Option<PathBuf>,
    /// One outcome a photo, in their order.
    pub(crate) photos: Vec<PhotoOutcome>,
}

/// What became of one photo.
#[derive(Debug)]
pub(crate) enum PhotoOutcome {
    /// A face of it was enrolled, found with this score.
    Accepted { score: f32 },
    /// Refused, for these reasons.
    Rejected(Vec<crate::bindings::Reason>),
}

/// Why the service could not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    /// No worker, or no time.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The pipeline failed, or refused the image.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The people could not be read or written.
    #[error(transparent)]
    People(#[from] PeopleError),
}

impl From<crate::index::IndexError> for ServiceError {
    fn from(error: crate::index::IndexError) -> Self {
        Self::People(error.into())
    }
}

impl Service {
    /// A service of these parts.
    #[must_use]
    pub(crate) fn new(deployment: Arc<Deployment>, people: Arc<People>, executor: Executor) -> Self {
        Self { deployment, people, executor }
    }

    /// By when a request that arrives now must be done.
    #[must_use]
    pub(crate) fn deadline(&self) -> Instant {
        self.executor.deadline()
    }

    /// Finds out who is in an encoded frame. The request keeps the revision that serves when it arrives: its id is given with what came of it.
    ///
    /// # Errors
    ///
    /// [`ServiceError`].
    pub(crate) async fn recognize(
        self: &Arc<Self>,
        frame: Content,
        deadline: Instant,
        preference: Preference,
    ) -> (Sha256Digest, Result<Recognition, ServiceError>) {
        let taken = self.deployment.take(preference);
        (taken.live.id(), self.recognize_on(taken, frame, deadline).await)
    }

    async fn recognize_on(self: &Arc<Self>, taken: Taken, frame: Content, deadline: Instant) -> Result<Recognition, ServiceError> {
        let arrived = Instant::now();
        let Taken { live, shadow } = taken;
        let frame = Arc::new(frame);
        let (service, seen_by) = (Arc::clone(self), Arc::clone(&live));
        let bytes = Arc::clone(&frame);
        let work = move || {
            let mut run = seen_by.revision.begin(deadline);
            let result = service.watched(&seen_by, deadline, |_| recognize_now(&seen_by, &mut run, &bytes.bytes, arrived));
            (result, run)
        };
        let recognition = self.executor.run(deadline, work).await??;
        if let Some(shadow) = shadow {
            let active: Vec<Seen> = recognition.faces.iter().map(RecognizedFace::seen).collect();
            // Nobody waits for it: it gets some times what the active revision took, and no more.
            let deadline = Instant::now() + (arrived.elapsed() * SHADOW_TIMES).max(SHADOW_LEAST).min(deadline - arrived);
            let (candidate, agreement) = (shadow.live, shadow.agreement);
            let counted = Arc::clone(&agreement);
            let service = Arc::clone(self);
            let compare = move || {
                let mut run = candidate.revision.begin(deadline);
                match service.watched(&candidate, deadline, |_| recognize_now(&candidate, &mut run, &frame.bytes, Instant::now())) {
                    Ok(answer) => agreement.compare(&active, &answer.faces.iter().map(RecognizedFace::seen).collect::<Vec<_>>()),
                    Err(_) => agreement.note_failed(),
                }
            };
            if !self.executor.spare(compare) {
                counted.note_skipped();
            }
        }
        Ok(recognition)
    }

    /// Does a request's work on a revision, and takes note of how it went. The work may say of a fault that is not its result.
    fn watched<T>(
        &self,
        live: &Live,
        deadline: Instant,
        work: impl FnOnce(&mut Option<String>) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let time = deadline.saturating_duration_since(Instant::now());
        let mut fault = None;
        let result = work(&mut fault);
        if let Err(ServiceError::Run(error) | ServiceError::People(PeopleError::Run(error))) = &result
            && is_at_fault(error, time)
        {
            fault = Some(error.to_string());
        }
        let verdict = match (fault, &result) {
            (Some(cause), _) => Verdict::AtFault(cause),
            (None, Ok(_)) => Verdict::Well,
            (None, Err(_)) => Verdict::Neither,
        };
        self.deployment.note_outcome(live, &verdict);
        result
    }

    /// Enrols a person from photos, in place of what was known under that id; the revision's id is given with what came of it.
    ///
    /// # Errors
    ///
    /// [`ServiceError`]; nothing changed then, unless the deadline passed while the person was written.
    pub(crate) async fn enroll(
        self: &Arc<Self>,
        id: PersonId,
        photos: Vec<Photo>,
        deadline: Instant,
    ) -> (Sha256Digest, Result<Enrollment, ServiceError>) {
        let live = self.deployment.active();
        (live.id(), self.enroll_on(live, id, photos, deadline).await)
    }

    async fn enroll_on(
        self: &Arc<Self>,
        live: Arc<Live>,
        id: PersonId,
        photos: Vec<Photo>,
        deadline: Instant,
    ) -> Result<Enrollment, ServiceError> {
        let service = Arc::clone(self);
        let work = move || {
            let result = service.watched(&live, deadline, |fault| service.enroll_now(&live, &id, &photos, deadline, fault));
            (result, live)
        };
        self.executor.run(deadline, work).await?
    }

    fn enroll_now(
        &self,
        live: &Live,
        id: &PersonId,
        photos: &[Photo],
        deadline: Instant,
        fault: &mut Option<String>,
    ) -> Result<Enrollment, ServiceError> {
        let revision = Arc::clone(&live.revision);
        let mut run = revision.begin(deadline);
        let mut samples = Vec::new();
        let mut outcomes = Vec::new();
        for photo in photos {
            outcomes.push(match sample(&mut run, &revision, &photo.content.bytes) {
                Ok(Ok(sample)) => {
                    let score = sample.det_score.unwrap_or_default();
                    samples.push(sample);
                    PhotoOutcome::Accepted { score }
                }
                Ok(Err(reasons)) => PhotoOutcome::Rejected(reasons),
                // A photo that is made to break a decoder must not cost the others.
                Err(error @ (RunError::Trap { .. } | RunError::Limit(_) | RunError::Output(_))) => {
                    tracing::warn!("the pipeline failed on a photo: {error}");
                    *fault = Some(error.to_string());
                    run = revision.begin(deadline);
                    let message = "The pipeline failed on this photo; send another, or the same in another format.".to_owned();
                    PhotoOutcome::Rejected(vec![refusal("pipeline_failed", message, None, None)])
                }
                Err(error) => return Err(error.into()),
            });
        }
        let path = match samples.is_empty() {
            true => None,
            false => {
                let embeddings: Vec<Vec<f32>> = samples.iter().map(|sample| sample.embedding.clone()).collect();
                let templates = run.template(&embeddings)?;
                // The caller was told that it failed.
                if Instant::now() >= deadline {
                    return Err(self.executor.late().into());
                }
                Some(self.people.replace(id, &samples, &live.view, &templates)?)
            }
        };
        Ok(Enrollment { revision, path, photos: outcomes })
    }
}

fn recognize_now(live: &Live, run: &mut Run, frame: &[u8], arrived: Instant) -> Result<Recognition, ServiceError> {
    let begun = Instant::now();
    let analysis = run.analyze(frame, Purpose::Recognize)?;
    let searched = Instant::now();
    let (width, height) = (analysis.width, analysis.height);
    let probes = probes(&live.view, analysis)?;
    let decided = Instant::now();
    let decisions = run.decide(&probes)?;
    let ended = Instant::now();
    let faces = probes.into_iter().zip(decisions).map(|(probe, decision)| RecognizedFace {
        face: probe.face,
        candidates: probe.candidates,
        decision,
    });
    let mut stages = vec![("queue".to_owned(), begun - arrived)];
    stages.extend_from_slice(run.stages());
    stages.push(("search".to_owned(), decided - searched));
    stages.push(("decide".to_owned(), ended - decided));
    stages.push(("total".to_owned(), ended - arrived));
    Ok(Recognition { revision: Arc::clone(&live.revision), width, height, faces: faces.collect(), stages })
}

/// Each face with the people nearest to it.
pub(crate) fn probes(view: &View, analysis: Analysis) -> Result<Vec<Probe>, ServiceError> {
    let (faces, embeddings): (Vec<_>, Vec<_>) = analysis.faces.into_iter().map(|analyzed| (analyzed.face, analyzed.embedding)).unzip();
    let nearest = view.nearest(&embeddings, CANDIDATES)?;
    let candidate = |near: crate::index::Candidate| Candidate { id: near.id.to_string(), similarity: near.similarity };
    let probe = |(face, near): (Face, Vec<_>)| Probe { face, candidates: near.into_iter().map(candidate).collect() };
    Ok(faces.into_iter().zip(nearest).map(probe).collect())
}

impl RecognizedFace {
    /// Where it is and who, for a comparison with another answer.
    fn seen(&self) -> Seen {
        let identity = match &self.decision {
            Decision::Known(known) => self.candidates.get(known.candidate as usize).map(|candidate| candidate.id.clone()),
            Decision::Unknown(_) => None,
        };
        Seen { bounds: self.face.bounds, identity }
    }
}

/// Takes the sample of one photo, or the reasons why there is none.
fn sample(run: &mut Run, revision: &Revision, photo: &[u8]) -> Result<Result<Sample, Vec<crate::bindings::Reason>>, RunError> {
    let mut analysis = match run.analyze(photo, Purpose::Enroll) {
        Ok(analysis) => analysis,
        Err(error @ RunError::Undecodable(_)) => return Ok(Err(vec![refusal("undecodable", error.to_string(), None, None)])),
        Err(error @ RunError::TooLarge { width, height, max_pixels }) => {
            let pixels = u64::from(width).saturating_mul(height.into());
            return Ok(Err(vec![refusal("image_too_large", error.to_string(), Some(pixels), Some(max_pixels))]));
        }
        Err(error) => return Err(error),
    };
    match run.review(&analysis)? {
        ReviewOutcome::Reject(reasons) => Ok(Err(reasons)),
        ReviewOutcome::Accept(index) => {
            // `review` was checked against the faces: the index is in range.
            let chosen = analysis.faces.swap_remove(index as usize);
            Ok(Ok(Sample {
                embedding: chosen.embedding,
                contract: Some(revision.contract().id.clone()),
                det_score: Some(chosen.face.score),
            }))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "pixel counts are shown, not reckoned with")]
fn refusal(code: &str, message: String, value: Option<u64>, limit: Option<u64>) -> crate::bindings::Reason {
    let number = |number: Option<u64>| number.map(|number| number as f32);
    crate::bindings::Reason { code: code.to_owned(), message, value: number(value), limit: number(limit) }
}
