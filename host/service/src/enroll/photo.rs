//! One photo of an enrolment: its review by the pipeline, and its outcome for the caller.

use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_sandbox::bindings::{BoundingBox, Purpose, Reason, ReviewOutcome};
use rostro_sandbox::error::RunError;
use rostro_sandbox::guest::report::Warning;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::run::Run;

/// Outcome of one photo.
#[derive(Debug)]
pub enum PhotoOutcome {
    /// A face of it was enrolled.
    Accepted {
        /// Score of the detection.
        score: f32,
        /// Warnings about the photo.
        warnings: Vec<PhotoIssue>,
    },
    /// No face of it was enrolled.
    Rejected {
        /// Reasons for the rejection.
        reasons: Vec<PhotoIssue>,
        /// Warnings about the photo.
        warnings: Vec<PhotoIssue>,
    },
}

/// A reason for a rejection, or a warning.
#[derive(Debug)]
pub struct PhotoIssue {
    /// The reason, as policies state it.
    pub reason: Reason,
    /// The person who has this face already, if the caller may learn it.
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

impl PhotoOutcome {
    pub(super) fn rejected(reasons: impl IntoIterator<Item = impl Into<PhotoIssue>>) -> Self {
        Self::Rejected {
            reasons: reasons.into_iter().map(Into::into).collect(),
            warnings: Vec::new(),
        }
    }

    /// Adds the guest's warnings about the photo.
    pub(super) fn with_warnings(mut self, guest: &[Warning]) -> Self {
        let (Self::Accepted { warnings, .. } | Self::Rejected { warnings, .. }) = &mut self;
        warnings.extend(guest.iter().map(|Warning { code, message }| {
            PhotoIssue::from(Reason {
                code: code.clone(),
                message: message.clone(),
                value: None,
                limit: None,
            })
        }));
        self
    }
}

/// The face of a photo that is enrolled.
#[derive(Debug)]
pub(super) struct EnrolledFace<'p> {
    /// The encoded photo.
    pub photo: &'p [u8],
    /// Edges of the face, as shares of the photo's width and height.
    pub place: BoundingBox,
    pub sample: Sample,
}

/// Result of the pipeline's review of a photo.
#[derive(Debug)]
pub(super) enum FaceSelection<'p> {
    /// The policy chose this face.
    Selected(EnrolledFace<'p>),
    /// The photo is unusable, for these reasons.
    Rejected(Vec<Reason>),
}

/// Finds the faces of a photo and has the policy choose one.
///
/// # Errors
///
/// If the pipeline fails. An unreadable photo is rejected and is not an error.
pub(super) fn select_face<'p>(
    run: &mut Run,
    revision: &Revision,
    photo: &'p [u8],
) -> Result<FaceSelection<'p>, RunError> {
    let mut analysis = match run.analyze(photo, Purpose::Enroll) {
        Ok(analysis) => analysis,
        Err(error) => return rejection(error).map(|reason| FaceSelection::Rejected(vec![reason])),
    };
    let index = match run.review(&analysis)? {
        ReviewOutcome::Reject(reasons) => return Ok(FaceSelection::Rejected(reasons)),
        ReviewOutcome::Accept(index) => index,
    };
    // `Run::review` has checked that the index is in range.
    let chosen = analysis.faces.swap_remove(index as usize);
    let size = (analysis.width, analysis.height);
    Ok(FaceSelection::Selected(EnrolledFace {
        photo,
        place: relative_place(&chosen.face.bounds, size),
        sample: sample(run, revision, index, chosen.embedding, chosen.face.score),
    }))
}

/// Returns the sample of a face of the run's last analysis.
pub(super) fn sample(
    run: &mut Run,
    revision: &Revision,
    index: u32,
    embedding: Vec<f32>,
    score: f32,
) -> Sample {
    let raw = run.take_raw(index).filter(|raw| *raw != embedding);
    Sample {
        embedding,
        raw,
        contract: Some(revision.contract().id.clone()),
        det_score: Some(score),
        enrolment: None,
    }
}

/// Returns a box as shares of the picture's width and height, because two revisions may scale a
/// picture differently.
pub(super) fn relative_place(bounds: &BoundingBox, (width, height): (u32, u32)) -> BoundingBox {
    let (width, height) = (width as f32, height as f32);
    BoundingBox {
        x1: bounds.x1 / width,
        y1: bounds.y1 / height,
        x2: bounds.x2 / width,
        y2: bounds.y2 / height,
    }
}

/// Returns the reason why a photo is unusable, if the error is the photo's fault.
fn rejection(error: RunError) -> Result<Reason, RunError> {
    let message = error.to_string();
    match error {
        RunError::Undecodable(_) => Ok(reason("undecodable", message)),
        RunError::TooLarge {
            width,
            height,
            max_pixels,
        } => Ok(Reason {
            value: Some(u64::from(width).saturating_mul(height.into()) as f32),
            limit: Some(max_pixels as f32),
            ..reason("image_too_large", message)
        }),
        error => Err(error),
    }
}

/// Returns a reason without numbers.
pub(super) fn reason(code: &str, message: String) -> Reason {
    Reason {
        code: code.to_owned(),
        message,
        value: None,
        limit: None,
    }
}
