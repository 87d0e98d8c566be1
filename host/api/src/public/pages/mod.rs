//! Pages to try the service: `/` with a camera or photos, and `/api` for the OpenAPI document. They
//! call the service like any other client.

use axum::http::header;
use axum::response::IntoResponse;

/// Content security policy: pages load nothing from other sites and run no inline code. Pictures
/// and video come from the camera or dropped files.
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Serves the page at `/`.
pub(crate) async fn index_html() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, include_str!("index.html"))
}

/// Serves the style sheet of both pages.
pub(crate) async fn page_css() -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, "text/css; charset=utf-8"),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        include_str!("page.css"),
    )
}

/// Serves the main script of the page at `/`.
pub(crate) async fn page_js() -> impl IntoResponse {
    script(include_str!("page.js"))
}

/// Serves the script of the page's requests to the service.
pub(crate) async fn service_js() -> impl IntoResponse {
    script(include_str!("service.js"))
}

/// Serves the script of the page's sessions.
pub(crate) async fn session_js() -> impl IntoResponse {
    script(include_str!("session.js"))
}

/// Serves the script that reads event streams.
pub(crate) async fn events_js() -> impl IntoResponse {
    script(include_str!("events.js"))
}

/// Serves the page at `/api`, which shows every operation of the OpenAPI document.
pub(crate) async fn api_html() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, include_str!("api.html"))
}

/// Serves the script of the page at `/api`.
pub(crate) async fn api_js() -> impl IntoResponse {
    script(include_str!("api.js"))
}

fn script(text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}
