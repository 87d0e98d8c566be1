//! `GET /healthz` and `GET /readyz` for operators, with more detail than the public routes.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use rostro_common::digest::Sha256Digest;

use super::reload::ReloadAnswer;
use super::state::Admin;
use crate::error::ApiError;

/// Answer of a running process.
#[derive(Debug, Serialize)]
pub(super) struct Liveness {
    status: &'static str,
}

/// Answer of a service that is ready, with details.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    status: &'static str,
    /// Active revision.
    revision: Sha256Digest,
    /// Number of people with templates for the active revision.
    known: usize,
    /// Number of stored people who must be enrolled again for the active revision.
    needs_enrolment: usize,
    /// Number of unusable files in the gallery, by reason.
    files_left_alone: BTreeMap<&'static str, usize>,
    /// Number of times since the start that the circuit breaker found no revision to roll back to.
    stuck: u64,
    /// Failures of the active revision since its last success.
    failures_in_a_row: u32,
    last_reload: ReloadAnswer,
}

pub(super) async fn healthz() -> Json<Liveness> {
    Json(Liveness { status: "ok" })
}

pub(super) async fn readyz(State(admin): State<Admin>) -> Result<Json<Readiness>, ApiError> {
    if !admin.deployment.can_recognize() {
        return Err(ApiError::no_lease());
    }
    if admin.deployment.is_draining() {
        return Err(ApiError::draining());
    }
    if admin.deployment.is_tripped() {
        return Err(ApiError::tripped());
    }
    let last_reload = admin.reload.last().into_answer();
    let ready = admin.run(move |deployment| {
        let active = deployment.active();
        let (known, needs_enrolment) = active.view.counts();
        Ok(Readiness {
            status: "ready",
            revision: active.id(),
            known,
            needs_enrolment,
            files_left_alone: deployment.files_left_alone(),
            stuck: deployment.stuck(),
            failures_in_a_row: active.health.in_a_row(),
            last_reload,
        })
    });
    ready.await.map(Json)
}
