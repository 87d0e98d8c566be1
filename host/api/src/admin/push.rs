//! `POST /v1/revisions`: receives a component and stages it as a revision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use rostro_common::digest::Sha256Digest;
use rostro_service::deployment::{Actor, Deployment, PushRequest};
use rostro_service::types::ComponentError;

use super::error::change_error;
use super::state::{Admin, ChangeAnswer};
use crate::error::ApiError;
use crate::request::extract::QueryParams;

/// Longest pause of an upload, because it blocks other uploads.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Longest time of an upload.
const MAX_TIME: Duration = Duration::from_secs(300);

/// Parameters of a push.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PushQuery {
    pack: Option<String>,
    #[serde(default)]
    policy_only: bool,
    sha256: Option<Sha256Digest>,
    /// NAME=VALUE, separated by commas.
    #[serde(default)]
    limits: String,
    /// JSON object of texts, because values may have any character.
    #[serde(default)]
    settings: String,
    #[serde(default)]
    enrol: bool,
}

/// A complete push.
#[derive(Debug)]
struct Push {
    request: PushRequest,
    /// Permit that is held until the component is staged, because the component is in memory.
    permit: OwnedSemaphorePermit,
}

/// Stages a revision of a component in the body.
pub(super) async fn push(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    query: Result<QueryParams<PushQuery>, ApiError>,
    body: Body,
) -> Result<(StatusCode, Json<ChangeAnswer>), ApiError> {
    let push = match query {
        Ok(QueryParams(query)) => read(&admin, query, body).await,
        Err(refusal) => Err(refusal),
    };
    let Push { request, permit } = match push {
        Ok(push) => push,
        Err(refusal) => return Err(admin.audit_refusal(actor, refusal).await),
    };
    let answer = admin.push(request, actor).await?;
    drop(permit);
    let status = if answer.changed {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(answer)))
}

/// Checks the parameters of a push, and reads its body.
async fn read(admin: &Admin, query: PushQuery, body: Body) -> Result<Push, ApiError> {
    let limits = parse_limits(&query.limits)?;
    let settings = parse_settings(&query.settings)?;
    let busy = "Another component is being uploaded; try again.";
    let permit = Arc::clone(&admin.uploads)
        .try_acquire_owned()
        .map_err(|_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "upload_in_progress", busy))?;
    let request = PushRequest {
        bytes: receive(body).await?,
        pack: query.pack,
        policy_only: query.policy_only,
        digest: query.sha256,
        limits,
        settings,
        enrol: query.enrol,
    };
    Ok(Push { request, permit })
}

/// Parses limits such as `memory-mib=64,tensors=8`.
fn parse_limits(text: &str) -> Result<BTreeMap<String, String>, ApiError> {
    // Quotes are short, because they also go into the audit log.
    let invalid = |text: &str, problem: &str| {
        let text: String = text.chars().take(64).collect();
        Err(ApiError::bad_request(
            "invalid_limit",
            format!("The limit `{text}` is {problem}."),
        ))
    };
    let mut limits = BTreeMap::new();
    for limit in text.split(',').filter(|text| !text.is_empty()) {
        let Some((name, value)) = limit.split_once('=') else {
            return invalid(limit, "not NAME=VALUE");
        };
        if limits.insert(name.to_owned(), value.to_owned()).is_some() {
            return invalid(name, "given twice");
        }
    }
    Ok(limits)
}

/// Parses settings such as `{"rivals": "off"}`.
fn parse_settings(text: &str) -> Result<BTreeMap<String, String>, ApiError> {
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_str(text).map_err(|error| {
        ApiError::bad_request(
            "invalid_setting",
            format!("`settings` must be a JSON object of texts: {error}."),
        )
    })
}

/// Receives a component, as long as it arrives in time.
async fn receive(mut body: Body) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let deadline = Instant::now() + MAX_TIME;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let frame = match timeout(MAX_PAUSE.min(left), body.frame()).await {
            Ok(None) => return Ok(bytes),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                return Err(ApiError::bad_request(
                    "upload_cut_off",
                    format!("The component did not arrive whole: {error}; send it again."),
                ));
            }
            Err(_) => {
                let message = "The component did not arrive in time: nothing came for 10 s, or it \
                               took longer than 300 s; send it again.";
                return Err(ApiError::body_timeout(message.to_owned()));
            }
        };
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if bytes.len() > Deployment::MOST_BYTES {
            return Err(change_error(
                ComponentError::TooLarge { size: bytes.len() }.into(),
            ));
        }
    }
}
