//! The interface as an OpenAPI document, made of the routes and types that serve it.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

/// What the document says beside the routes.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Rostro",
        description = "Says who is in a photo. Errors have one form, `ErrorAnswer`; their codes are in docs/http.md.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ErrorAnswer)),
    modifiers(&ApiKeySecurity),
    tags(
        (name = "recognise", description = "Who is in an image, and what its faces are. Stores nothing. Scope `recognise`."),
        (name = "enrol", description = "Photos of people who are to be recognised. Scope `enrol`."),
        (name = "manage", description = "People and groups. Scope `manage`, or the admin interface."),
        (name = "health", description = "Whether the service is there."),
    )
)]
pub(crate) struct Document;

/// How keys are sent. They are asked for where the service has some.
#[derive(Debug)]
struct ApiKeySecurity;

impl Modify for ApiKeySecurity {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme(
            "key",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))),
        );
        let none: [&str; 0] = [];
        document.security = Some(vec![
            SecurityRequirement::default(),
            SecurityRequirement::new("bearer", none),
            SecurityRequirement::new("key", none),
        ]);
    }
}

/// What every error is answered with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorAnswer {
    /// For people.
    error: String,
    /// For programs: stable, snake_case.
    code: &'static str,
    /// More, by name.
    #[schema(value_type = Object)]
    details: Map<String, Value>,
    /// As in the header `x-request-id`, and in the service's log.
    request_id: String,
}

impl ErrorAnswer {
    pub(crate) fn new(
        error: &str,
        code: &'static str,
        details: &Map<String, Value>,
        request_id: &str,
    ) -> Self {
        Self {
            error: error.to_owned(),
            code,
            details: details.clone(),
            request_id: request_id.to_owned(),
        }
    }
}

/// What callers without the right key get.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(crate) enum AuthErrors {
    /// A key is needed.
    #[response(status = 401)]
    Unauthorized(ErrorAnswer),
    /// The key is not good for this, or the service has no keys.
    #[response(status = 403)]
    Forbidden(ErrorAnswer),
}

/// What is wrong with a request that has no body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(crate) enum NoBodyErrors {
    /// A parameter, or what stands in the path, is not valid.
    #[response(status = 400)]
    BadRequest(ErrorAnswer),
    /// The service failed; the log says how.
    #[response(status = 500)]
    Internal(ErrorAnswer),
}

/// What becomes of a request with a body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(crate) enum BodyErrors {
    /// Something is missing or not valid, or no image or archive.
    #[response(status = 400)]
    BadRequest(ErrorAnswer),
    /// The body arrived too slowly: less than 64 KiB/s after 10 s, or for more than 10 minutes.
    #[response(status = 408)]
    Timeout(ErrorAnswer),
    /// The body, an image's bytes or its pixels are over a limit.
    #[response(status = 413)]
    TooLarge(ErrorAnswer),
    /// The content type is none that is taken.
    #[response(status = 415)]
    Unsupported(ErrorAnswer),
    /// The pipeline or the service failed; the log says how.
    #[response(status = 500)]
    Internal(ErrorAnswer),
    /// The service is at capacity, or another request does what this one waits for; `retry-after`
    /// says when to come back.
    #[response(status = 503)]
    Overloaded(ErrorAnswer),
    /// The request was not done before its deadline.
    #[response(status = 504)]
    Deadline(ErrorAnswer),
}

/// What becomes of a change that is written to the disk.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(crate) enum WriteErrors {
    /// What is stored of the person cannot be read, or there are too many groups.
    #[response(status = 409)]
    Conflict(ErrorAnswer),
    /// The disk is full; nothing was changed, but that an import keeps what it stored so far.
    #[response(status = 507)]
    Full(ErrorAnswer),
}

/// What becomes of a question about what is stored.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(crate) enum ReadErrors {
    /// What is stored of the person cannot be read, or is of another recogniser.
    #[response(status = 409)]
    Conflict(ErrorAnswer),
}

/// What a question gets that takes a worker.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(crate) enum WorkerErrors {
    /// The service is at capacity; `retry-after` says when to come back.
    #[response(status = 503)]
    Overloaded(ErrorAnswer),
    /// The request was not done before its deadline.
    #[response(status = 504)]
    Deadline(ErrorAnswer),
}

/// What a change gets that has to wait for another of the same person.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(crate) enum LockErrors {
    /// Another request is changing the person; `retry-after` says when to come back.
    #[response(status = 503)]
    Busy(ErrorAnswer),
}

/// What is asked of somebody, or of a group, that there is not.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(crate) enum NotFoundErrors {
    /// There is no such person or group.
    #[response(status = 404)]
    NotFound(ErrorAnswer),
}

/// An image as the body itself: JPEG, PNG, WebP, BMP, GIF or TIFF.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only described")]
pub(crate) struct Image(Vec<u8>);

/// The gallery as a ZIP archive.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only described")]
pub(crate) struct Archive(Vec<u8>);

/// The form of `POST /process_frame`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: forms are read part by part")]
pub(crate) struct FrameForm {
    /// JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// Looks among the people of this group alone.
    group: Option<String>,
    /// The same, ignored as long as there are no groups.
    schedule_id: Option<String>,
}

/// The form of `POST /v1/detect` and `POST /v1/embeddings`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: forms are read part by part")]
pub(crate) struct ImageForm {
    /// JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
}

/// The form of `POST /v1/compare`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: forms are read part by part")]
pub(crate) struct CompareForm {
    /// JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[schema(value_type = String, format = Binary)]
    a: Vec<u8>,
    /// JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[schema(value_type = String, format = Binary)]
    b: Vec<u8>,
}

/// The form of `POST /process-images`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: forms are read part by part")]
pub(crate) struct EnrollForm {
    /// The person's id, also as `id`: 1 to 128 letters, digits, `.`, `_`, `-` and `@`, not
    /// beginning with a dot. Letters, marks and digits of any script are taken, spaces inside, and
    /// `' ( ) + ,`; at most 200 bytes.
    student_id: String,
    /// 1 to 100 photos: JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[schema(value_type = Vec<String>, format = Binary)]
    images: Vec<Vec<u8>>,
    /// How strictly they are to be judged: `off`, `standard` or `strict`; not less than the
    /// operator set.
    review: Option<String>,
}

/// The form of `POST /v1/people/{id}/photos`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: forms are read part by part")]
pub(crate) struct PhotosForm {
    /// 1 to 100 photos: JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[schema(value_type = Vec<String>, format = Binary)]
    images: Vec<Vec<u8>>,
    /// How strictly they are to be judged: `off`, `standard` or `strict`; not less than the
    /// operator set.
    review: Option<String>,
}
