//! `POST /process-images`: enrols a person from photos.

use axum::Json;
use axum::extract::{Extension, State};
use serde::Serialize;
use utoipa::ToSchema;

use rostro_common::ids::PersonId;
use rostro_service::deployment::Actor;
use rostro_service::executor::RequestContext;
use rostro_service::people::PeopleError;
use rostro_service::types::{Reason, Review, Warning};
use rostro_service::{
    EnrollRequest, Enrollment, EnrollmentWarning, Mode, PhotoIssue, PhotoOutcome,
};

use super::openapi::{AuthErrors, BodyErrors, EnrollForm, WriteErrors};
use super::responses::{PipelineHeader, PipelineInfo};
use crate::error::{ApiError, to_json};
use crate::request::form::{Form, FormFields};
use crate::request::query::refuse_misspelt;
use crate::request::trace::RequestId;
use crate::request::upload::{Received, Upload};
use crate::state::App;

/// Names of the field with the person's id. The first one that is not empty counts.
const IDS: [&str; 2] = ["student_id", "id"];

/// Fields of the form.
pub(super) const FIELDS: FormFields = FormFields {
    texts: &["student_id", "id", "review"],
    files: &["images"],
    refuses_misspelt: true,
    example: "curl -F student_id=ID -F images=@photo.jpg",
    accepted: "multipart/form-data with the field 'student_id' and the file field 'images'",
};

/// Largest number of photos in the logged cause of an enrolment without usable photos.
const MAX_LOGGED_PHOTOS: usize = 5;

/// Result of an enrolment. `status`, `filepath` and `message` are the fields of the replaced
/// service.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EnrollAnswer {
    status: &'static str,
    filepath: String,
    message: String,
    accepted: Vec<AcceptedPhoto>,
    rejected: Vec<RejectedPhoto>,
    /// Warnings about a person who was enrolled: those of the pipeline, and what other revisions,
    /// which may serve next, lack of this enrolment.
    warnings: Vec<WarningAnswer>,
    /// False where the disk cannot sync folders, so that a crash of the machine may undo the
    /// enrolment.
    durable: bool,
    /// Review of the photos: the stricter one of the operator's setting and the request.
    review: Review,
    pipeline: PipelineInfo,
    request_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct AcceptedPhoto {
    /// Number of the photo in the request, from 0.
    image: usize,
    file_name: String,
    det_score: f32,
    /// Warnings about a photo that was accepted.
    warnings: Vec<ReasonAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RejectedPhoto {
    /// Number of the photo in the request, from 0.
    image: usize,
    file_name: String,
    reasons: Vec<ReasonAnswer>,
    /// Warnings in addition to the reasons.
    warnings: Vec<ReasonAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
struct WarningAnswer {
    code: String,
    message: String,
    /// Revision of the warning, if it is not the active one.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ReasonAnswer {
    code: String,
    message: String,
    value: Option<f32>,
    limit: Option<f32>,
    /// Of `another_person`: the owner of the face. Present only for keys that may enrol
    /// and manage.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

/// Photos of a person to enrol.
#[derive(Debug)]
pub(super) struct Photos {
    form: Form,
    /// Requested review.
    review: Option<Review>,
}

/// Call of a route that enrols a person.
#[derive(Debug)]
pub(super) struct EnrollCall {
    pub(super) id: PersonId,
    pub(super) photos: Photos,
    pub(super) mode: Mode,
    pub(super) actor: Actor,
    pub(super) request_id: RequestId,
    pub(super) context: RequestContext,
}

/// Results for the photos of one call.
#[derive(Debug)]
struct PhotoAnswers {
    accepted: Vec<AcceptedPhoto>,
    rejected: Vec<RejectedPhoto>,
}

impl Photos {
    /// Takes the photos of a form.
    ///
    /// # Errors
    ///
    /// If there are none, or the review is not valid.
    pub(super) fn of(form: Form) -> Result<Self, ApiError> {
        let review = form.text(&["review"]).map(str::parse).transpose();
        let review = review.map_err(|error| {
            ApiError::bad_request(
                "invalid_review",
                format!("Field 'review' is not valid: {error}."),
            )
        })?;
        if form.files.is_empty() {
            let missing = ApiError::bad_request(
                "images_missing",
                "No images provided in the 'images' field.",
            );
            return Err(form.without_file(missing, "images"));
        }
        Ok(Self { form, review })
    }
}

/// Enrol a person from photos. They replace earlier photos.
#[utoipa::path(
    post,
    path = "/process-images",
    tag = "enrol",
    request_body(content = EnrollForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Result for each photo", body = EnrollAnswer),
        AuthErrors, BodyErrors, WriteErrors
    )
)]
pub(super) async fn process_images(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Extension(actor): Extension<Actor>,
    upload: Upload,
) -> Result<(PipelineHeader, Json<EnrollAnswer>), ApiError> {
    refuse_misspelt(upload.uri())?;
    let Received {
        content: form,
        context,
        ..
    } = upload.form(FIELDS).await?;
    let missing = || {
        form.without_text(
            ApiError::bad_request("student_id_missing", "Field 'student_id' is required."),
            "student_id",
            &IDS,
        )
    };
    let id = form
        .text(&IDS)
        .filter(|id| !id.trim().is_empty())
        .ok_or_else(missing)?;
    let id: PersonId = id.parse().map_err(|error| {
        ApiError::bad_request(
            "invalid_student_id",
            format!("Field 'student_id' is not valid: {error}."),
        )
    })?;
    let call = EnrollCall {
        id,
        photos: Photos::of(form)?,
        mode: Mode::Replace,
        actor,
        request_id,
        context,
    };
    enroll_photos(&app, call).await
}

/// Enrols a person and reports the result for each photo.
///
/// # Errors
///
/// If no photo can be used, or the service fails.
pub(super) async fn enroll_photos(
    app: &App,
    call: EnrollCall,
) -> Result<(PipelineHeader, Json<EnrollAnswer>), ApiError> {
    let Photos { form, review } = call.photos;
    let names: Vec<String> = form
        .files
        .iter()
        .map(|photo| photo.file_name.clone())
        .collect();
    let request = EnrollRequest {
        id: call.id.clone(),
        photos: form.files,
        review,
        mode: call.mode,
        actor: call.actor,
    };
    let Enrollment {
        revision,
        written,
        review,
        photos,
        warnings,
        pipeline_warnings,
    } = app
        .service
        .enroll(request, &call.context)
        .await
        .map_err(ApiError::of_revision)?;
    let PhotoAnswers { accepted, rejected } = PhotoAnswers::of(names, photos);
    let Some(written) = written else {
        return Err(no_usable_image(&rejected, review).on_revision(revision.digest()));
    };
    let durable = written.durability.into_result().map_err(|error| {
        ApiError::of_service(PeopleError::from(error).into()).on_revision(revision.digest())
    })?;
    let answer = EnrollAnswer {
        status: "success",
        filepath: written.path.display().to_string(),
        message: format!("Embeddings for '{}' saved successfully.", call.id),
        accepted,
        rejected,
        warnings: WarningAnswer::all(pipeline_warnings, warnings),
        durable,
        review,
        pipeline: PipelineInfo::of(&revision),
        request_id: call.request_id.as_str().to_owned(),
    };
    Ok((PipelineHeader::of(&revision), Json(answer)))
}

/// Returns the error for an enrolment of which no photo was accepted.
fn no_usable_image(rejected: &[RejectedPhoto], review: Review) -> ApiError {
    let message = "Could not extract any high-quality embeddings from the provided images.";
    ApiError::bad_request("no_usable_image", message)
        .with_cause(&logged_cause(rejected))
        .with("rejected", to_json(&rejected))
        .with("review", to_json(&review))
}

/// Describes rejected photos for the log: the codes of their reasons, and the messages about files
/// that are no usable pictures. Other messages are only for the caller.
fn logged_cause(rejected: &[RejectedPhoto]) -> String {
    let reason = |reason: &ReasonAnswer| match reason.code.as_str() {
        "undecodable" | "image_too_large" => format!("{} ({})", reason.code, reason.message),
        code => code.to_owned(),
    };
    let photo = |photo: &RejectedPhoto| {
        let reasons: Vec<String> = photo.reasons.iter().map(reason).collect();
        format!("photo {}: {}", photo.image, reasons.join(", "))
    };
    let first: Vec<String> = rejected.iter().take(MAX_LOGGED_PHOTOS).map(photo).collect();
    let more = rejected.len().saturating_sub(first.len());
    if more > 0 {
        format!("{}; {more} more photos", first.join("; "))
    } else {
        first.join("; ")
    }
}

impl PhotoAnswers {
    /// Divides the results into accepted and rejected photos.
    fn of(names: Vec<String>, photos: Vec<PhotoOutcome>) -> Self {
        let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
        for (image, (file_name, outcome)) in names.into_iter().zip(photos).enumerate() {
            match outcome {
                PhotoOutcome::Accepted { score, warnings } => {
                    let warnings = warnings.into_iter().map(ReasonAnswer::of).collect();
                    accepted.push(AcceptedPhoto {
                        image,
                        file_name,
                        det_score: score,
                        warnings,
                    });
                }
                PhotoOutcome::Rejected { reasons, warnings } => {
                    let [reasons, warnings] = [reasons, warnings]
                        .map(|reasons| reasons.into_iter().map(ReasonAnswer::of).collect());
                    rejected.push(RejectedPhoto {
                        image,
                        file_name,
                        reasons,
                        warnings,
                    });
                }
            }
        }
        Self { accepted, rejected }
    }
}

impl WarningAnswer {
    /// Joins the warnings of the pipeline and those about other revisions.
    fn all(of_pipeline: Vec<Warning>, of_others: Vec<EnrollmentWarning>) -> Vec<Self> {
        let own = of_pipeline
            .into_iter()
            .map(|Warning { code, message }| Self {
                code,
                message,
                revision: None,
            });
        own.chain(of_others.into_iter().map(Self::of)).collect()
    }

    fn of(warning: EnrollmentWarning) -> Self {
        Self {
            code: warning.code.to_owned(),
            message: warning.message,
            revision: Some(warning.revision.to_string()),
        }
    }
}

impl ReasonAnswer {
    fn of(issue: PhotoIssue) -> Self {
        let PhotoIssue {
            reason:
                Reason {
                    code,
                    message,
                    value,
                    limit,
                },
            identity,
        } = issue;
        Self {
            code,
            message,
            value,
            limit,
            identity: identity.map(|id| id.to_string()),
        }
    }
}
