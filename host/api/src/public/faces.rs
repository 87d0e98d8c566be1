//! `/v1/detect`, `/v1/embeddings` and `/v1/compare`: analyse faces and store nothing.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use rostro_service::types::{Analysis, AnalyzedFace, Purpose, Warning};
use rostro_service::{Analyses, Comparison};

use super::openapi::{AuthErrors, BodyErrors, CompareForm, Image, ImageForm};
use super::responses::{FrameSize, PipelineHeader, PipelineInfo, measures, milliseconds};
use crate::error::ApiError;
use crate::request::form::{Form, FormFields};
use crate::request::frame;
use crate::request::trace::RequestId;
use crate::request::upload::{Received, Upload};
use crate::state::App;

/// Fields of the form of a comparison.
const PAIR: FormFields = FormFields {
    texts: &[],
    files: &["a", "b"],
    refuses_misspelt: false,
    example: "curl -F a=@one.jpg -F b=@other.jpg",
    accepted: "multipart/form-data with the file fields 'a' and 'b'",
};

/// Fields of the form of one image.
const IMAGE: FormFields = FormFields {
    texts: &[],
    files: &["image"],
    refuses_misspelt: false,
    example: "curl -F image=@photo.jpg",
    accepted: frame::ACCEPTED,
};

/// Faces of an image.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FacesAnswer {
    faces: Vec<AnalyzedFaceAnswer>,
    frame: FrameSize,
    /// Warnings about an image that was analysed, such as a truncated picture.
    warnings: Vec<Warning>,
    /// Contract of the embeddings. Only embeddings of one contract can be compared. Absent without
    /// embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<String>,
    pipeline: PipelineInfo,
    /// Milliseconds by stage.
    #[schema(value_type = HashMap<String, f64>)]
    timings_ms: Map<String, Value>,
    request_id: String,
}

/// A face of an image.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SeenFace)]
pub(super) struct AnalyzedFaceAnswer {
    /// The detector's confidence, 0 to 1.
    det_score: f32,
    /// Left, upper, right and lower edge in pixels of the upright image.
    bbox: [f32; 4],
    /// Left eye, right eye, nose, left and right corner of the mouth: x and y in pixels of the
    /// upright image.
    landmarks: Vec<[f32; 2]>,
    /// Measures of the pipeline, by name.
    measures: BTreeMap<String, f32>,
    /// Output of the recogniser, not normalised.
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Vec<f32>>,
}

/// Comparison of two images.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CompareAnswer {
    a: SideAnswer,
    b: SideAnswer,
    /// Cosine similarity of each face of `a` (rows) and each of `b` (columns), -1 to 1.
    similarities: Vec<Vec<f32>>,
    /// The most similar pair; null where either image has no face.
    best: Option<PairAnswer>,
    /// Similarity above which two faces count as one person.
    threshold: f32,
    /// Warnings about images that were analysed.
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
    faces: Vec<AnalyzedFaceAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
struct PairAnswer {
    /// Number of the face in each image, from 0.
    a: usize,
    b: usize,
    similarity: f32,
    /// Whether the similarity is above the threshold.
    same_person: bool,
}

/// Find the faces in an image.
#[utoipa::path(
    post,
    path = "/v1/detect",
    tag = "recognise",
    request_body(content(
        (ImageForm = "multipart/form-data"),
        (Image = "image/jpeg"),
        (Image = "image/png"),
        (Image = "image/webp")
    )),
    responses(
        (status = 200, description = "Faces, largest first, without embeddings", body = FacesAnswer),
        AuthErrors, BodyErrors
    )
)]
pub(super) async fn detect(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    upload: Upload,
) -> Result<(PipelineHeader, Json<FacesAnswer>), ApiError> {
    analyze(&app, &id, upload, Purpose::Detect).await
}

/// Find the faces in an image and embed them.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "recognise",
    request_body(content(
        (ImageForm = "multipart/form-data"),
        (Image = "image/jpeg"),
        (Image = "image/png"),
        (Image = "image/webp")
    )),
    responses(
        (status = 200, description = "Faces, largest first, with embeddings", body = FacesAnswer),
        AuthErrors, BodyErrors
    )
)]
pub(super) async fn embeddings(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    upload: Upload,
) -> Result<(PipelineHeader, Json<FacesAnswer>), ApiError> {
    analyze(&app, &id, upload, Purpose::Recognize).await
}

async fn analyze(
    app: &App,
    id: &RequestId,
    upload: Upload,
    purpose: Purpose,
) -> Result<(PipelineHeader, Json<FacesAnswer>), ApiError> {
    let Received {
        content: frame,
        context,
        receive_time,
    } = upload.frame(IMAGE).await?;
    let Analyses {
        revision,
        analyses: [analysis],
        warnings,
        mut stages,
    } = app
        .service
        .analyze([frame.image], purpose, &context)
        .await
        .map_err(ApiError::of_revision)?;
    stages.insert(0, ("receive".to_owned(), receive_time));
    let Analysis {
        width,
        height,
        faces,
    } = analysis;
    let answer = FacesAnswer {
        faces: faces.into_iter().map(AnalyzedFaceAnswer::of).collect(),
        frame: FrameSize { width, height },
        warnings,
        contract: (purpose != Purpose::Detect).then(|| revision.contract().id.to_string()),
        pipeline: PipelineInfo::of(&revision),
        timings_ms: stages.into_iter().map(milliseconds).collect(),
        request_id: id.as_str().to_owned(),
    };
    Ok((PipelineHeader::of(&revision), Json(answer)))
}

/// Compare every face of two images.
#[utoipa::path(
    post,
    path = "/v1/compare",
    tag = "recognise",
    request_body(content = CompareForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Similarities of the faces", body = CompareAnswer),
        AuthErrors, BodyErrors
    )
)]
pub(super) async fn compare(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    upload: Upload,
) -> Result<(PipelineHeader, Json<CompareAnswer>), ApiError> {
    let Received {
        content: form,
        context,
        receive_time,
    } = upload.form(PAIR).await?;
    let images = pair(form)?;
    let Comparison {
        similarities,
        best,
        threshold,
        analyses,
    } = app
        .service
        .compare(images, &context)
        .await
        .map_err(ApiError::of_revision)?;
    let Analyses {
        revision,
        analyses: [a, b],
        warnings,
        mut stages,
    } = analyses;
    stages.insert(0, ("receive".to_owned(), receive_time));
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
        contract: revision.contract().id.to_string(),
        pipeline: PipelineInfo::of(&revision),
        timings_ms: stages.into_iter().map(milliseconds).collect(),
        request_id: id.as_str().to_owned(),
    };
    Ok((PipelineHeader::of(&revision), Json(answer)))
}

/// Takes the two images of a comparison out of its form.
fn pair(mut form: Form) -> Result<[Bytes; 2], ApiError> {
    let mut files = std::mem::take(&mut form.files);
    let missing = |field: &str| {
        let message = format!(
            "Image file '{field}' not found in the request; a comparison takes the file fields 'a' \
             and 'b'."
        );
        form.without_file(
            ApiError::bad_request("image_missing", message).with("field", field),
            field,
        )
    };
    let mut take = |field: &str| {
        let index = files
            .iter()
            .position(|photo| photo.field == field)
            .ok_or_else(|| missing(field))?;
        Ok(files.swap_remove(index).content)
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
        // The similarities make the embeddings unnecessary.
        let face = |face: AnalyzedFace| {
            AnalyzedFaceAnswer::of(AnalyzedFace {
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

impl AnalyzedFaceAnswer {
    fn of(
        AnalyzedFace {
            face, embedding, ..
        }: AnalyzedFace,
    ) -> Self {
        let bounds = face.bounds;
        Self {
            det_score: face.score,
            bbox: [bounds.x1, bounds.y1, bounds.x2, bounds.y2],
            landmarks: face
                .landmarks
                .iter()
                .map(|point| [point.x, point.y])
                .collect(),
            measures: measures(face.measures),
            embedding: (!embedding.is_empty()).then_some(embedding),
        }
    }
}
