//! Embeds an enrolment under the contracts of other revisions than the active one.
//!
//! The active revision has reviewed and stored the person by then. A revision that fails, refuses
//! the photos or is late leaves its contract as it is, and the answer warns of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_common::cancel::CancelScope;
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_gallery::SampleLocation;
use rostro_sandbox::bindings::{BoundingBox, Purpose};
use rostro_sandbox::face_matching::most_overlapping;
use rostro_sandbox::pipeline::run::RunError;
use rostro_sandbox::review::Review;

use super::enroll::{MOST_PHOTOS, Mode, stored};
use super::{Service, ServiceError};
use crate::deployment::{Counterpart, ReadyRevision};
use crate::executor::Client;
use crate::people::PeopleError;

/// The most time that is left for the answer, of what there is until the deadline.
const ANSWER: Duration = Duration::from_secs(1);

/// A photo whose face was enrolled.
pub(super) struct EnrolledPhoto<'p> {
    pub photo: &'p [u8],
    /// The face's edges, in shares of width and height.
    pub place: BoundingBox,
}

/// What an enrolment lacks for another revision.
#[derive(Debug)]
pub struct EnrollmentWarning {
    /// Names the kind for programs.
    pub code: &'static str,
    /// Says what to do.
    pub message: String,
    /// The revision.
    pub revision: Sha256Digest,
}

/// Who is enrolled, and how.
#[derive(Clone, Copy)]
pub(super) struct Enrolling<'e> {
    pub id: &'e PersonId,
    pub review: Review,
    pub mode: Mode,
    pub client: &'e Client,
}

impl Service {
    /// Embeds the accepted photos for each counterpart in turn. The answer is waited for, so all
    /// must be done some time before the deadline; a caller who hangs up does not end it, because
    /// the person is stored by then.
    pub(super) fn enroll_for_others(
        &self,
        enrolling: Enrolling<'_>,
        accepted: &[EnrolledPhoto<'_>],
        counterparts: &[Counterpart],
        deadline: Instant,
    ) -> Vec<EnrollmentWarning> {
        let end = deadline - (deadline.saturating_duration_since(Instant::now()) / 10).min(ANSWER);
        let warning = |counterpart: &Counterpart| {
            let Some(live) = &counterpart.live else {
                return Some(("revision_not_ready", "is not ready yet".to_owned()));
            };
            if Instant::now() >= end {
                return Some(("revision_late", "had no time left".to_owned()));
            }
            match self.watched(live, enrolling.client, end, |_| {
                self.enroll_for(live, enrolling, accepted, end)
            }) {
                Ok(0) => None,
                Ok(refused) if refused == accepted.len() => Some((
                    "revision_refused",
                    "found the face in none of the photos".to_owned(),
                )),
                Ok(refused) => Some((
                    "revision_refused",
                    format!(
                        "did not find the face in {refused} of {} photos",
                        accepted.len()
                    ),
                )),
                Err(
                    ServiceError::Run(RunError::Deadline { .. })
                    | ServiceError::People(PeopleError::Run(RunError::Deadline { .. })),
                ) => Some(("revision_late", "was not done in time".to_owned())),
                Err(error) => {
                    tracing::warn!(
                        revision = live.id().short(),
                        "an enrolment is not embedded for another contract: {error}"
                    );
                    let is_run = matches!(
                        error,
                        ServiceError::Run(_) | ServiceError::People(PeopleError::Run(_))
                    );
                    Some(if is_run {
                        ("revision_failed", "failed on the photos".to_owned())
                    } else {
                        (
                            "not_stored",
                            "has samples that could not be stored".to_owned(),
                        )
                    })
                }
            }
        };
        let warnings = counterparts.iter().filter_map(|counterpart| {
            let (code, what) = warning(counterpart)?;
            let (id, role) = (counterpart.id, counterpart.role);
            let message = format!(
                "The {role} revision {} {what}: enrol the person again when it is active, or it may not recognise them.",
                id.short()
            );
            Some(EnrollmentWarning { code, message, revision: id })
        });
        warnings.collect()
    }

    /// Embeds the photos for one revision and stores what it finds; returns of how many photos it
    /// did not find the face.
    fn enroll_for(
        &self,
        live: &Arc<ReadyRevision>,
        Enrolling {
            id, review, mode, ..
        }: Enrolling<'_>,
        accepted: &[EnrolledPhoto<'_>],
        end: Instant,
    ) -> Result<usize, ServiceError> {
        let mut samples = match mode {
            Mode::Replace => Vec::new(),
            Mode::Add => stored(&self.people, live, id)?.unwrap_or_default(),
        };
        let before = samples.len();
        let mut run = live
            .revision
            .begin(CancelScope::from(end))
            .reviewing(review);
        for EnrolledPhoto { photo, place } in accepted {
            let mut analysis = match run.analyze(photo, Purpose::Enroll) {
                Ok(analysis) => analysis,
                Err(RunError::Undecodable(_) | RunError::TooLarge { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let (across, down) = (analysis.width as f32, analysis.height as f32);
            let boxes: Vec<BoundingBox> = analysis
                .faces
                .iter()
                .map(|face| in_shares(&face.face.bounds, across, down))
                .collect();
            let Some(index) = most_overlapping(place, &boxes) else {
                continue;
            };
            let found = analysis.faces.swap_remove(index);
            if found.embedding.is_empty() || samples.len() >= MOST_PHOTOS {
                continue;
            }
            let contract = Some(live.revision.contract().id.clone());
            let embedding = found.embedding;
            let raw = u32::try_from(index)
                .ok()
                .and_then(|index| run.take_raw(index))
                .filter(|raw| *raw != embedding);
            samples.push(Sample {
                embedding,
                raw,
                contract,
                det_score: Some(found.face.score),
                enrolment: None,
            });
        }
        let refused = accepted.len() - (samples.len() - before);
        if samples.len() > before {
            let embeddings: Vec<Vec<f32>> = samples
                .iter()
                .map(|sample| sample.embedding.clone())
                .collect();
            let templates = run.template(&embeddings)?;
            self.people
                .put(id, &samples, SampleLocation::Other, &live.view, &templates)?;
        }
        Ok(refused)
    }
}

/// A box in shares of the picture's width and height: two revisions may scale a picture
/// differently.
pub(super) fn in_shares(bounds: &BoundingBox, across: f32, down: f32) -> BoundingBox {
    BoundingBox {
        x1: bounds.x1 / across,
        y1: bounds.y1 / down,
        x2: bounds.x2 / across,
        y2: bounds.y2 / down,
    }
}
