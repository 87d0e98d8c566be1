//! Router of the service's port, and its OpenAPI document.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use rostro_service::Service;

use crate::auth::api_keys::{ApiKeyAuth, RequireScope, Scope, authenticate, identify};
use crate::error::ApiError;
use crate::metrics::Traffic;
use crate::public::openapi::Document;
use crate::public::{self, pages};
use crate::request::body::body_too_large;
use crate::request::browser::BrowserAccess;
use crate::request::headers::content_length;
use crate::request::trace::observe;
use crate::state::{App, BodyLimits};

/// Returns the public application, and the routes of people and groups for the admin interface.
pub fn app(
    service: Arc<Service>,
    limits: BodyLimits,
    auth: &ApiKeyAuth,
    browsers: &BrowserAccess,
    traffic: &Traffic,
) -> (Router, Router) {
    let app = App::new(service, limits, traffic.clone());
    let require = |routes: OpenApiRouter<App>, scopes| {
        let required = RequireScope {
            auth: auth.clone(),
            browsers: browsers.clone(),
            scopes,
        };
        routes.route_layer(from_fn_with_state(required, authenticate))
    };
    let document = Bytes::from(document());
    let routes = documented_routes(&require)
        .split_for_parts()
        .0
        .route(
            "/openapi.json",
            get(|| async move { ([(header::CONTENT_TYPE, "application/json")], document) }),
        )
        .route("/", get(pages::index_html))
        .route("/api", get(pages::api_html))
        .route("/api.js", get(pages::api_js))
        .route("/page.css", get(pages::page_css))
        .route("/page.js", get(pages::page_js))
        .route("/service.js", get(pages::service_js))
        .route("/session.js", get(pages::session_js))
        .route("/events.js", get(pages::events_js))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), refuse_large_bodies))
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .layer(CatchPanicLayer::custom(panic_response))
        .layer(from_fn_with_state(auth.clone(), identify))
        .layer(option_layer(browsers.cors()))
        .layer(from_fn_with_state(Some(traffic.clone()), observe));
    (
        routes.with_state(app.clone()),
        Router::from(public::management_routes()).with_state(app),
    )
}

/// Returns every documented route. `require` adds the check for one of some scopes to routes.
fn documented_routes(
    require: &dyn Fn(OpenApiRouter<App>, &'static [Scope]) -> OpenApiRouter<App>,
) -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(require(public::recognition_routes(), &[Scope::Recognise]))
        .merge(require(public::enrollment_routes(), &[Scope::Enrol]))
        .merge(require(public::management_routes(), &[Scope::Manage]))
        .merge(require(public::session_feed_routes(), &[Scope::Recognise]))
        .merge(require(public::attendance_routes(), &[Scope::Attend]))
        .merge(require(
            public::session_end_routes(),
            &[Scope::Recognise, Scope::Attend],
        ))
        .routes(routes!(public::health::healthz))
        .routes(routes!(public::health::readyz))
}

/// Returns the OpenAPI document of the public interface, in JSON.
pub fn document() -> String {
    let (_, document) = documented_routes(&|routes, _| routes).split_for_parts();
    document.to_pretty_json().unwrap_or_default()
}

/// Refuses a body with a `content-length` over the limit, without waiting for it.
async fn refuse_large_bodies(State(app): State<App>, request: Request, next: Next) -> Response {
    // An archive goes to the disk and has its own limit.
    let is_archive = request.uri().path() == public::ARCHIVES;
    let is_small = content_length(request.headers())
        .is_none_or(|length| length <= app.limits.body_bytes as u64);
    if is_archive || is_small {
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

/// Answers a request with a path that exists and a method that the path does not have.
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

/// Answers a request after a panic of its handler.
pub(crate) fn panic_response(panic: Box<dyn Any + Send + 'static>) -> Response {
    let cause = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    ApiError::unexpected(cause.unwrap_or("panic")).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn operations_have_unique_ids() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let paths = document["paths"].as_object().unwrap().values();
        let ids: Vec<&str> = paths
            .flat_map(|path| path.as_object().unwrap().values())
            .filter_map(|operation| operation["operationId"].as_str())
            .collect();
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        assert!(ids.len() > 20);
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
    }
}
