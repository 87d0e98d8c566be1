//! Faces without storing anything: where they are, what they look like to a recogniser, and who is
//! like whom.

use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, Request, State};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use rostro_service::executor::Client;
use rostro_service::types::Warning;
use rostro_service::types::{Analysis, AnalyzedFace, Purpose};
use rostro_service::{Analyses, Comparison};

use crate::error::ApiError;
use crate::public::openapi::{AuthErrors, BodyErrors, CompareForm, Image, ImageForm};
use crate::public::recognize::{FrameSize, frame, milliseconds};
use crate::request::form::{Form, FormFields, FormLimits};
use crate::request::trace::RequestId;
use crate::{App, ContentType, PipelineHeader, PipelineInfo};

/// What is read of the form of a comparison.
const PAIR: FormFields = FormFields {
    texts: &[],
    files: &["a", "b"],
    refuses_misspelt: false,
    example: "curl -F a=@one.jpg -F b=@other.jpg",
};

/// What is read of the form of one image.
const IMAGE: FormFields = FormFields {
    texts: &[],
    files: &["image"],
    refuses_misspelt: false,
    example: "curl -F image=@photo.jpg",
};

/// The faces of an image.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FacesAnswer {
    faces: Vec<FaceAnswer>,
    frame: FrameSize,
    /// What the caller should know although the image was worked on, such as a picture that is cut
    /// off.
    warnings: Vec<Warning>,
    /// What the embeddings mean: only those of one contract can be compared. Null where none were
    /// asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<String>,
    pipeline: PipelineInfo,
    /// Milliseconds by stage.
    #[schema(value_type = HashMap<String, f64>)]
    timings_ms: Map<String, Value>,
    request_id: String,
}

/// A face.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SeenFace)]
pub(super) struct FaceAnswer {
    /// The detector's confidence, 0 to 1.
    det_score: f32,
    /// Left, upper, right and lower edge in pixels of the upright image.
    bbox: [f32; 4],
    /// Left eye, right eye, nose, left and right corner of the mouth: x and y in pixels of the
    /// upright image.
    landmarks: Vec<[f32; 2]>,
    /// What the pipeline measured, by name.
    #[schema(value_type = HashMap<String, f32>)]
    measures: Map<String, Value>,
    /// The recogniser's output, not normalised.
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Vec<f32>>,
}

/// Two images side by side.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CompareAnswer {
    a: SideAnswer,
    b: SideAnswer,
    /// Cosine similarity of each face of `a` (rows) and each of `b` (columns), -1 to 1.
    similarities: Vec<Vec<f32>>,
    /// The most similar pair; null where either image has no face.
    best: Option<PairAnswer>,
    /// Above which similarity two faces are taken for one person's.
    threshold: f32,
    /// What the caller should know although the images were worked on.
    warnings: Vec<Warning>,
    contract: String,
    pipeline: PipelineInfo,
    /// Milliseconds by stage.
    #[schema(value_type = HashMap<String, f64>)]
    timings_ms: Map<String, Value>,
    request_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct SideAnswer {
    frame: FrameSize,
    faces: Vec<FaceAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
struct PairAnswer {
    /// Which face of each image, from 0.
    a: usize,
    b: usize,
    similarity: f32,
    /// Whether it is above the threshold.
    same_person: bool,
}

/// Find the faces in an image.
#[utoipa::path(
    post,
    path = "/v1/detect",
    tag = "recognise",
    request_body(content((ImageForm = "multipart/form-data"), (Image = "image/jpeg"), (Image = "image/png"), (Image = "image/webp"))),
    responses((status = 200, description = "Every face, largest first, without embeddings", body = FacesAnswer), AuthErrors, BodyErrors)
)]
pub(super) async fn detect(
    state: State<App>,
    id: Extension<RequestId>,
    client: Extension<Client>,
    request: Request,
) -> Result<(PipelineHeader, Json<FacesAnswer>), ApiError> {
    look(state, id, client, request, Purpose::Detect).await
}

/// Find the faces in an image and embed them.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "recognise",
    request_body(content((ImageForm = "multipart/form-data"), (Image = "image/jpeg"), (Image = "image/png"), (Image = "image/webp"))),
    responses((status = 200, description = "Every face, largest first, with its embedding", body = FacesAnswer), AuthErrors, BodyErrors)
)]
pub(super) async fn embeddings(
    state: State<App>,
    id: Extension<RequestId>,
    client: Extension<Client>,
    request: Request,
) -> Result<(PipelineHeader, Json<FacesAnswer>), ApiError> {
    look(state, id, client, request, Purpose::Recognize).await
}

async fn look(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    Extension(client): Extension<Client>,
    request: Request,
    purpose: Purpose,
) -> Result<(PipelineHeader, Json<FacesAnswer>), ApiError> {
    let begun = Instant::now();
    let sent = app
        .received(frame(request, IMAGE, &app.limits.of(&client)))
        .await?;
    let received = begun.elapsed();
    let context = app.service.context(client);
    let (revision, answer) = app.service.analyze([sent.image], purpose, &context).await;
    let Analyses {
        revision: by,
        analyses: [analysis],
        warnings,
        mut stages,
    } = answer.map_err(|error| ApiError::of_service(error).on(revision))?;
    stages.insert(0, ("receive".to_owned(), received));
    let Analysis {
        width,
        height,
        faces,
    } = analysis;
    let answer = FacesAnswer {
        faces: faces.into_iter().map(FaceAnswer::of).collect(),
        frame: FrameSize { width, height },
        warnings,
        contract: (purpose != Purpose::Detect).then(|| by.contract().id.to_string()),
        pipeline: PipelineInfo::of(&by),
        timings_ms: stages.into_iter().map(milliseconds).collect(),
        request_id: id.as_str().to_owned(),
    };
    Ok((PipelineHeader::of(&by), Json(answer)))
}

/// Compare every face of two images.
#[utoipa::path(
    post,
    path = "/v1/compare",
    tag = "recognise",
    request_body(content = CompareForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "How alike the faces are", body = CompareAnswer), AuthErrors, BodyErrors)
)]
pub(super) async fn compare(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Result<(PipelineHeader, Json<CompareAnswer>), ApiError> {
    let begun = Instant::now();
    let images = app.received(pair(request, &app.limits.of(&client))).await?;
    let received = begun.elapsed();
    let context = app.service.context(client);
    let (revision, answer) = app.service.compare(images, &context).await;
    let Comparison {
        similarities,
        best,
        threshold,
        analyses,
    } = answer.map_err(|error| ApiError::of_service(error).on(revision))?;
    let Analyses {
        revision: by,
        analyses: [a, b],
        warnings,
        mut stages,
    } = analyses;
    stages.insert(0, ("receive".to_owned(), received));
    let answer = CompareAnswer {
        similarities,
        best: best.map(|pair| PairAnswer {
            a: pair.a,
            b: pair.b,
            similarity: pair.similarity,
            same_person: pair.similarity > threshold,
        }),
        a: SideAnswer::of(a),
        b: SideAnswer::of(b),
        threshold,
        warnings,
        contract: by.contract().id.to_string(),
        pipeline: PipelineInfo::of(&by),
        timings_ms: stages.into_iter().map(milliseconds).collect(),
        request_id: id.as_str().to_owned(),
    };
    Ok((PipelineHeader::of(&by), Json(answer)))
}

/// The two images of a comparison.
async fn pair(request: Request, limits: &FormLimits) -> Result<[Bytes; 2], ApiError> {
    let mut form = match ContentType::of(request.headers()) {
        ContentType::Multipart => Form::read(request, PAIR, limits).await?,
        ContentType::UrlEncoded => Form::read_url_encoded(request, PAIR, limits).await?,
        ContentType::Missing => Form::read_untyped(request, PAIR, limits).await?,
        ContentType::Image | ContentType::Bytes | ContentType::Zip | ContentType::Other => {
            return Err(ApiError::unsupported_media_type(
                "multipart/form-data with the file fields 'a' and 'b'",
            ));
        }
    };
    let mut files = std::mem::take(&mut form.files);
    let missing = |field: &str| {
        let message = format!(
            "Image file '{field}' not found in the request; a comparison takes the file fields 'a' and 'b'."
        );
        form.without_file(
            ApiError::bad_request("image_missing", message).with("field", field),
            field,
        )
    };
    let mut take = |field: &str| {
        let place = files
            .iter()
            .position(|photo| photo.field == field)
            .ok_or_else(|| missing(field))?;
        Ok(files.swap_remove(place).content)
    };
    Ok([take("a")?, take("b")?])
}

impl SideAnswer {
    fn of(
        Analysis {
            width,
            height,
            faces,
        }: Analysis,
    ) -> Self {
        // The similarities say what the embeddings would.
        let face = |face: AnalyzedFace| {
            FaceAnswer::of(AnalyzedFace {
                embedding: Vec::new(),
                ..face
            })
        };
        Self {
            frame: FrameSize { width, height },
            faces: faces.into_iter().map(face).collect(),
        }
    }
}

impl FaceAnswer {
    fn of(AnalyzedFace { face, embedding }: AnalyzedFace) -> Self {
        let bounds = face.bounds;
        Self {
            det_score: face.score,
            bbox: [bounds.x1, bounds.y1, bounds.x2, bounds.y2],
            landmarks: face
                .landmarks
                .iter()
                .map(|point| [point.x, point.y])
                .collect(),
            measures: face
                .measures
                .into_iter()
                .map(|measure| (measure.name, Value::from(measure.value)))
                .collect(),
            embedding: (!embedding.is_empty()).then_some(embedding),
        }
    }
}
