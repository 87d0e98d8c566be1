//! `GET /healthz` and `GET /readyz`.
//!
//! The service is ready once a revision is staged and all people are loaded for it. Until then,
//! only these routes answer: see [`crate::server::startup`].

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorAnswer};
use crate::public::responses::PipelineInfo;
use crate::state::App;

/// Answer of a running process.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Alive {
    status: &'static str,
}

/// Answer of a service that is ready, with its active revision.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    status: &'static str,
    pipeline: PipelineInfo,
}

/// Check that the process runs.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    responses((status = 200, description = "The process runs", body = Alive))
)]
pub(crate) async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Check that the service answers requests.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "The service answers requests", body = Ready),
    (status = 503, description = "The service is starting, is drained, lost its lease, or fails where other nodes do not", body = ErrorAnswer)
))]
pub(crate) async fn readyz(State(app): State<App>) -> Result<Json<Ready>, ApiError> {
    if !app.service.can_recognize() {
        return Err(ApiError::no_lease());
    }
    if app.service.is_draining() {
        return Err(ApiError::draining());
    }
    if app.service.is_tripped() {
        return Err(ApiError::tripped());
    }
    Ok(Json(Ready {
        status: "ready",
        pipeline: PipelineInfo::of(&app.service.active()),
    }))
}
