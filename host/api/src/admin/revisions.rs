//! Routes that list revisions and change which ones serve.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use bytes::Bytes;
use serde::Deserialize;

use rostro_service::deployment::{
    Actor, Reconfiguration, RevisionChange, RevisionStatus, Statuses,
};

use super::state::{Admin, ChangeAnswer, find_status};
use crate::error::ApiError;
use crate::request::extract::QueryParams;

/// Parameters of an activation.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActivateQuery {
    #[serde(default)]
    allow_contract_change: bool,
    #[serde(default)]
    partial: bool,
}

/// Parameters of a rollback.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RollBackQuery {
    #[serde(default)]
    partial: bool,
}

/// Parameters of a canary or a shadow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShareQuery {
    share: f64,
    #[serde(default)]
    allow_contract_change: bool,
}

pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Statuses>, ApiError> {
    admin
        .run(|deployment| Ok(deployment.statuses()))
        .await
        .map(Json)
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<RevisionStatus>, ApiError> {
    admin
        .run(move |deployment| find_status(deployment, deployment.find(&id)?))
        .await
        .map(Json)
}

pub(super) async fn activate(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    QueryParams(query): QueryParams<ActivateQuery>,
) -> Result<Json<ChangeAnswer>, ApiError> {
    admin
        .change(move |deployment| {
            let change = RevisionChange::Activate {
                id: deployment.find(&id)?,
                allow_contract_change: query.allow_contract_change,
                partial: query.partial,
            };
            deployment.change(change, &actor)
        })
        .await
}

/// Body of a change of settings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigureBody {
    /// Settings that the new revision gets.
    #[serde(default)]
    settings: BTreeMap<String, String>,
    /// Names of settings that it loses.
    #[serde(default)]
    unset: Vec<String>,
}

/// Stages a revision of the same components with other settings.
pub(super) async fn configure(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<ChangeAnswer>), ApiError> {
    let ConfigureBody { settings, unset } = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad_request(
            "invalid_setting",
            format!(
                "The body must be a JSON object with `settings`, an object of texts, and `unset`, \
                 a list of names: {error}."
            ),
        )
    })?;
    let answer = admin
        .change(move |deployment| {
            let id = deployment.find(&id)?;
            deployment.configure(id, &Reconfiguration { settings, unset }, &actor)
        })
        .await?;
    let status = if answer.changed {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Ok((status, answer))
}

pub(super) async fn canary(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    QueryParams(query): QueryParams<ShareQuery>,
) -> Result<Json<ChangeAnswer>, ApiError> {
    let ShareQuery {
        share,
        allow_contract_change,
    } = query;
    admin
        .change(move |deployment| {
            let change = RevisionChange::Canary {
                id: deployment.find(&id)?,
                share,
                allow_contract_change,
            };
            deployment.change(change, &actor)
        })
        .await
}

pub(super) async fn shadow(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    QueryParams(query): QueryParams<ShareQuery>,
) -> Result<Json<ChangeAnswer>, ApiError> {
    admin
        .change(move |deployment| {
            let (id, share) = (deployment.find(&id)?, query.share);
            deployment.change(RevisionChange::Shadow { id, share }, &actor)
        })
        .await
}

pub(super) async fn end_canary(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> Result<Json<ChangeAnswer>, ApiError> {
    admin
        .change(move |deployment| {
            let id = deployment.find(&id)?;
            deployment.change(RevisionChange::EndCanary { id }, &actor)
        })
        .await
}

pub(super) async fn end_shadow(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> Result<Json<ChangeAnswer>, ApiError> {
    admin
        .change(move |deployment| {
            let id = deployment.find(&id)?;
            deployment.change(RevisionChange::EndShadow { id }, &actor)
        })
        .await
}

pub(super) async fn retire(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> Result<Json<ChangeAnswer>, ApiError> {
    admin
        .change(move |deployment| {
            let id = deployment.find(&id)?;
            deployment.change(RevisionChange::Retire { id }, &actor)
        })
        .await
}

pub(super) async fn roll_back(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    QueryParams(query): QueryParams<RollBackQuery>,
) -> Result<Json<ChangeAnswer>, ApiError> {
    let RollBackQuery { partial } = query;
    admin
        .change(move |deployment| deployment.change(RevisionChange::RollBack { partial }, &actor))
        .await
}
