//! Enrolment: photos' way to the sandbox and into the gallery.
//!
//! [`Service::enroll`] takes the person's lock and a worker. On the worker, a [`session`] reviews
//! each [`photo`], compares it with the others ([`duplicate`]) and stores the person. Then
//! [`counterparts`] embeds the accepted photos for the contracts of other revisions.

mod counterparts;
mod duplicate;
mod photo;
mod session;

use std::sync::Arc;
use std::time::Instant;

use rostro_common::cancel::CancelScope;
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_sandbox::guest::report::Warning;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::review::Review;

use crate::audit::{Action, ActionOutcome};
use crate::deployment::{Actor, EnrollTargets, Outcome, ReadyRevision};
use crate::executor::{ReplySender, RequestContext};
use crate::people::PersonWrite;
use crate::{Photo, RevisionError, Service, ServiceError};
use session::{ActiveEnrollment, EnrollSession, SessionResult};

pub use counterparts::EnrollmentWarning;
pub use photo::{PhotoIssue, PhotoOutcome};

/// The most photos that a person may have, because their file is read at every start.
pub(crate) const MOST_PHOTOS: usize = 100;

/// Effect of an enrolment on the photos that the person has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Replaces them.
    Replace,
    /// Adds to them.
    Add,
}

/// A person to enrol from photos.
#[derive(Debug)]
pub struct EnrollRequest {
    /// The person's id.
    pub id: PersonId,
    /// The encoded photos.
    pub photos: Vec<Photo>,
    /// Review that the caller asks for. A less strict one than the operator's has no effect.
    pub review: Option<Review>,
    /// Effect on earlier photos.
    pub mode: Mode,
    /// The caller, for the audit log.
    pub actor: Actor,
}

/// Result of an enrolment.
#[derive(Debug)]
pub struct Enrollment {
    /// The revision that answered.
    pub revision: Arc<Revision>,
    /// The change of the store. None if no photo was accepted; then nothing changed.
    pub written: Option<PersonWrite>,
    /// Review that was applied to the photos.
    pub review: Review,
    /// One outcome for each photo, in their order.
    pub photos: Vec<PhotoOutcome>,
    /// Lacks of the enrolment for other revisions.
    pub warnings: Vec<EnrollmentWarning>,
    /// The pipeline's warnings about all photos, each once.
    pub pipeline_warnings: Vec<Warning>,
}

/// An enrolment at work.
#[derive(Debug)]
struct EnrollJob {
    request: EnrollRequest,
    /// The stricter of the operator's review and the caller's.
    review: Review,
    targets: EnrollTargets,
    context: RequestContext,
}

impl Service {
    /// Enrols a person from photos. The active revision reviews them and answers; then they are
    /// embedded for other contracts that may serve next.
    ///
    /// # Errors
    ///
    /// [`RevisionError`]; nothing changed then, unless the deadline passed, or the caller left,
    /// while the person was written.
    pub async fn enroll(
        self: &Arc<Self>,
        request: EnrollRequest,
        context: &RequestContext,
    ) -> Result<Enrollment, RevisionError> {
        // An outdated view would not see duplicates, or name a deleted person as one.
        let lease = self.take_lease();
        let targets = self.deployment.enroll_targets();
        let revision = targets.active.id();
        lease.map_err(|cause| RevisionError { revision, cause })?;
        let job = EnrollJob {
            review: (**self.review.load()).max(request.review.unwrap_or(Review::Off)),
            request,
            targets,
            context: context.clone(),
        };
        self.enroll_on_worker(job)
            .await
            .map_err(|cause| RevisionError { revision, cause })
    }

    async fn enroll_on_worker(
        self: &Arc<Self>,
        job: EnrollJob,
    ) -> Result<Enrollment, ServiceError> {
        let id = &job.request.id;
        if job.request.mode == Mode::Replace {
            self.people.check_new(id)?;
        }
        // No other request changes the person between the read and the write, because an addition
        // must not bring back a person who was deleted meanwhile. The wait occupies no worker.
        let context = job.context.clone();
        let lock = self.people.locks().take(id, context.deadline).await?;
        let work = {
            let service = Arc::clone(self);
            move |scope: CancelScope, reply: ReplySender<Enrollment, ServiceError>| {
                let result = service.enroll_now(&job, scope);
                // Recorded here, because the caller may have left, with the person enrolled.
                service.audit_enrollment(&job.request, &result);
                drop(lock);
                reply.send(result);
            }
        };
        self.executor.run(&context, work).await
    }

    fn enroll_now(&self, job: &EnrollJob, scope: CancelScope) -> Result<Enrollment, ServiceError> {
        let begun = Instant::now();
        let active = &job.targets.active;
        let SessionResult { enrollment, fault } = EnrollSession::new(self, job, scope).enroll();
        let time = job.context.deadline.saturating_duration_since(begun);
        let outcome = Outcome::of(&enrollment, time).or_failure(fault.as_deref());
        self.record_outcome(active, &job.context.client, &outcome);
        let ActiveEnrollment {
            written,
            photos,
            faces,
            warnings: pipeline_warnings,
        } = enrollment?;
        let warnings = if written.is_some() {
            self.enroll_for_counterparts(job, &faces)
        } else {
            Vec::new()
        };
        Ok(Enrollment {
            revision: Arc::clone(&active.revision),
            written,
            review: job.review,
            photos,
            warnings,
            pipeline_warnings,
        })
    }

    fn audit_enrollment(&self, request: &EnrollRequest, result: &Result<Enrollment, ServiceError>) {
        let action = match request.mode {
            Mode::Replace => Action::Enrol,
            Mode::Add => Action::AddPhotos,
        };
        let outcome = match result {
            Ok(Enrollment {
                written: Some(_), ..
            }) => ActionOutcome::Done,
            Ok(_) => ActionOutcome::Unchanged,
            Err(_) => ActionOutcome::Failed,
        };
        self.deployment
            .record_person(&request.actor, action, outcome, &request.id);
    }

    /// Returns the samples that new ones are added to: those of the revision's contract. None if
    /// the person does not exist.
    fn samples_of_contract(
        &self,
        ready: &ReadyRevision,
        id: &PersonId,
    ) -> Result<Option<Vec<Sample>>, ServiceError> {
        let contract = ready.revision.contract();
        self.people.check_seen(id)?;
        let Some(mut samples) = self.people.samples(id)? else {
            return Ok(None);
        };
        // A file that was edited by hand may have samples of another length.
        samples.retain(|sample| {
            sample.contract.as_ref() == Some(&contract.id)
                && sample.embedding.len() == contract.dimension
        });
        Ok(Some(samples))
    }
}

fn embeddings(samples: &[Sample]) -> Vec<Vec<f32>> {
    samples
        .iter()
        .map(|sample| sample.embedding.clone())
        .collect()
}
