//! Recognition: a frame's way to the sandbox and back, and the shadow that sees it as well.
//!
//! [`Service::recognize`] routes the frame to a revision and runs [`recognize_now`] on a worker.
//! There vision finds the faces, the index finds candidates for each ([`probes`]), and the policy
//! decides.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use rostro_common::cancel::CancelScope;
use rostro_common::ids::PersonId;
use rostro_gallery::groups::Members;
use rostro_inference::precision::Precision;
use rostro_sandbox::bindings::{
    Candidate, Decision, Event, Face, GuestContext, Probe, Purpose, Ruling,
};
use rostro_sandbox::error::RunError;
use rostro_sandbox::guest::report::Warning;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::run::Run;
use rostro_sandbox::stream::StreamMemory;
use rostro_sandbox::types::{Analysis, AnalyzedFace};

use crate::deployment::{
    IdentifiedFace, Outcome, Preference, ReadyRevision, RoutedRevision, Shadow,
};
use crate::executor::{ReplySender, RequestContext};
use crate::people::View;
use crate::{RevisionError, Service, ServiceError};

/// People offered to the policy for each face. An answer has fewer, so that a policy that gives
/// each person to one face can fall back on the next.
const CANDIDATES: usize = 8;

/// Factor of the active revision's time that a shadow may take.
const SHADOW_FACTOR: u32 = 4;

/// Time that a shadow may take at least.
const SHADOW_MIN: Duration = Duration::from_secs(1);

/// The people in a frame.
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
    /// Events of the policy.
    pub events: Vec<Event>,
    /// Least precision of the models that saw the frame.
    pub precision: Precision,
    /// The guests' warnings.
    pub warnings: Vec<Warning>,
    /// Time by stage, in the order of work.
    pub stages: Vec<(String, Duration)>,
    /// Time since the last renewal of the lease if no lease covers the answer, which may then name
    /// people who were deleted since.
    pub stale: Option<Duration>,
}

/// A face and the decision about it.
#[derive(Debug)]
pub struct RecognizedFace {
    /// The face in the frame.
    pub face: Face,
    /// Its track in the stream, if the pipeline tracks.
    pub track: Option<u32>,
    /// The candidates that the policy shows, in its order.
    pub candidates: Vec<Candidate>,
    /// The policy's decision.
    pub identification: Identification,
}

/// Decision about a face.
#[derive(Clone, Debug, PartialEq)]
pub enum Identification {
    /// A known person.
    Known {
        /// The person, with the similarity to the face.
        person: Candidate,
        /// The policy's confidence, 0 to 1.
        confidence: f32,
    },
    /// No known person, with the policy's code for the reason.
    Unknown(String),
}

impl Identification {
    /// Returns the known person.
    pub(crate) fn person(&self) -> Option<&Candidate> {
        match self {
            Self::Known { person, .. } => Some(person),
            Self::Unknown(_) => None,
        }
    }
}

/// An encoded frame to recognise. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct FrameInput {
    /// The encoded frame.
    pub image: Bytes,
    /// Restricts the search to these people.
    pub members: Option<Members>,
    /// What the guests are told about the request.
    pub context: GuestContext,
    /// Closeness of the search for faces, if the request chooses it: a value of the pipeline's
    /// setting of this name.
    pub closeness: Option<String>,
    /// When the request arrived.
    pub arrived: Instant,
}

/// Setting that a request chooses by its parameter of this name.
const CLOSENESS: &str = "closeness";

impl Service {
    /// Recognises the people in an encoded frame, among all people or those of a group. The request
    /// keeps the revision that serves when it arrives.
    ///
    /// # Errors
    ///
    /// [`RevisionError`].
    pub async fn recognize(
        self: &Arc<Self>,
        input: FrameInput,
        context: &RequestContext,
        preference: Preference,
    ) -> Result<Recognition, RevisionError> {
        let permission = self.take_permission();
        let RoutedRevision { ready, shadow } = self.deployment.route(preference);
        let revision = ready.id();
        let failed = |cause| RevisionError { revision, cause };
        let permission = permission.map_err(failed)?;
        let (mut recognition, _) = self
            .recognize_on(ready, input.clone(), None, context)
            .await
            .map_err(failed)?;
        recognition.stale = self.check_permission(permission).map_err(failed)?;
        if let Some(shadow) = shadow {
            self.observe_shadow(shadow, input, context, &recognition);
        }
        Ok(recognition)
    }

    /// Recognises the people in a frame on a revision. Returns the memory of its stream after it.
    pub(crate) async fn recognize_on(
        self: &Arc<Self>,
        ready: Arc<ReadyRevision>,
        input: FrameInput,
        memory: Option<StreamMemory>,
        context: &RequestContext,
    ) -> Result<(Recognition, Option<StreamMemory>), ServiceError> {
        if let Some(closeness) = &input.closeness {
            ready.revision.check_choice(CLOSENESS, closeness)?;
        }
        let work = {
            let (service, context) = (Arc::clone(self), context.clone());
            move |scope: CancelScope, reply: ReplySender<_, ServiceError>| {
                let mut run = begin(&ready, &input, scope);
                if let Some(memory) = memory {
                    run = run.with_stream(memory);
                }
                let result = service.recognize_and_record(&ready, &mut run, &input, &context);
                reply.send(result.map(|recognition| (recognition, run.take_stream())));
                // The run's instances are cleared here, after the answer.
            }
        };
        self.executor.run(context, work).await
    }

    /// Has the shadow recognise the frame in the background, and counts how far it agrees with the
    /// active revision. No request waits for it, so its time is bounded by the active one's.
    fn observe_shadow(
        self: &Arc<Self>,
        shadow: Shadow,
        input: FrameInput,
        context: &RequestContext,
        active: &Recognition,
    ) {
        let limit = (input.arrived.elapsed() * SHADOW_FACTOR)
            .max(SHADOW_MIN)
            .min(context.deadline - input.arrived);
        let context = RequestContext {
            client: context.client.clone(),
            deadline: Instant::now() + limit,
        };
        let deadline = context.deadline;
        let agreement = Arc::clone(&shadow.agreement);
        let active = active.identified_faces();
        let work = {
            let service = Arc::clone(self);
            move |scope| {
                let Shadow {
                    ready, agreement, ..
                } = shadow;
                let input = FrameInput {
                    arrived: Instant::now(),
                    closeness: input
                        .closeness
                        .filter(|value| ready.revision.check_choice(CLOSENESS, value).is_ok()),
                    ..input
                };
                let mut run = begin(&ready, &input, scope);
                match service.recognize_and_record(&ready, &mut run, &input, &context) {
                    Ok(recognition) => agreement.compare(&active, &recognition.identified_faces()),
                    // Requests have priority over a shadow for memory, as for workers.
                    Err(ServiceError::Run(RunError::OutOfCapacity(_) | RunError::Cancelled)) => {
                        agreement.record_skipped()
                    }
                    Err(_) => agreement.record_failed(),
                }
            }
        };
        if !self.executor.try_run_background(deadline, work) {
            agreement.record_skipped();
        }
    }

    fn recognize_and_record(
        &self,
        ready: &ReadyRevision,
        run: &mut Run,
        input: &FrameInput,
        context: &RequestContext,
    ) -> Result<Recognition, ServiceError> {
        let begun = Instant::now();
        let result = recognize_now(ready, run, input, begun);
        let outcome = Outcome::of(&result, context.deadline.saturating_duration_since(begun));
        self.record_outcome(ready, &context.client, &outcome);
        result
    }
}

/// Begins the run of a frame.
fn begin(ready: &ReadyRevision, input: &FrameInput, scope: impl Into<CancelScope>) -> Run {
    let choices = input.closeness.iter();
    ready
        .revision
        .begin(scope)
        .permitting_int8()
        .with_context(input.context.clone())
        .with_choices(
            choices
                .map(|value| (CLOSENESS.to_owned(), value.clone()))
                .collect(),
        )
}

fn recognize_now(
    ready: &ReadyRevision,
    run: &mut Run,
    input: &FrameInput,
    begun: Instant,
) -> Result<Recognition, ServiceError> {
    let analysis = run.analyze(&input.image, Purpose::Recognize)?;
    let (width, height) = (analysis.width, analysis.height);
    let analyzed = Instant::now();
    let probes = probes(&ready.view, analysis, input.members.as_deref())?;
    let searched = Instant::now();
    let decisions = run.decide(&probes)?;
    let decided = Instant::now();
    let faces = probes.into_iter().zip(decisions.rulings);
    let mut stages = vec![("queue".to_owned(), begun - input.arrived)];
    stages.extend_from_slice(run.stages());
    stages.push(("search".to_owned(), searched - analyzed));
    stages.push(("decide".to_owned(), decided - searched));
    stages.push(("total".to_owned(), decided - input.arrived));
    let warnings = run.take_warnings();
    Ok(Recognition {
        revision: Arc::clone(&ready.revision),
        width,
        height,
        faces: faces
            .map(|(probe, ruling)| RecognizedFace::of(probe, ruling))
            .collect(),
        events: decisions.events,
        precision: run.precision(),
        warnings,
        stages,
        stale: None,
    })
}

/// Returns the questions to the policy: each face with the people nearest to it, among all people
/// or those of a group.
///
/// # Errors
///
/// If the embeddings do not fit the index.
pub fn probes(
    view: &View,
    analysis: Analysis,
    group: Option<&HashSet<PersonId>>,
) -> Result<Vec<Probe>, ServiceError> {
    let mut faces = analysis.faces;
    let embeddings: Vec<Vec<f32>> = faces
        .iter_mut()
        .map(|analyzed| std::mem::take(&mut analyzed.embedding))
        .collect();
    let nearest = match group {
        Some(group) => view.nearest_among(&embeddings, CANDIDATES, group)?,
        None => view.nearest(&embeddings, CANDIDATES)?,
    };
    let candidate = |near: rostro_index::Candidate| Candidate {
        id: near.id.to_string(),
        similarity: near.similarity,
    };
    let probe = |(analyzed, near): (AnalyzedFace, Vec<_>)| Probe {
        face: analyzed.face,
        track: analyzed.track,
        is_fresh: analyzed.is_fresh,
        candidates: near.into_iter().map(candidate).collect(),
    };
    Ok(faces.into_iter().zip(nearest).map(probe).collect())
}

impl Recognition {
    /// Returns the faces and their people, for a comparison with another revision's answer.
    fn identified_faces(&self) -> Vec<IdentifiedFace> {
        self.faces.iter().map(RecognizedFace::identified).collect()
    }
}

impl RecognizedFace {
    /// Returns a face with the ruling on it. Validated rulings name candidates of the probe.
    pub fn of(probe: Probe, ruling: Ruling) -> Self {
        let candidate = |index: u32| probe.candidates.get(index as usize).cloned();
        let identification = match ruling.decision {
            Decision::Known(known) => match candidate(known.candidate) {
                Some(person) => Identification::Known {
                    person,
                    confidence: known.confidence,
                },
                None => Identification::Unknown("no_candidates".to_owned()),
            },
            Decision::Unknown(reason) => Identification::Unknown(reason),
        };
        Self {
            identification,
            candidates: ruling
                .candidates
                .into_iter()
                .filter_map(candidate)
                .collect(),
            face: probe.face,
            track: probe.track,
        }
    }

    fn identified(&self) -> IdentifiedFace {
        let identity = match &self.identification {
            Identification::Known { person, .. } => Some(person.id.clone()),
            Identification::Unknown(_) => None,
        };
        IdentifiedFace {
            bounds: self.face.bounds,
            identity,
        }
    }
}
