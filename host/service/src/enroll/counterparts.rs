//! Embeds an enrolment under the contracts of other revisions than the active one.
//!
//! The active revision has reviewed and stored the person by then. A revision that fails, refuses
//! the photos or is late leaves its contract as it is, and the answer has a warning about it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_common::cancel::CancelScope;
use rostro_common::digest::Sha256Digest;
use rostro_gallery::SampleLocation;
use rostro_sandbox::bindings::{BoundingBox, Purpose};
use rostro_sandbox::error::RunError;
use rostro_sandbox::face_matching::most_overlapping;

use super::photo::{EnrolledFace, relative_place, sample};
use super::{EnrollJob, MOST_PHOTOS, Mode, embeddings};
use crate::deployment::{Counterpart, Outcome, ReadyRevision};
use crate::people::PeopleError;
use crate::{Service, ServiceError};

/// The most time that is kept for the answer, of the time until the deadline.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// A lack of an enrolment for another revision.
#[derive(Debug)]
pub struct EnrollmentWarning {
    /// Names the kind for programs.
    pub code: &'static str,
    /// States the lack and the remedy.
    pub message: String,
    /// The revision.
    pub revision: Sha256Digest,
}

/// Result of an enrolment for another revision.
enum CounterpartOutcome {
    Enrolled,
    /// The revision is being staged again after a start.
    NotReady,
    /// No time was left before it began.
    NoTime,
    /// The deadline passed while it worked.
    Late,
    /// It did not find the face in `missed` of `photos` photos.
    Refused {
        missed: usize,
        photos: usize,
    },
    Failed,
    NotStored,
}

impl Service {
    /// Embeds the accepted photos for each counterpart in turn. The caller waits for the answer, so
    /// all must be done some time before the deadline. A caller who leaves does not cancel it,
    /// because the person is stored by then.
    pub(super) fn enroll_for_counterparts(
        &self,
        job: &EnrollJob,
        faces: &[EnrolledFace<'_>],
    ) -> Vec<EnrollmentWarning> {
        let deadline = job.context.deadline;
        let left = deadline.saturating_duration_since(Instant::now());
        let end = deadline - (left / 10).min(ANSWER_TIME);
        let mut warnings = Vec::new();
        for counterpart in &job.targets.counterparts {
            let outcome = self.enroll_for_counterpart(job, counterpart, faces, end);
            warnings.extend(outcome.warning(counterpart));
        }
        warnings
    }

    fn enroll_for_counterpart(
        &self,
        job: &EnrollJob,
        counterpart: &Counterpart,
        faces: &[EnrolledFace<'_>],
        end: Instant,
    ) -> CounterpartOutcome {
        let Some(ready) = &counterpart.ready else {
            return CounterpartOutcome::NotReady;
        };
        let begun = Instant::now();
        if begun >= end {
            return CounterpartOutcome::NoTime;
        }
        let result = self.embed_and_store(job, ready, faces, end);
        let outcome = Outcome::of(&result, end.saturating_duration_since(begun));
        self.record_outcome(ready, &job.context.client, &outcome);
        match result {
            Ok(0) => CounterpartOutcome::Enrolled,
            Ok(missed) => CounterpartOutcome::Refused {
                missed,
                photos: faces.len(),
            },
            Err(
                ServiceError::Run(RunError::Deadline { .. })
                | ServiceError::People(PeopleError::Run(RunError::Deadline { .. })),
            ) => CounterpartOutcome::Late,
            Err(error) => {
                tracing::warn!(
                    revision = ready.id().short(),
                    "cannot embed an enrolment for another contract: {error}"
                );
                match error {
                    ServiceError::Run(_) | ServiceError::People(PeopleError::Run(_)) => {
                        CounterpartOutcome::Failed
                    }
                    _ => CounterpartOutcome::NotStored,
                }
            }
        }
    }

    /// Embeds the photos for one revision and stores the samples. Returns the number of photos in
    /// which it did not find the face.
    fn embed_and_store(
        &self,
        job: &EnrollJob,
        ready: &Arc<ReadyRevision>,
        faces: &[EnrolledFace<'_>],
        end: Instant,
    ) -> Result<usize, ServiceError> {
        let id = &job.request.id;
        let mut samples = match job.request.mode {
            Mode::Replace => Vec::new(),
            Mode::Add => self.samples_of_contract(ready, id)?.unwrap_or_default(),
        };
        let before = samples.len();
        let mut run = ready
            .revision
            .begin(CancelScope::from(end))
            .with_review(job.review);
        for EnrolledFace { photo, place, .. } in faces {
            let mut analysis = match run.analyze(photo, Purpose::Enroll) {
                Ok(analysis) => analysis,
                Err(RunError::Undecodable(_) | RunError::TooLarge { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let size = (analysis.width, analysis.height);
            let places: Vec<BoundingBox> = analysis
                .faces
                .iter()
                .map(|face| relative_place(&face.face.bounds, size))
                .collect();
            let Some(index) = most_overlapping(place, &places) else {
                continue;
            };
            let found = analysis.faces.swap_remove(index);
            if found.embedding.is_empty() || samples.len() >= MOST_PHOTOS {
                continue;
            }
            samples.push(sample(
                &mut run,
                &ready.revision,
                index as u32,
                found.embedding,
                found.face.score,
            ));
        }
        let missed = faces.len() - (samples.len() - before);
        if samples.len() > before {
            let templates = run.template(&embeddings(&samples))?;
            self.people
                .put(id, &samples, SampleLocation::Other, &ready.view, &templates)?
                .durability
                .into_result()
                .map_err(PeopleError::from)?;
        }
        Ok(missed)
    }
}

impl CounterpartOutcome {
    fn warning(&self, counterpart: &Counterpart) -> Option<EnrollmentWarning> {
        let (code, event) = match self {
            Self::Enrolled => return None,
            Self::NotReady => ("revision_not_ready", "is not ready yet".to_owned()),
            Self::NoTime => ("revision_late", "had no time left".to_owned()),
            Self::Late => ("revision_late", "was not done in time".to_owned()),
            Self::Refused { missed, photos } if missed == photos => (
                "revision_refused",
                "found the face in none of the photos".to_owned(),
            ),
            Self::Refused { missed, photos } => (
                "revision_refused",
                format!("did not find the face in {missed} of {photos} photos"),
            ),
            Self::Failed => ("revision_failed", "failed on the photos".to_owned()),
            Self::NotStored => (
                "not_stored",
                "has samples that could not be stored".to_owned(),
            ),
        };
        let (id, role) = (counterpart.id, counterpart.role);
        Some(EnrollmentWarning {
            code,
            message: format!(
                "The {role} revision {} {event}: enrol the person again when it is active, or it may not recognise them.",
                id.short()
            ),
            revision: id,
        })
    }
}
