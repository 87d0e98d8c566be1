//! `POST /process-images`: enrol a person from photos.

use axum::Json;
use axum::extract::{Extension, Request, State};
use serde::Serialize;
use utoipa::ToSchema;

use rostro_common::ids::PersonId;
use rostro_service::deployment::Actor;
use rostro_service::executor::{Client, RequestContext};
use rostro_service::types::Reason;
use rostro_service::types::Review;
use rostro_service::types::Warning;
use rostro_service::{EnrollmentWarning, Mode, PhotoIssue, PhotoOutcome};

use super::openapi::{AuthErrors, BodyErrors, EnrollForm, WriteErrors};
use crate::error::{ApiError, as_json};
use crate::request::form::{Form, FormFields, FormLimits};
use crate::request::query::refuse_misspelt;
use crate::request::trace::RequestId;
use crate::{App, ContentType, PipelineHeader, PipelineInfo};

/// The names of the field with the person's id; the first that is there wins.
const IDS: [&str; 2] = ["student_id", "id"];

/// What is read of the form.
const FIELDS: FormFields = FormFields {
    texts: &["student_id", "id", "review"],
    files: &["images"],
    refuses_misspelt: true,
    example: EXAMPLE,
};

/// How photos are sent.
const EXAMPLE: &str = "curl -F student_id=ID -F images=@photo.jpg";

/// The answer. `status`, `filepath` and `message` are what the replaced service answered; the rest
/// stands beside them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EnrollAnswer {
    status: &'static str,
    filepath: String,
    message: String,
    accepted: Vec<AcceptedPhoto>,
    rejected: Vec<RejectedPhoto>,
    /// What the caller should know although the person was enrolled: all that the pipeline warns
    /// of, and what other revisions, which may serve next, lack of this enrolment.
    warnings: Vec<WarningAnswer>,
    /// False where the disk cannot sync folders, so that a crash of the machine may undo the
    /// enrolment.
    durable: bool,
    /// How strictly the photos were judged: as the operator set, or as the caller asked if that is
    /// stricter.
    review: Review,
    pipeline: PipelineInfo,
    request_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct AcceptedPhoto {
    /// Which photo of the request, from 0.
    image: usize,
    file_name: String,
    det_score: f32,
    /// What is odd about it.
    warnings: Vec<ReasonAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RejectedPhoto {
    /// Which photo of the request, from 0.
    image: usize,
    file_name: String,
    reasons: Vec<ReasonAnswer>,
    /// What is odd about it, besides the reasons.
    warnings: Vec<ReasonAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
struct WarningAnswer {
    code: String,
    message: String,
    /// The revision that it is about, if it is about another than the active one.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ReasonAnswer {
    code: String,
    message: String,
    value: Option<f32>,
    limit: Option<f32>,
    /// Of `another_person`: whose the face is already. Only callers are told whose key may enrol
    /// and manage.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

/// What a caller sends to enrol somebody.
#[derive(Debug)]
pub(crate) struct Photos {
    form: Form,
    /// How strictly they are to be judged, if the caller says.
    review: Option<Review>,
}

impl Photos {
    /// Reads the form, which must have photos.
    pub(crate) async fn read(request: Request, limits: &FormLimits) -> Result<Self, ApiError> {
        Self::of(form(request, limits).await?)
    }

    fn of(form: Form) -> Result<Self, ApiError> {
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

/// Enrol a person from photos, in place of those before.
#[utoipa::path(
    post,
    path = "/process-images",
    tag = "enrol",
    request_body(content = EnrollForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "What became of each photo", body = EnrollAnswer), AuthErrors, BodyErrors, WriteErrors)
)]
pub(crate) async fn process_images(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Extension(actor): Extension<Actor>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Result<(PipelineHeader, Json<EnrollAnswer>), ApiError> {
    refuse_misspelt(request.uri())?;
    let form = app.received(form(request, &app.limits.of(&client))).await?;
    let context = app.service.context(client);
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
    EnrollAnswer::enroll(
        &app,
        id,
        Photos::of(form)?,
        Mode::Replace,
        &actor,
        &request_id,
        &context,
    )
    .await
}

impl EnrollAnswer {
    /// Enrols somebody and says what became of each photo.
    pub(crate) async fn enroll(
        app: &App,
        id: PersonId,
        Photos { form, review }: Photos,
        mode: Mode,
        actor: &Actor,
        request_id: &RequestId,
        context: &RequestContext,
    ) -> Result<(PipelineHeader, Json<Self>), ApiError> {
        let names: Vec<String> = form
            .files
            .iter()
            .map(|photo| photo.file_name.clone())
            .collect();
        let (revision, answer) = app
            .service
            .enroll(id.clone(), form.files, review, mode, actor, context)
            .await;
        let enrollment = answer.map_err(|error| ApiError::of_service(error).on(revision))?;
        let (accepted, rejected) = outcomes(names, enrollment.photos);
        let Some(path) = enrollment.path else {
            let message = "Could not extract any high-quality embeddings from the provided images.";
            let refused =
                ApiError::bad_request("no_usable_image", message).because(&causes(&rejected));
            return Err(refused
                .with("rejected", as_json(&rejected))
                .with("review", as_json(&enrollment.review))
                .on(revision));
        };
        let durable = app.service.people().is_durable();
        let durable = durable.map_err(|error| ApiError::of_service(error.into()).on(revision))?;
        let answer = Self {
            status: "success",
            filepath: path.display().to_string(),
            message: format!("Embeddings for '{id}' saved successfully."),
            accepted,
            rejected,
            warnings: WarningAnswer::all(enrollment.pipeline_warnings, enrollment.warnings),
            durable,
            review: enrollment.review,
            pipeline: PipelineInfo::of(&enrollment.revision),
            request_id: request_id.as_str().to_owned(),
        };
        Ok((PipelineHeader::of(&enrollment.revision), Json(answer)))
    }
}

async fn form(request: Request, limits: &FormLimits) -> Result<Form, ApiError> {
    match ContentType::of(request.headers()) {
        ContentType::Multipart => Form::read(request, FIELDS, limits).await,
        ContentType::UrlEncoded => Form::read_url_encoded(request, FIELDS, limits).await,
        ContentType::Missing => Form::read_untyped(request, FIELDS, limits).await,
        ContentType::Image | ContentType::Bytes | ContentType::Zip | ContentType::Other => {
            Err(ApiError::unsupported_media_type(
                "multipart/form-data with the field 'student_id' and the file field 'images'",
            ))
        }
    }
}

/// Why photos were refused, for the log: the codes of their reasons, and what is wrong with a file
/// that is no usable picture. Other messages are for the caller alone.
fn causes(rejected: &[RejectedPhoto]) -> String {
    let reason = |reason: &ReasonAnswer| match reason.code.as_str() {
        "undecodable" | "image_too_large" => format!("{} ({})", reason.code, reason.message),
        code => code.to_owned(),
    };
    let photo = |photo: &RejectedPhoto| {
        let reasons: Vec<String> = photo.reasons.iter().map(reason).collect();
        format!("photo {}: {}", photo.image, reasons.join(", "))
    };
    // Of a hundred photos a few say what is wrong with them.
    let told: Vec<String> = rejected.iter().take(5).map(photo).collect();
    let more = rejected.len().saturating_sub(told.len());
    if more > 0 {
        format!("{}; {more} more photos", told.join("; "))
    } else {
        told.join("; ")
    }
}

fn outcomes(
    names: Vec<String>,
    photos: Vec<PhotoOutcome>,
) -> (Vec<AcceptedPhoto>, Vec<RejectedPhoto>) {
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
    (accepted, rejected)
}

impl WarningAnswer {
    /// The warnings of the pipeline, and those about other revisions.
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
    fn of(finding: PhotoIssue) -> Self {
        let PhotoIssue {
            reason:
                Reason {
                    code,
                    message,
                    value,
                    limit,
                },
            identity,
        } = finding;
        Self {
            code,
            message,
            value,
            limit,
            identity: identity.map(|id| id.to_string()),
        }
    }
}
