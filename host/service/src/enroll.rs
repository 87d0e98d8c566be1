//! Enrolling a person from photos, and what a photo is refused for that the policy cannot know: the
//! other photos, and the other people.

use std::path::PathBuf;
use std::sync::Arc;

use rostro_common::cancel::CancelScope;
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::{EnrolmentId, PersonId};
use rostro_common::sample::Sample;
use rostro_common::vector::cosine;
use rostro_gallery::SampleLocation;
use rostro_sandbox::guest::report::Warning;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::run::{Run, RunError, note};
use rostro_sandbox::review::Review;

use super::contracts::{EnrolledPhoto, Enrolling, EnrollmentWarning, in_shares};
use super::{Photo, Service, ServiceError};
use crate::audit::{Action, ActionOutcome};
use crate::deployment::{Actor, Counterpart, ReadyRevision};
use crate::executor::RequestContext;
use crate::people::People;

pub(crate) use rostro_sandbox::bindings::{BoundingBox, Purpose, Reason, ReviewOutcome};

/// The most photos of a person that are kept: a file of them is read with every start.
pub(super) const MOST_PHOTOS: usize = 100;

/// What becomes of the photos that a person has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The new ones are in their place.
    Replace,
    /// The new ones are added.
    Add,
}

/// What became of an enrolment.
#[derive(Debug)]
pub struct Enrollment {
    /// The revision that answered.
    pub revision: Arc<Revision>,
    /// Where the person is stored; none if no photo was accepted, and then nothing changed.
    pub path: Option<PathBuf>,
    /// How strictly the photos were judged.
    pub review: Review,
    /// One outcome a photo, in their order.
    pub photos: Vec<PhotoOutcome>,
    /// What other revisions lack of it.
    pub warnings: Vec<EnrollmentWarning>,
    /// What the pipeline warns of, about all photos, each once.
    pub pipeline_warnings: Vec<Warning>,
}

/// What became of one photo.
#[derive(Debug)]
pub enum PhotoOutcome {
    /// A face of it was enrolled, found with this score, in spite of these warnings.
    Accepted {
        /// Score of the detection.
        score: f32,
        /// Warnings about the photo.
        warnings: Vec<PhotoIssue>,
    },
    /// Refused for these reasons, and with these warnings.
    Rejected {
        /// Reasons for the refusal.
        reasons: Vec<PhotoIssue>,
        /// Warnings about the photo.
        warnings: Vec<PhotoIssue>,
    },
}

/// What is wrong with a photo, or odd about it.
#[derive(Debug)]
pub struct PhotoIssue {
    /// The policy's reason.
    pub reason: Reason,
    /// Whose the face is already, if the caller may be told.
    pub identity: Option<PersonId>,
}

impl From<Reason> for PhotoIssue {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            identity: None,
        }
    }
}

fn findings(reasons: Vec<Reason>) -> Vec<PhotoIssue> {
    reasons.into_iter().map(PhotoIssue::from).collect()
}

impl Service {
    /// Enrols a person from photos, in place of what was known under that id; the revision's id is
    /// given with what came of it. The active revision reviews and answers; then the photos are
    /// embedded for other contracts that may serve next. Photos are judged as strictly as the
    /// operator says, or stricter if `review` is.
    ///
    /// # Errors
    ///
    /// [`ServiceError`]; nothing changed then, unless the deadline passed, or the caller left,
    /// while the person was written.
    pub async fn enroll(
        self: &Arc<Self>,
        id: PersonId,
        photos: Vec<Photo>,
        review: Option<Review>,
        mode: Mode,
        actor: &Actor,
        context: &RequestContext,
    ) -> (Sha256Digest, Result<Enrollment, ServiceError>) {
        let (live, counterparts) = self.deployment.enrolling();
        let review = (**self.review.load()).max(review.unwrap_or(Review::Off));
        let how = (review, mode, actor.can_manage);
        (
            live.id(),
            self.enroll_on(
                (live, counterparts),
                id,
                photos,
                how,
                actor.clone(),
                context,
            )
            .await,
        )
    }

    async fn enroll_on(
        self: &Arc<Self>,
        (live, counterparts): (Arc<ReadyRevision>, Vec<Counterpart>),
        id: PersonId,
        photos: Vec<Photo>,
        how: (Review, Mode, bool),
        actor: Actor,
        context: &RequestContext,
    ) -> Result<Enrollment, ServiceError> {
        if how.1 == Mode::Replace {
            self.people.check_new(&id)?;
        }
        // Between what is stored now and what will be nobody else changes it: an addition must not
        // bring back who was deleted meanwhile. Waited for without a worker, which others need.
        let deadline = context.deadline;
        let lock = self.people.locks().take(&id, deadline).await?;
        let (service, client) = (Arc::clone(self), context.client.clone());
        let work = move |wanted| {
            let mut accepted = Vec::new();
            let begin = |fault: &mut Option<String>| {
                let (enrollment, kept) = service.enroll_now(
                    (&live, counterparts.as_slice()),
                    &id,
                    &photos,
                    how,
                    &wanted,
                    fault,
                )?;
                accepted = kept;
                Ok(enrollment)
            };
            let mut result = service.watched(&live, &client, deadline, begin);
            if let Ok(enrollment) = &mut result
                && enrollment.path.is_some()
            {
                let enrolling = Enrolling {
                    id: &id,
                    review: how.0,
                    mode: how.1,
                    client: &client,
                };
                enrollment.warnings =
                    service.enroll_for_others(enrolling, &accepted, &counterparts, deadline);
            }
            let outcome = match &result {
                Ok(Enrollment { path: Some(_), .. }) => ActionOutcome::Done,
                Ok(_) => ActionOutcome::Unchanged,
                Err(_) => ActionOutcome::Failed,
            };
            // Here, and not where the answer is awaited: the caller may be gone by then, and the
            // person enrolled.
            service.deployment.note_person(
                &actor,
                if how.1 == Mode::Add {
                    Action::AddPhotos
                } else {
                    Action::Enrol
                },
                outcome,
                &id,
            );
            // Held until it is written, also if nobody waits for the answer any more.
            drop(lock);
            (result, live)
        };
        self.executor.run(context, work).await?
    }

    /// Enrols with the active revision; the photos that were accepted are returned with what became
    /// of it.
    fn enroll_now<'p>(
        &self,
        (live, counterparts): (&ReadyRevision, &[Counterpart]),
        id: &PersonId,
        photos: &'p [Photo],
        (review, mode, names_others): (Review, Mode, bool),
        wanted: &CancelScope,
        fault: &mut Option<String>,
    ) -> Result<(Enrollment, Vec<EnrolledPhoto<'p>>), ServiceError> {
        let revision = Arc::clone(&live.revision);
        let stored = match mode {
            Mode::Replace => Vec::new(),
            Mode::Add => stored(&self.people, live, id)?.ok_or(ServiceError::UnknownPerson)?,
        };
        let mut accepted = Vec::new();
        let begin = || revision.begin(wanted.clone()).reviewing(review);
        let mut run = begin();
        let mut portraits: Vec<EnrolledFace> = Vec::new();
        let mut outcomes = Vec::new();
        let mut warnings: Vec<Warning> = Vec::new();
        for photo in photos {
            let outcome = match sample(&mut run, &revision, &photo.content) {
                Ok(Ok(portrait)) => match beside_others(
                    live,
                    id,
                    (&portraits, &stored),
                    &portrait,
                    (review, names_others),
                )? {
                    DuplicateCheck::Fits(warnings) => {
                        let score = portrait.sample.det_score.unwrap_or_default();
                        accepted.push(EnrolledPhoto {
                            photo: &photo.content,
                            place: portrait.place,
                        });
                        portraits.push(portrait);
                        PhotoOutcome::Accepted { score, warnings }
                    }
                    DuplicateCheck::Refused(finding) => rejected(vec![finding]),
                },
                Ok(Err(reasons)) => rejected(findings(reasons)),
                // A photo that is made to break a decoder must not cost the others.
                Err(error @ (RunError::Trap { .. } | RunError::Limit(_) | RunError::Output(_))) => {
                    tracing::warn!("the pipeline failed on a photo: {error}");
                    *fault = Some(error.to_string());
                    run = begin();
                    let message = "The pipeline failed on this photo; send another, or the same in another format.".to_owned();
                    rejected(vec![refusal("pipeline_failed", message, None, None).into()])
                }
                Err(error) => return Err(error.into()),
            };
            let said = run.take_warnings();
            outcomes.push(outcome.warned(&said));
            note(&mut warnings, said);
        }
        let new: Vec<Sample> = portraits
            .into_iter()
            .map(|portrait| portrait.sample)
            .collect();
        let path = match new.is_empty() {
            true => None,
            false => {
                let samples: Vec<Sample> = stored.into_iter().chain(new).collect();
                let embeddings: Vec<Vec<f32>> = samples
                    .iter()
                    .map(|sample| sample.embedding.clone())
                    .collect();
                let templates = run.template(&embeddings)?;
                // The caller was told that it failed, or left and can only ask again.
                if wanted.is_cancelled() {
                    return Err(RunError::Cancelled.into());
                }
                if wanted.is_expired() {
                    return Err(self.executor.late().into());
                }
                Some(match mode {
                    Mode::Replace => {
                        // Other contracts' samples are to follow, and belong to these.
                        let enrolment = (!counterparts.is_empty()).then(EnrolmentId::unique);
                        let mark = |sample| Sample {
                            enrolment: enrolment.clone(),
                            ..sample
                        };
                        let samples: Vec<Sample> = samples.into_iter().map(mark).collect();
                        self.people.replace(id, &samples, &live.view, &templates)?
                    }
                    Mode::Add => self.people.put(
                        id,
                        &samples,
                        SampleLocation::Own,
                        &live.view,
                        &templates,
                    )?,
                })
            }
        };
        note(&mut warnings, run.take_warnings());
        let enrollment = Enrollment {
            revision,
            path,
            review,
            photos: outcomes,
            warnings: Vec::new(),
            pipeline_warnings: warnings,
        };
        Ok((enrollment, accepted))
    }
}

impl PhotoOutcome {
    /// Adds the guest's warnings about the photo.
    fn warned(mut self, more: &[Warning]) -> Self {
        let (Self::Accepted { warnings, .. } | Self::Rejected { warnings, .. }) = &mut self;
        let reason = |Warning { code, message }: &Warning| Reason {
            code: code.clone(),
            message: message.clone(),
            value: None,
            limit: None,
        };
        warnings.extend(more.iter().map(reason).map(PhotoIssue::from));
        self
    }
}

fn rejected(reasons: Vec<PhotoIssue>) -> PhotoOutcome {
    PhotoOutcome::Rejected {
        reasons,
        warnings: Vec::new(),
    }
}

/// Whether a photo's sample fits those before it, and everybody else's.
enum DuplicateCheck {
    /// It does, in spite of these.
    Fits(Vec<PhotoIssue>),
    /// It does not.
    Refused(PhotoIssue),
}

/// Two samples that are more alike than this, of faces in the same place of their photos, are of
/// one photo: sent twice, or saved once more.
const SAME_PHOTO: f32 = 0.98;

/// Embeddings that are more alike than this are one and the same.
const SAME_EMBEDDING: f32 = 0.99999;

/// How far edges of a face may be apart for the same place, in shares of the photo.
const SAME_PLACE: f32 = 0.01;

/// How much more alike than is needed to be recognised a face must be to somebody else, to be taken
/// for theirs: relatives are alike, and whom a recogniser finds alike by chance.
const SURELY: f32 = 0.15;

/// A photo's sample, and where in the photo the face is: its edges in shares of width and height.
struct EnrolledFace {
    sample: Sample,
    place: BoundingBox,
}

/// Returns the samples that new ones are added to: those that the revision's contract has. None if
/// there is no such person.
pub(super) fn stored(
    people: &People,
    live: &ReadyRevision,
    id: &PersonId,
) -> Result<Option<Vec<Sample>>, ServiceError> {
    let contract = live.revision.contract();
    people.check_seen(id)?;
    let Some(samples) = people.samples(id)? else {
        return Ok(None);
    };
    // Of another length is what somebody wrote into the file by hand.
    let is_matched = |sample: &Sample| {
        sample.contract.as_ref() == Some(&contract.id)
            && sample.embedding.len() == contract.dimension
    };
    Ok(Some(samples.into_iter().filter(is_matched).collect()))
}

/// Compares a sample with the person's others, and with everybody else whom the revision knows.
fn beside_others(
    live: &ReadyRevision,
    id: &PersonId,
    (before, stored): (&[EnrolledFace], &[Sample]),
    portrait: &EnrolledFace,
    (review, names_others): (Review, bool),
) -> Result<DuplicateCheck, ServiceError> {
    let refused = |code: &str, message: String, value: f32, limit: f32| {
        Ok(DuplicateCheck::Refused(
            Reason {
                code: code.to_owned(),
                message,
                value: Some(value),
                limit: Some(limit),
            }
            .into(),
        ))
    };
    let count = before.len() + stored.len() + 1;
    if count > MOST_PHOTOS {
        let message = format!(
            "A person has at most {MOST_PHOTOS} photos; enrol them anew with the best of them."
        );
        return refused("too_many_photos", message, count as f32, MOST_PHOTOS as f32);
    }
    if review == Review::Off {
        return Ok(DuplicateCheck::Fits(Vec::new()));
    }
    let sample = &portrait.sample;
    let edges = |place: &BoundingBox| [place.x1, place.y1, place.x2, place.y2];
    let is_there = |other: &&EnrolledFace| {
        edges(&other.place)
            .iter()
            .zip(edges(&portrait.place))
            .all(|(a, b)| (a - b).abs() < SAME_PLACE)
    };
    let alike = |other: &Sample| cosine(&other.embedding, &sample.embedding);
    let most = |values: &mut dyn Iterator<Item = f32>| values.fold(-1.0, f32::max);
    let message =
        || "This photo is there already; take another, from a little to the side.".to_owned();
    let likest = most(
        &mut before
            .iter()
            .filter(is_there)
            .map(|other| alike(&other.sample)),
    );
    if likest > SAME_PHOTO {
        return refused("duplicate_photo", message(), likest, SAME_PHOTO);
    }
    // Where the face was in a photo that is stored is not known: only the very same one is told.
    let likest = most(&mut stored.iter().map(alike));
    if likest > SAME_EMBEDDING {
        return refused("duplicate_photo", message(), likest, SAME_EMBEDDING);
    }
    let threshold = live.revision.thresholds().similarity + SURELY;
    // Of two, one at least is somebody else.
    let nearest = live
        .view
        .nearest(std::slice::from_ref(&sample.embedding), 2)?;
    let other = nearest
        .into_iter()
        .flatten()
        .find(|near| near.id.as_str() != id.as_str() && near.similarity > threshold);
    let Some(other) = other else {
        return Ok(DuplicateCheck::Fits(Vec::new()));
    };
    // Whose it is, a caller who may only enrol is not told.
    let message = match names_others {
        true => format!(
            "This face is enrolled under the id '{}' already; check whose photo this is.",
            other.id
        ),
        false => {
            "This face is enrolled under another id already; check whose photo this is.".to_owned()
        }
    };
    let reason = Reason {
        code: "another_person".to_owned(),
        message,
        value: Some(other.similarity),
        limit: Some(threshold),
    };
    let finding = PhotoIssue {
        reason,
        identity: names_others.then_some(other.id),
    };
    Ok(if review == Review::Strict {
        DuplicateCheck::Refused(finding)
    } else {
        DuplicateCheck::Fits(vec![finding])
    })
}

/// Takes the sample of one photo, or the reasons why there is none.
fn sample(
    run: &mut Run,
    revision: &Revision,
    photo: &[u8],
) -> Result<Result<EnrolledFace, Vec<Reason>>, RunError> {
    let mut analysis = match run.analyze(photo, Purpose::Enroll) {
        Ok(analysis) => analysis,
        Err(error @ RunError::Undecodable(_)) => {
            return Ok(Err(vec![refusal(
                "undecodable",
                error.to_string(),
                None,
                None,
            )]));
        }
        Err(
            error @ RunError::TooLarge {
                width,
                height,
                max_pixels,
            },
        ) => {
            let pixels = u64::from(width).saturating_mul(height.into());
            return Ok(Err(vec![refusal(
                "image_too_large",
                error.to_string(),
                Some(pixels),
                Some(max_pixels),
            )]));
        }
        Err(error) => return Err(error),
    };
    match run.review(&analysis)? {
        ReviewOutcome::Reject(reasons) => Ok(Err(reasons)),
        ReviewOutcome::Accept(index) => {
            // `review` was checked against the faces: the index is in range.
            let chosen = analysis.faces.swap_remove(index as usize);
            let (across, down) = (analysis.width as f32, analysis.height as f32);
            let place = in_shares(&chosen.face.bounds, across, down);
            let contract = Some(revision.contract().id.clone());
            let embedding = chosen.embedding;
            let raw = run.take_raw(index).filter(|raw| *raw != embedding);
            let sample = Sample {
                embedding,
                raw,
                contract,
                det_score: Some(chosen.face.score),
                enrolment: None,
            };
            Ok(Ok(EnrolledFace { sample, place }))
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "pixel counts are shown, not reckoned with"
)]
fn refusal(code: &str, message: String, value: Option<u64>, limit: Option<u64>) -> Reason {
    let number = |number: Option<u64>| number.map(|number| number as f32);
    Reason {
        code: code.to_owned(),
        message,
        value: number(value),
        limit: number(limit),
    }
}
