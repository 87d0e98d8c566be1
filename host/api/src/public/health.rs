//! `GET /healthz` and `GET /readyz`.
//!
//! The service is ready once a revision is staged and all people are loaded for it. Until then,
//! only these routes answer: see [`crate::server::startup`].

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ErrorAnswer;
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
    (status = 503, description = "The service is starting", body = ErrorAnswer)
))]
pub(crate) async fn readyz(State(app): State<App>) -> Json<Ready> {
    Json(Ready {
        status: "ready",
        pipeline: PipelineInfo::of(&app.service.active()),
    })
}
