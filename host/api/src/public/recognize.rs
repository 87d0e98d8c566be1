//! `POST /process_frame`: recognises the people in a frame.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use rostro_common::ids::UNKNOWN;
use rostro_service::deployment::Preference;
use rostro_service::types::{Candidate, Event, GuestContext, Identity, Revision, Warning};
use rostro_service::{FrameInput, Identification, Recognition, RecognizedFace};

use super::openapi::{AuthErrors, BodyErrors, FrameForm, Image, NotFoundErrors};
use super::responses::{
    FrameSize, PipelineHeader, PipelineInfo, StaleHeader, measures, milliseconds, now_ms,
};
use crate::error::ApiError;
use crate::request::form::FormFields;
use crate::request::frame::{self, FrameRequest};
use crate::request::frame_options::FrameOptions;
use crate::request::group::GroupChoice;
use crate::request::trace::RequestId;
use crate::request::upload::{Received, Upload};
use crate::state::App;

/// Number of candidates in the answer for each face.
const CANDIDATES: usize = 3;

/// Fields of the form.
const FIELDS: FormFields = FormFields {
    texts: &["group", "schedule_id", "closeness", "context"],
    files: &["image"],
    refuses_misspelt: true,
    example: "curl -F image=@photo.jpg",
    accepted: frame::ACCEPTED,
};

/// Header by which a caller requests the canary or excludes it.
const X_ROSTRO_CANARY: HeaderName = HeaderName::from_static("x-rostro-canary");

/// Faces of a frame with the people they belong to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FrameAnswer {
    recognized_faces: Vec<FaceAnswer>,
    frame: FrameSize,
    /// Events of the policy.
    events: Vec<EventAnswer>,
    /// Warnings about a frame that was analysed, such as a truncated picture.
    warnings: Vec<Warning>,
    pipeline: FramePipeline,
    /// Milliseconds by stage.
    #[schema(value_type = HashMap<String, f64>)]
    timings_ms: Map<String, Value>,
    request_id: String,
}

/// Revision that answered, and how it computed.
#[derive(Debug, Serialize, ToSchema)]
struct FramePipeline {
    #[serde(flatten)]
    revision: PipelineInfo,
    policy: PolicyInfo,
    /// `int8` if the recogniser computed in 8-bit integers, else `float`.
    #[schema(example = "float")]
    precision: String,
}

/// Component that decided on the faces.
#[derive(Debug, Serialize, ToSchema)]
struct PolicyInfo {
    name: String,
    version: String,
}

impl PolicyInfo {
    fn of(revision: &Revision) -> Self {
        let Identity { name, version } = revision.policy_identity().clone();
        Self { name, version }
    }
}

/// A face of a frame. `identity` and `confidence` are the fields of the replaced service.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecognizedFace)]
struct FaceAnswer {
    /// The person's id, or `Unknown`.
    identity: String,
    /// Two decimals, or `N/A`.
    confidence: String,
    /// Cosine similarity to the person, or of an unknown face to the first of `candidates`. Null
    /// without candidates.
    similarity: Option<f32>,
    /// Reason why the face is unknown. Null if it is known.
    reason: Option<String>,
    /// Number of the face's track in the session, which stays the same from frame to frame. Absent
    /// outside of a session, and if the pipeline does not track.
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<u32>,
    /// The detector's confidence, 0 to 1.
    det_score: f32,
    /// Left, upper, right and lower edge in pixels of the upright image.
    bbox: [f32; 4],
    /// Left eye, right eye, nose, left and right corner of the mouth: x and y in pixels of the
    /// upright image.
    landmarks: Vec<[f32; 2]>,
    /// Measures of the pipeline, by name: `sharpness`, `yaw`, `size`, and others.
    measures: BTreeMap<String, f32>,
    /// The nearest people that the policy shows, in its order: the most similar first unless it says
    /// differently.
    candidates: Vec<CandidateAnswer>,
}

/// Event of the policy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyEvent)]
struct EventAnswer {
    /// For programs: stable, lower-case letters, digits and `_`.
    code: String,
    /// Index in `recognized_faces` of the face that it is about.
    face: Option<u32>,
    /// A number that belongs to it.
    value: Option<f32>,
    /// For people.
    message: String,
}

impl EventAnswer {
    fn of(event: Event) -> Self {
        let Event {
            code,
            face,
            value,
            message,
        } = event;
        Self {
            code,
            face,
            value,
            message,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct CandidateAnswer {
    identity: String,
    similarity: f32,
}

impl CandidateAnswer {
    fn of(candidate: Candidate) -> Self {
        Self {
            identity: candidate.id,
            similarity: candidate.similarity,
        }
    }
}

/// Recognise the people in a frame.
#[utoipa::path(
    post,
    path = "/process_frame",
    tag = "recognise",
    params(
        ("group" = Option<String>, Query, description = "Searches only this group; as in the form"),
        ("schedule_id" = Option<String>, Query, description = "Alias of `group`; ignored without groups"),
        ("closeness" = Option<String>, Query, description = "How closely the detector looks: `coarse`, `auto` or `fine`, \
            if the pipeline lets requests choose; as in the form"),
        ("context" = Option<String>, Query, description = "Text for the pipeline, at most 1,024 bytes; as in the form")
    ),
    request_body(content(
        (FrameForm = "multipart/form-data"),
        (Image = "image/jpeg"),
        (Image = "image/png"),
        (Image = "image/webp")
    )),
    responses(
        (
            status = 200,
            description = "Every face, largest first",
            body = FrameAnswer,
            headers(("x-rostro-stale" = u64, description = "Seconds since the node had its database, \
                if it answers without; absent otherwise"))
        ),
        AuthErrors, NotFoundErrors, BodyErrors
    )
)]
pub(super) async fn process_frame(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    upload: Upload,
) -> Result<(PipelineHeader, StaleHeader, Json<FrameAnswer>), ApiError> {
    let preference = preference(upload.headers())?;
    let mut choice = GroupChoice::of_query(upload.uri())?;
    let mut options = FrameOptions::of_query(upload.uri())?;
    let Received {
        content: FrameRequest { image, form },
        context,
        receive_time,
    } = upload.frame(FIELDS).await?;
    choice.add_form(&form)?;
    options.add_form(&form)?;
    let (group, members) = choice.members(app.service.groups())?.unzip();
    let frame = FrameInput {
        image,
        members,
        context: GuestContext {
            stream: None,
            group,
            time: now_ms(),
            context: options.context.unwrap_or_default(),
        },
        closeness: options.closeness,
        arrived: Instant::now(),
    };
    let mut recognition = app
        .service
        .recognize(frame, &context, preference)
        .await
        .map_err(ApiError::of_revision)?;
    recognition
        .stages
        .insert(0, ("receive".to_owned(), receive_time));
    app.traffic.record_stages(&recognition.stages);
    Ok((
        PipelineHeader::of(&recognition.revision),
        StaleHeader(recognition.stale),
        Json(FrameAnswer::of(recognition, &id)),
    ))
}

/// Returns the revision that the caller prefers, by the header `x-rostro-canary`.
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

impl FrameAnswer {
    pub(super) fn of(recognition: Recognition, id: &RequestId) -> Self {
        Self {
            recognized_faces: recognition.faces.into_iter().map(FaceAnswer::of).collect(),
            frame: FrameSize {
                width: recognition.width,
                height: recognition.height,
            },
            events: recognition
                .events
                .into_iter()
                .map(EventAnswer::of)
                .collect(),
            warnings: recognition.warnings,
            pipeline: FramePipeline {
                revision: PipelineInfo::of(&recognition.revision),
                policy: PolicyInfo::of(&recognition.revision),
                precision: recognition.precision.to_string(),
            },
            timings_ms: recognition.stages.into_iter().map(milliseconds).collect(),
            request_id: id.as_str().to_owned(),
        }
    }
}

impl FaceAnswer {
    fn of(recognized: RecognizedFace) -> Self {
        let RecognizedFace {
            face,
            track,
            candidates,
            identification,
        } = recognized;
        let nearest = candidates.first().map(|candidate| candidate.similarity);
        let (identity, confidence, similarity, reason) = match identification {
            Identification::Known { person, confidence } => (
                person.id,
                format!("{confidence:.2}"),
                Some(person.similarity),
                None,
            ),
            Identification::Unknown(reason) => {
                (UNKNOWN.to_owned(), "N/A".to_owned(), nearest, Some(reason))
            }
        };
        let bounds = face.bounds;
        Self {
            identity,
            confidence,
            similarity,
            reason,
            track,
            det_score: face.score,
            bbox: [bounds.x1, bounds.y1, bounds.x2, bounds.y2],
            landmarks: face
                .landmarks
                .iter()
                .map(|point| [point.x, point.y])
                .collect(),
            measures: measures(face.measures),
            candidates: candidates
                .into_iter()
                .take(CANDIDATES)
                .map(CandidateAnswer::of)
                .collect(),
        }
    }
}
