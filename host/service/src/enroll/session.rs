//! The work of one enrolment with the active revision: from photos to the stored person.

use rostro_common::cancel::CancelScope;
use rostro_common::ids::EnrolmentId;
use rostro_common::sample::Sample;
use rostro_gallery::SampleLocation;
use rostro_sandbox::error::RunError;
use rostro_sandbox::guest::report::Warning;
use rostro_sandbox::pipeline::run::{Run, add_new_warnings};
use rostro_sandbox::review::Review;

use super::photo::{self, EnrolledFace, FaceSelection, PhotoOutcome, reason};
use super::{EnrollJob, Mode, duplicate, embeddings};
use crate::deployment::ReadyRevision;
use crate::people::PersonWrite;
use crate::{Service, ServiceError};

/// An enrolment on a worker.
pub(super) struct EnrollSession<'j> {
    service: &'j Service,
    job: &'j EnrollJob,
    active: &'j ReadyRevision,
    scope: CancelScope,
    run: Run,
    /// Samples that the person has already and keeps.
    stored: Vec<Sample>,
    /// Faces accepted so far.
    faces: Vec<EnrolledFace<'j>>,
    /// Last failure of the pipeline that cost one photo and not the enrolment.
    fault: Option<String>,
}

/// Result of a session.
pub(super) struct SessionResult<'j> {
    pub(super) enrollment: Result<ActiveEnrollment<'j>, ServiceError>,
    /// Last failure of the pipeline that cost one photo and not the enrolment.
    pub(super) fault: Option<String>,
}

/// Enrolment with the active revision.
pub(super) struct ActiveEnrollment<'j> {
    /// The change of the store. None if no photo was accepted.
    pub(super) written: Option<PersonWrite>,
    /// One outcome for each photo, in their order.
    pub(super) photos: Vec<PhotoOutcome>,
    /// The accepted faces.
    pub(super) faces: Vec<EnrolledFace<'j>>,
    /// The pipeline's warnings about all photos, each once.
    pub(super) warnings: Vec<Warning>,
}

impl<'j> EnrollSession<'j> {
    pub(super) fn new(service: &'j Service, job: &'j EnrollJob, scope: CancelScope) -> Self {
        Self {
            service,
            job,
            active: &job.targets.active,
            run: begin(job, &scope),
            scope,
            stored: Vec::new(),
            faces: Vec::new(),
            fault: None,
        }
    }

    /// Reviews the photos, and stores the person if any is accepted. The guests are dropped at the
    /// end, because others may need their memory.
    pub(super) fn enroll(mut self) -> SessionResult<'j> {
        SessionResult {
            enrollment: self.review_and_store(),
            fault: self.fault,
        }
    }

    fn review_and_store(&mut self) -> Result<ActiveEnrollment<'j>, ServiceError> {
        let request = &self.job.request;
        if request.mode == Mode::Add {
            self.stored = self
                .service
                .samples_of_contract(self.active, &request.id)?
                .ok_or(ServiceError::UnknownPerson)?;
        }
        let mut photos = Vec::new();
        let mut warnings: Vec<Warning> = Vec::new();
        for photo in &request.photos {
            let outcome = self.take_photo(&photo.content)?;
            let about_photo = self.run.take_warnings();
            photos.push(outcome.with_warnings(&about_photo));
            add_new_warnings(&mut warnings, about_photo);
        }
        let written = if self.faces.is_empty() {
            None
        } else {
            Some(self.store()?)
        };
        add_new_warnings(&mut warnings, self.run.take_warnings());
        Ok(ActiveEnrollment {
            written,
            photos,
            faces: std::mem::take(&mut self.faces),
            warnings,
        })
    }

    fn take_photo(&mut self, photo: &'j [u8]) -> Result<PhotoOutcome, ServiceError> {
        match photo::select_face(&mut self.run, &self.active.revision, photo) {
            Ok(FaceSelection::Selected(face)) => self.take_face(face),
            Ok(FaceSelection::Rejected(reasons)) => Ok(PhotoOutcome::rejected(reasons)),
            // A photo that is made to break a decoder must not cost the others.
            Err(error @ (RunError::Trap { .. } | RunError::Limit(_) | RunError::Output(_))) => {
                tracing::warn!("the pipeline failed on a photo: {error}");
                self.fault = Some(error.to_string());
                self.run = begin(self.job, &self.scope);
                let message = "The pipeline failed on this photo; send another, or the same in another format.";
                Ok(PhotoOutcome::rejected([reason(
                    "pipeline_failed",
                    message.to_owned(),
                )]))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Accepts a face unless it repeats a photo, or is another person's.
    fn take_face(&mut self, face: EnrolledFace<'j>) -> Result<PhotoOutcome, ServiceError> {
        let job = self.job;
        let count = self.faces.len() + self.stored.len() + 1;
        if let Some(reason) = duplicate::check_count(count) {
            return Ok(PhotoOutcome::rejected([reason]));
        }
        let mut warnings = Vec::new();
        if job.review != Review::Off {
            if let Some(reason) = duplicate::check_repetition(&face, &self.faces, &self.stored) {
                return Ok(PhotoOutcome::rejected([reason]));
            }
            // Of the two nearest, one at least is another person.
            let embedding = std::slice::from_ref(&face.sample.embedding);
            let nearest = self.active.view.nearest(embedding, 2)?;
            let other = duplicate::check_other_person(
                nearest.into_iter().flatten(),
                &job.request.id,
                self.active.revision.thresholds().similarity,
                job.request.actor.can_manage,
            );
            if job.review == Review::Strict && other.is_some() {
                return Ok(PhotoOutcome::rejected(other));
            }
            warnings.extend(other);
        }
        let score = face.sample.det_score.unwrap_or_default();
        self.faces.push(face);
        Ok(PhotoOutcome::Accepted { score, warnings })
    }

    /// Writes the person with the accepted faces.
    fn store(&mut self) -> Result<PersonWrite, ServiceError> {
        let new = self.faces.iter().map(|face| face.sample.clone());
        let mut samples: Vec<Sample> = self.stored.iter().cloned().chain(new).collect();
        let templates = self.run.template(&embeddings(&samples))?;
        // The caller got the timeout, or left, and will send the request again.
        if self.scope.is_cancelled() {
            return Err(RunError::Cancelled.into());
        }
        if self.scope.is_expired() {
            return Err(self.service.executor.deadline_error().into());
        }
        let (id, view) = (&self.job.request.id, &self.active.view);
        let people = &self.service.people;
        Ok(match self.job.request.mode {
            Mode::Replace => {
                // Samples of other contracts follow, and carry this mark as well.
                if !self.job.targets.counterparts.is_empty() {
                    let enrolment = EnrolmentId::unique();
                    for sample in &mut samples {
                        sample.enrolment = Some(enrolment.clone());
                    }
                }
                people.replace(id, &samples, view, &templates)?
            }
            Mode::Add => people.put(id, &samples, SampleLocation::Own, view, &templates)?,
        })
    }
}

fn begin(job: &EnrollJob, scope: &CancelScope) -> Run {
    job.targets
        .active
        .revision
        .begin(scope.clone())
        .with_review(job.review)
}
