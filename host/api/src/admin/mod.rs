//! Interface for operators, on its own port: revisions, metrics, health, and people.
//!
//! Callers of the service cannot reach it. On the loopback interface no token is required, because
//! a local process can read the service's files as well. Elsewhere a token is required. Browsers
//! are refused, because no page needs this port.

mod error;
mod fleet;
mod health;
mod metrics;
mod push;
pub mod reload;
mod revisions;
mod sessions;
mod state;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_extractor, from_fn_with_state};
use axum::routing::{delete, get, post};
use tower_http::catch_panic::CatchPanicLayer;

use rostro_service::Service;

use self::reload::ReloadStatus;
use self::state::Admin;
use crate::auth::secrets::SecretsFile;
use crate::auth::tokens::authenticate;
use crate::error::ApiError;
use crate::metrics::Traffic;
use crate::request::extract::{NoParameters, QueryParams};
use crate::request::trace::observe;
use crate::router::{method_not_allowed, panic_response};

pub use self::state::ChangeAnswer;
pub use crate::auth::tokens::Operator;

/// Returns the admin application. `people` are the routes of people and groups.
pub fn app(
    service: Arc<Service>,
    traffic: Traffic,
    tokens: Option<SecretsFile<Operator>>,
    reload: ReloadStatus,
    dropped_lines: fn() -> u64,
    people: Router,
) -> Router {
    let admin = Admin::new(service, traffic, reload, dropped_lines);
    // The other routes parse their parameters, and refuse unknown ones.
    let without_parameters = Router::new()
        .route("/v1/revisions", get(revisions::list))
        .route(
            "/v1/revisions/{id}",
            get(revisions::show).delete(revisions::retire),
        )
        .route("/v1/revisions/{id}/canary", delete(revisions::end_canary))
        .route("/v1/revisions/{id}/shadow", delete(revisions::end_shadow))
        .route_layer(from_extractor::<QueryParams<NoParameters>>());
    Router::new()
        .route("/v1/revisions", post(push::push))
        .route("/v1/revisions/{id}/activate", post(revisions::activate))
        .route("/v1/revisions/{id}/settings", post(revisions::configure))
        .route("/v1/rollback", post(revisions::roll_back))
        .route("/v1/revisions/{id}/canary", post(revisions::canary))
        .route("/v1/revisions/{id}/shadow", post(revisions::shadow))
        .merge(without_parameters)
        .route("/metrics", get(metrics::scrape))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .with_state(admin)
        .merge(people)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(tokens, authenticate))
        .layer(CatchPanicLayer::custom(panic_response))
        .layer(from_fn_with_state(None, observe))
}

async fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "There is nothing here; see docs/admin.md for what there is.",
    )
}
