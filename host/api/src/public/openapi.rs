//! OpenAPI document: the parts that are not made of the routes and their types.

use std::collections::BTreeMap;

use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

use crate::error::ErrorAnswer;

/// Head of the document. The router adds the routes.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Rostro",
        description = "Recognises people in photos. Every error is an `ErrorAnswer`; docs/http.md \
                       lists the codes.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ErrorAnswer)),
    modifiers(&ApiKeySecurity),
    tags(
        (
            name = "recognise",
            description = "Analyse images and store nothing. Scope `recognise`."
        ),
        (name = "enrol", description = "Enrol people from photos. Scope `enrol`."),
        (
            name = "manage",
            description = "People and groups. Scope `manage`, or the admin interface."
        ),
        (
            name = "sessions",
            description = "Who is present in the frames of a stream. Scope `recognise` creates \
                           sessions and sends frames, `attend` reads and corrects."
        ),
        (name = "health", description = "Health of the service."),
    )
)]
pub(crate) struct Document;

/// Adds the two ways to send a key. Keys are optional in the document, because a service may have
/// none.
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

/// Description of each error status. The `code` in an answer names the exact error.
#[rustfmt::skip]
const ERRORS: [(u16, &str); 14] = [
    (307, "Another node of the fleet has the session; `location` has its address."),
    (400, "The request is not valid: a parameter, the path, the body, or an image in it."),
    (401, "A key is needed."),
    (403, "The key lacks the scope, or the service has no keys."),
    (404, "There is no such person, group or session."),
    (408, "The body arrived too slowly: below 64 KiB/s after 10 s, or for more than 10 minutes."),
    (409, "Stored data conflicts with the request, or cannot be used for it."),
    (410, "The session ended."),
    (413, "The body, the bytes of an image or its pixels are over a limit."),
    (415, "The content type is not supported."),
    (500, "The pipeline or the service failed; the log has the cause."),
    (503, "The service cannot answer now: the code says why, and `retry-after` when to retry."),
    (504, "The request exceeded its deadline."),
    (507, "The disk is full; nothing was changed, but an import keeps what it stored so far."),
];

/// Returns the responses for error statuses.
fn error_responses(statuses: &[u16]) -> BTreeMap<String, RefOr<Response>> {
    let content = Content::new(Some(Ref::from_schema_name(ErrorAnswer::name())));
    let listed = ERRORS
        .iter()
        .filter(|(status, _)| statuses.contains(status));
    let responses = listed.map(|(status, description)| {
        let response = ResponseBuilder::new()
            .description(*description)
            .content("application/json", content.clone())
            .build();
        (status.to_string(), RefOr::T(response))
    });
    responses.collect()
}

/// Defines types that add the responses of some error statuses to a route.
macro_rules! error_groups {
    ($($(#[$doc:meta])* $name:ident: $statuses:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub(crate) struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    error_responses(&$statuses)
                }
            }
        )*
    };
}

error_groups! {
    /// Errors of callers without the right key.
    AuthErrors: [401, 403];
    /// Errors of a request without a body.
    NoBodyErrors: [400, 500];
    /// Errors of a request with a body, which takes a worker.
    BodyErrors: [400, 408, 413, 415, 500, 503, 504];
    /// Errors of a change that is written to the disk.
    WriteErrors: [409, 507];
    /// Errors of reading stored data.
    ReadErrors: [409];
    /// Errors of a request without a body that takes a worker.
    WorkerErrors: [503, 504];
    /// Errors of a request that waits for another one.
    LockErrors: [503];
    /// Errors of an answer from the memory of a node, which needs a lease.
    LeaseErrors: [503];
    /// Errors of a path that names a person or group.
    NotFoundErrors: [404];
    /// Errors of a path that names a session, which another node may have.
    SessionErrors: [307, 404, 503];
    /// Errors of a frame of a session, besides those of a body.
    SessionFrameErrors: [307, 404, 409, 410, 507];
}

/// Image as the body itself: JPEG, PNG, WebP, BMP, GIF or TIFF.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only described")]
pub(crate) struct Image(Vec<u8>);

/// Gallery as a ZIP archive.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only described")]
pub(crate) struct Archive(Vec<u8>);

/// Form of `POST /process_frame`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: forms are read part by part")]
pub(crate) struct FrameForm {
    /// JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// Searches only the people of this group.
    group: Option<String>,
    /// Alias of `group`, ignored as long as no groups exist.
    schedule_id: Option<String>,
}

/// Form of `POST /v1/sessions/{id}/frames`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: forms are read part by part")]
pub(crate) struct SessionFrameForm {
    /// JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// Number of the frame, above that of the frame before.
    seq: Option<u64>,
    /// Time at which the frame was taken, RFC 3339.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<String>,
}

/// Form of `POST /v1/detect` and `POST /v1/embeddings`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: forms are read part by part")]
pub(crate) struct ImageForm {
    /// JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
}

/// Form of `POST /v1/compare`.
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

/// Form of `POST /process-images`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: forms are read part by part")]
pub(crate) struct EnrollForm {
    /// Id of the person, also as `id`: 1 to 128 characters and at most 200 bytes of letters, marks
    /// and digits of any script, spaces inside, and `. _ - @ ' ( ) + ,`. A dot may not be first.
    student_id: String,
    /// 1 to 100 photos: JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[schema(value_type = Vec<String>, format = Binary)]
    images: Vec<Vec<u8>>,
    /// Review of the photos: `off`, `standard` or `strict`. It cannot be weaker than the operator's
    /// setting.
    review: Option<String>,
}

/// Form of `POST /v1/people/{id}/photos`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: forms are read part by part")]
pub(crate) struct PhotosForm {
    /// 1 to 100 photos: JPEG, PNG, WebP, BMP, GIF or TIFF.
    #[schema(value_type = Vec<String>, format = Binary)]
    images: Vec<Vec<u8>>,
    /// Review of the photos: `off`, `standard` or `strict`. It cannot be weaker than the operator's
    /// setting.
    review: Option<String>,
}
