//! `GET /healthz` and `GET /readyz` for operators: what the public ones do not tell everybody.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use rostro_common::digest::Sha256Digest;

use super::Admin;
use crate::ApiError;
use crate::admin::reload::ReloadAnswer;

/// The process answers.
#[derive(Debug, Serialize)]
pub(super) struct Alive {
    status: &'static str,
}

/// Requests are answered; how well is in the other fields.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    status: &'static str,
    /// The active revision.
    revision: Sha256Digest,
    /// People whom it recognises.
    known: usize,
    /// People who are stored and must be enrolled again for it.
    needs_enrolment: usize,
    /// Files of the gallery that cannot be used, by reason.
    files_left_alone: BTreeMap<&'static str, usize>,
    /// Times since the start that the breaker would have taken it out, and nothing could take its
    /// place.
    stuck: u64,
    /// Its failures since the last request that went well.
    failures_in_a_row: u32,
    last_reload: ReloadAnswer,
}

pub(super) async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

pub(super) async fn readyz(State(admin): State<Admin>) -> Result<Json<Readiness>, ApiError> {
    let last_reload = admin.reload.last().answer();
    let ready = admin.ask(move |deployment| {
        let live = deployment.active();
        let (known, needs_enrolment) = live.view.counts();
        Ok(Readiness {
            status: "ready",
            revision: live.id(),
            known,
            needs_enrolment,
            files_left_alone: deployment.files_left_alone(),
            stuck: deployment.stuck(),
            failures_in_a_row: live.health.in_a_row(),
            last_reload,
        })
    });
    ready.await.map(Json)
}
