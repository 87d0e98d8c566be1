//! `POST /process_frame`: who is in a frame.

use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use rostro_common::ids::UNKNOWN;
use rostro_service::deployment::Preference;
use rostro_service::executor::Client;
use rostro_service::types::Decision;
use rostro_service::types::Warning;
use rostro_service::{Recognition, RecognizedFace};

use super::openapi::{AuthErrors, BodyErrors, FrameForm, Image, NotFoundErrors};
use crate::error::ApiError;
use crate::request::body;
use crate::request::form::{Form, FormFields, FormLimits, file_too_large, is_binary};
use crate::request::group::GroupChoice;
use crate::request::query::RESTRICTING;
use crate::request::trace::RequestId;
use crate::{App, ContentType, PipelineHeader, PipelineInfo};

/// Candidates that are answered for each face.
const CANDIDATES: usize = 3;

/// What is read of the form.
const FIELDS: FormFields = FormFields {
    texts: &RESTRICTING,
    files: &["image"],
    refuses_misspelt: true,
    example: "curl -F image=@photo.jpg",
};

/// The header by which a caller asks for the canary's answer, or against it.
const X_ROSTRO_CANARY: HeaderName = HeaderName::from_static("x-rostro-canary");

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FrameAnswer {
    recognized_faces: Vec<FaceAnswer>,
    frame: FrameSize,
    /// What the caller should know although the frame was worked on, such as a picture that is cut
    /// off.
    warnings: Vec<Warning>,
    pipeline: PipelineInfo,
    /// Milliseconds by stage.
    #[schema(value_type = HashMap<String, f64>)]
    timings_ms: Map<String, Value>,
    request_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FrameSize {
    pub width: u32,
    pub height: u32,
}

/// A face. `identity` and `confidence` are what the replaced service answered; the rest stands
/// beside them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecognizedFace)]
struct FaceAnswer {
    /// The person's id, or `Unknown`.
    identity: String,
    /// Two decimals, or `N/A`.
    confidence: String,
    /// Cosine similarity to the person, or to the nearest where unknown; null where nobody is
    /// enrolled.
    similarity: Option<f32>,
    /// Why the face is unknown; null where it is known.
    reason: Option<String>,
    /// The detector's confidence, 0 to 1.
    det_score: f32,
    /// Left, upper, right and lower edge in pixels of the upright image.
    bbox: [f32; 4],
    /// Left eye, right eye, nose, left and right corner of the mouth: x and y in pixels of the
    /// upright image.
    landmarks: Vec<[f32; 2]>,
    /// The nearest people, most similar first.
    candidates: Vec<CandidateAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
struct CandidateAnswer {
    identity: String,
    similarity: f32,
}

/// Who is in a frame.
#[utoipa::path(
    post,
    path = "/process_frame",
    tag = "recognise",
    params(
        ("group" = Option<String>, Query, description = "Looks among the people of this group alone; as the field of the form"),
        ("schedule_id" = Option<String>, Query, description = "The same, ignored as long as there are no groups")
    ),
    request_body(content((FrameForm = "multipart/form-data"), (Image = "image/jpeg"), (Image = "image/png"), (Image = "image/webp"))),
    responses((status = 200, description = "Every face, largest first", body = FrameAnswer), AuthErrors, NotFoundErrors, BodyErrors)
)]
pub(crate) async fn process_frame(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Result<(PipelineHeader, Json<FrameAnswer>), ApiError> {
    let begun = Instant::now();
    let preference = preference(request.headers())?;
    let mut choice = GroupChoice::of_query(request.uri())?;
    let FrameRequest { image, form } = app
        .received(frame(request, FIELDS, &app.limits.of(&client)))
        .await?;
    let received = begun.elapsed();
    let context = app.service.context(client);
    choice.add_form(&form)?;
    let group = choice.members(app.service.groups())?;
    let (revision, answer) = app
        .service
        .recognize(image, group, &context, preference)
        .await;
    let mut recognition = answer.map_err(|error| ApiError::of_service(error).on(revision))?;
    recognition
        .stages
        .insert(0, ("receive".to_owned(), received));
    app.traffic.note_stages(&recognition.stages);
    Ok((
        PipelineHeader::of(&recognition.revision),
        Json(FrameAnswer::of(recognition, &id)),
    ))
}

/// Which revision the caller asks for, by the header `x-rostro-canary`.
fn preference(headers: &HeaderMap) -> Result<Preference, ApiError> {
    match headers.get(X_ROSTRO_CANARY).map(HeaderValue::as_bytes) {
        None => Ok(Preference::None),
        Some(b"always") => Ok(Preference::Canary),
        Some(b"never") => Ok(Preference::Active),
        Some(_) => Err(ApiError::bad_request(
            "invalid_header",
            "The header 'x-rostro-canary' must be 'always' or 'never'.",
        )),
    }
}

/// What a caller sends.
#[derive(Debug)]
pub(crate) struct FrameRequest {
    /// The encoded image.
    pub image: Bytes,
    /// The other fields of the form; none if the body was the image.
    pub form: Form,
}

/// An encoded image, from the form's `image` or the body itself.
pub(crate) async fn frame(
    request: Request,
    fields: FormFields,
    limits: &FormLimits,
) -> Result<FrameRequest, ApiError> {
    let missing = || ApiError::bad_request("image_missing", "Image file not found in the request.");
    let kind = ContentType::of(request.headers());
    match kind {
        ContentType::Multipart => {
            let mut form = Form::read(request, fields, limits).await?;
            let photo = std::mem::take(&mut form.files).into_iter().next();
            let image = photo
                .ok_or_else(|| form.without_file(missing(), "image"))?
                .content;
            Ok(FrameRequest { image, form })
        }
        ContentType::Image
        | ContentType::Bytes
        | ContentType::UrlEncoded
        | ContentType::Missing => {
            let content = body::read(
                request.into_body(),
                limits.memory.collect(limits.file_bytes),
            )
            .await?;
            let image = content
                .ok_or_else(|| file_too_large("body", limits))?
                .into_bytes();
            match kind {
                ContentType::Image => {}
                // A client that names no type for an image's bytes sends it with its default one:
                // curl as a form.
                _ if is_binary(&image) => {}
                // Whether they are an image, decoding tells.
                ContentType::Bytes if !image.is_empty() => {}
                ContentType::UrlEncoded => {
                    let cause = "the body is a form without files (application/x-www-form-urlencoded); send the image with its content type, as \
                                 `curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg` does, or a form with the file field 'image', as \
                                 `curl -F image=@photo.jpg` does";
                    let form = Form::of_url_encoded(&image, fields)?;
                    return Err(form.without_file(missing(), "image").with("cause", cause));
                }
                _ if image.is_empty() => {
                    return Err(Form::default()
                        .without_file(missing(), "image")
                        .with("cause", "there is no body"));
                }
                _ => {
                    let cause = "the body has no content type and is no image; send a form with the file field 'image'";
                    return Err(Form::default()
                        .without_file(missing(), "image")
                        .with("cause", cause));
                }
            }
            Ok(FrameRequest {
                image,
                form: Form::default(),
            })
        }
        ContentType::Zip | ContentType::Other => Err(unsupported()),
    }
}

fn unsupported() -> ApiError {
    ApiError::unsupported_media_type(
        "multipart/form-data with the file field 'image', or the image itself as image/jpeg, image/png or image/webp",
    )
}

/// A stage and its time, as answers have it.
pub(crate) fn milliseconds((stage, time): (String, std::time::Duration)) -> (String, Value) {
    let rounded = (time.as_secs_f64() * 1e6).round() / 1e3;
    (stage, Value::from(rounded))
}

impl FrameAnswer {
    fn of(recognition: Recognition, id: &RequestId) -> Self {
        Self {
            recognized_faces: recognition.faces.into_iter().map(FaceAnswer::of).collect(),
            frame: FrameSize {
                width: recognition.width,
                height: recognition.height,
            },
            warnings: recognition.warnings,
            pipeline: PipelineInfo::of(&recognition.revision),
            timings_ms: recognition.stages.into_iter().map(milliseconds).collect(),
            request_id: id.as_str().to_owned(),
        }
    }
}

impl FaceAnswer {
    fn of(recognized: RecognizedFace) -> Self {
        let RecognizedFace {
            face,
            candidates,
            decision,
        } = recognized;
        let (chosen, confidence, reason) = match decision {
            Decision::Known(known) => (
                candidates.get(known.candidate as usize),
                format!("{:.2}", known.confidence),
                None,
            ),
            Decision::Unknown(reason) => (None, "N/A".to_owned(), Some(reason)),
        };
        let bounds = face.bounds;
        Self {
            identity: chosen.map_or_else(|| UNKNOWN.to_owned(), |candidate| candidate.id.clone()),
            confidence,
            similarity: chosen
                .or(candidates.first())
                .map(|candidate| candidate.similarity),
            reason,
            det_score: face.score,
            bbox: [bounds.x1, bounds.y1, bounds.x2, bounds.y2],
            landmarks: face
                .landmarks
                .iter()
                .map(|point| [point.x, point.y])
                .collect(),
            candidates: candidates
                .iter()
                .take(CANDIDATES)
                .map(|candidate| CandidateAnswer {
                    identity: candidate.id.clone(),
                    similarity: candidate.similarity,
                })
                .collect(),
        }
    }
}
