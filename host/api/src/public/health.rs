//! Whether the service is there, and what serves.
//!
//! Requests are answered once a revision is ready, tried, and knows everybody. Until then only
//! these are: see [`crate::gate`].

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::ErrorAnswer;
use crate::{App, PipelineInfo};

/// That the process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Alive {
    status: &'static str,
}

/// That requests are answered, and by what.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    status: &'static str,
    pipeline: PipelineInfo,
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "It does", body = Alive)))]
pub(crate) async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Whether requests are answered, and by what.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "They are", body = Ready),
    (status = 503, description = "The service is starting", body = ErrorAnswer)
))]
pub(crate) async fn readyz(State(app): State<App>) -> Json<Ready> {
    Json(Ready {
        status: "ready",
        pipeline: PipelineInfo::of(&app.service.active()),
    })
}
