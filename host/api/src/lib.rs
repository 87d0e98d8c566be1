//! The HTTP interface: the two endpoints of the service that Rostro replaces, wire-compatible, what
//! stands beside them, and pages to try them.

pub mod admin;
pub mod auth;
mod error;
pub mod metrics;
pub mod public;
pub mod request;
pub mod server;

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use axum::routing::get;
use serde::Serialize;
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use rostro_service::Service;
use rostro_service::types::Revision;

use crate::metrics::Traffic;
use auth::api_keys::{RequireScope, Scope, authenticate, identify};
use public::openapi::Document;
use request::body::BodyMemory;
use request::form::{FormLimits, body_too_large};

pub(crate) use self::error::{ApiError, is_full};
pub use auth::api_keys::{ApiKeyAuth, Scopes};
pub use request::browser::{AllowedOrigin, BrowserAccess, Origin};
pub use request::caller::{Caller, Network, TrustedProxies};
pub(crate) use request::extract::{NoParameters, QueryParams};
pub(crate) use request::trace::{RequestId, observe};
pub use server::startup::StartupGate;

/// What callers may send.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of one image.
    pub image_bytes: usize,
    /// Bytes that all requests together may hold at a time.
    pub memory_bytes: usize,
}

/// What the handlers share.
#[derive(Clone, Debug)]
struct App {
    service: Arc<Service>,
    limits: FormLimits,
    traffic: Traffic,
}

impl App {
    /// Reads what a caller sends. One whose body finds no room is told to come back when requests
    /// that wait now are done.
    async fn received<T>(
        &self,
        read: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        read.await.map_err(|error| {
            if error.code == "overloaded" {
                error.retrying_after(self.service.expected_wait())
            } else {
                error
            }
        })
    }
}

impl App {
    fn new(service: Arc<Service>, limits: BodyLimits, traffic: Traffic) -> Self {
        let BodyLimits {
            body_bytes,
            image_bytes,
            memory_bytes,
        } = limits;
        // Half is enough for the largest body: the configuration sees to that.
        let share = (memory_bytes / 2).max(body_bytes);
        let limits = FormLimits {
            file_bytes: image_bytes.min(body_bytes),
            body_bytes,
            memory: BodyMemory::new(memory_bytes, share),
        };
        Self {
            service,
            limits,
            traffic,
        }
    }
}

/// The service as an HTTP application, and what manages people, for the admin interface to serve,
/// too.
pub fn app(
    service: Arc<Service>,
    limits: BodyLimits,
    keeper: &ApiKeyAuth,
    browsers: &BrowserAccess,
    traffic: &Traffic,
) -> (Router, Router) {
    let app = App::new(service, limits, traffic.clone());
    let door = |scope| {
        from_fn_with_state(
            RequireScope {
                keeper: keeper.clone(),
                browsers: browsers.clone(),
                scope,
            },
            authenticate,
        )
    };
    let documented = documented(&|routes, scope| routes.route_layer(door(scope)));
    let routes = documented.split_for_parts().0;
    let document = bytes::Bytes::from(document());
    let routes = routes
        .route(
            "/openapi.json",
            get(|| async move { ([(header::CONTENT_TYPE, "application/json")], document) }),
        )
        .route("/", get(public::pages::html))
        .route("/api", get(public::pages::api_html))
        .route("/api.js", get(public::pages::api_js))
        .route("/page.css", get(public::pages::css))
        .route("/page.js", get(public::pages::js))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), refuse_large_bodies))
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(keeper.clone(), identify))
        .layer(option_layer(browsers.cors()))
        .layer(from_fn_with_state(Some(traffic.clone()), observe));
    (
        routes.with_state(app.clone()),
        Router::from(public::v1::managing()).with_state(app),
    )
}

/// Every route that callers use, each behind the door of its scope.
fn documented(
    behind: &dyn Fn(OpenApiRouter<App>, Scope) -> OpenApiRouter<App>,
) -> OpenApiRouter<App> {
    let recognise = public::v1::recognising().routes(routes!(public::recognize::process_frame));
    let enrol = public::v1::enrolling().routes(routes!(public::enroll::process_images));
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(behind(recognise, Scope::Recognise))
        .merge(behind(enrol, Scope::Enrol))
        .merge(behind(public::v1::managing(), Scope::Manage))
        .routes(routes!(public::health::healthz))
        .routes(routes!(public::health::readyz))
}

/// The interface as an OpenAPI document, in JSON.
pub fn document() -> String {
    let (_, document) = documented(&|routes, _| routes).split_for_parts();
    document.to_pretty_json().unwrap_or_default()
}

/// Which pipeline answered.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct PipelineInfo {
    name: String,
    version: String,
    digest: String,
}

impl PipelineInfo {
    fn of(revision: &Revision) -> Self {
        Self {
            name: revision.name().to_owned(),
            version: revision.version().to_owned(),
            digest: revision.digest().to_string(),
        }
    }
}

/// Says which revision answered: its digest.
const X_ROSTRO_PIPELINE: HeaderName = HeaderName::from_static("x-rostro-pipeline");

/// The header that says which pipeline answered.
#[derive(Debug)]
struct PipelineHeader(String);

impl PipelineHeader {
    fn of(revision: &Revision) -> Self {
        Self(revision.digest().to_string())
    }
}

impl IntoResponseParts for PipelineHeader {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        if let Ok(value) = HeaderValue::try_from(self.0) {
            parts.headers_mut().insert(X_ROSTRO_PIPELINE, value);
        }
        Ok(parts)
    }
}

/// What a request's body is, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentType {
    Multipart,
    /// A form that cannot hold files; clients send it when they have none.
    UrlEncoded,
    /// Not stated, as of no body at all: the replaced service took that for an empty form.
    Missing,
    Image,
    /// Bytes of any kind.
    Bytes,
    Zip,
    Other,
}

impl ContentType {
    fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Self::Missing;
        };
        let essence = value
            .as_bytes()
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        match String::from_utf8_lossy(essence)
            .to_ascii_lowercase()
            .as_str()
        {
            "multipart/form-data" => Self::Multipart,
            "application/x-www-form-urlencoded" => Self::UrlEncoded,
            "" => Self::Missing,
            "application/zip" => Self::Zip,
            "application/octet-stream" => Self::Bytes,
            image if image.starts_with("image/") => Self::Image,
            _ => Self::Other,
        }
    }
}

/// Refuses a body that says itself that it is over the limit, without waiting for it.
async fn refuse_large_bodies(State(app): State<App>, request: Request, next: Next) -> Response {
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // An archive goes to the disk, and has a limit of its own.
    let is_archive = request.uri().path() == public::v1::ARCHIVES;
    if is_archive || length.is_none_or(|length| length <= app.limits.body_bytes as u64) {
        return next.run(request).await;
    }
    body_too_large(app.limits.body_bytes).into_response()
}

async fn not_found(request: Request) -> ApiError {
    let message = format!(
        "There is nothing at '{}'. Post to /process-images or /process_frame.",
        request.uri().path()
    );
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

pub(crate) async fn method_not_allowed(request: Request) -> ApiError {
    let message = format!(
        "{} is not served at '{}'.",
        request.method(),
        request.uri().path()
    );
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
}

pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let cause = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    ApiError::internal(
        "internal",
        "The service failed unexpectedly.",
        cause.unwrap_or("panic"),
    )
    .into_response()
}

/// Under which name the service is asked: in HTTP/2 it stands in the request's line.
pub(crate) fn host(request: &Request) -> Option<&str> {
    let header = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    header.or_else(|| {
        request
            .uri()
            .authority()
            .map(axum::http::uri::Authority::as_str)
    })
}
