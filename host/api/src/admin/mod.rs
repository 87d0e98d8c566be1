//! The interface for operators, on a listener of its own: which revisions there are, and changing
//! which serves.
//!
//! Callers of the service never reach it. On the loopback interface a token is not demanded,
//! because whoever can open a connection there can read the service's files as well; elsewhere it
//! is. Browsers are turned away: no page has business here.

mod health;
mod metrics;
pub mod reload;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::middleware::{from_extractor, from_fn_with_state};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;

use rostro_common::digest::Sha256Digest;
use rostro_service::audit::Action;
use rostro_service::executor::Executor;
use rostro_service::types::ComponentError;

use crate::admin::reload::ReloadStatus;
use crate::auth::secrets::SecretsFile;
use crate::metrics::Traffic;
use crate::{ApiError, NoParameters, QueryParams, is_full, method_not_allowed, observe, panicked};

pub use crate::auth::tokens::Operator;
pub use rostro_service::deployment::{
    Actor, ChangeError, ChangeOutcome, Deployment, PushRequest, RevisionChange, RevisionStatus,
    StateError, Statuses,
};

/// How long an upload may stand still, and how long it may take: it keeps others from theirs.
const STALLED: Duration = Duration::from_secs(10);
const UPLOAD: Duration = Duration::from_secs(300);

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Number of log lines that were lost.
    dropped_lines: fn() -> u64,
    deployment: Arc<Deployment>,
    executor: Executor,
    traffic: Traffic,
    pub(crate) tokens: Option<SecretsFile<Operator>>,
    reload: ReloadStatus,
    /// One upload at a time: each is held in memory whole.
    uploads: Arc<Semaphore>,
}

/// What is asked of an upload.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PushQuery {
    pack: Option<String>,
    #[serde(default)]
    policy_only: bool,
    sha256: Option<Sha256Digest>,
    /// NAME=VALUE, separated by commas.
    #[serde(default)]
    limits: String,
    #[serde(default)]
    enrol: bool,
}

/// What is asked of an activation.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActivateQuery {
    #[serde(default)]
    allow_contract_change: bool,
}

/// What is asked of a canary or a shadow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareQuery {
    share: f64,
    #[serde(default)]
    allow_contract_change: bool,
}

/// What came of a change.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangeAnswer {
    /// Whether anything is other than before.
    pub changed: bool,
    /// The revision that it is about.
    pub revision: RevisionStatus,
}

/// The interface as an HTTP application; `people` is what manages them.
pub fn app(
    deployment: Arc<Deployment>,
    executor: Executor,
    traffic: Traffic,
    tokens: Option<SecretsFile<Operator>>,
    reload: ReloadStatus,
    dropped_lines: fn() -> u64,
    people: Router,
) -> Router {
    let admin = Admin {
        dropped_lines,
        deployment,
        executor,
        traffic,
        tokens,
        reload,
        uploads: Arc::new(Semaphore::new(1)),
    };
    // The others read their parameters themselves, and refuse those that they do not know.
    let without_parameters = Router::new()
        .route("/v1/revisions", get(list))
        .route("/v1/revisions/{id}", get(show).delete(retire))
        .route("/v1/revisions/{id}/canary", delete(end_canary))
        .route("/v1/revisions/{id}/shadow", delete(end_shadow))
        .route("/v1/rollback", post(roll_back))
        .route_layer(from_extractor::<QueryParams<NoParameters>>());
    Router::new()
        .route("/v1/revisions", post(push))
        .route("/v1/revisions/{id}/activate", post(activate))
        .route("/v1/revisions/{id}/canary", post(canary))
        .route("/v1/revisions/{id}/shadow", post(shadow))
        .merge(without_parameters)
        .route("/metrics", get(metrics::scrape))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .with_state(admin.clone())
        .merge(people)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(admin, crate::auth::tokens::authenticate))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(None, observe))
}

async fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "There is nothing here; see docs/admin.md for what there is.",
    )
}

async fn list(State(admin): State<Admin>) -> Result<Json<Statuses>, ApiError> {
    admin
        .ask(|deployment| Ok(deployment.statuses()))
        .await
        .map(Json)
}

async fn show(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<RevisionStatus>, ApiError> {
    admin
        .ask(move |deployment| status(deployment, deployment.find(&id)?))
        .await
        .map(Json)
}

fn status(deployment: &Deployment, id: Sha256Digest) -> Result<RevisionStatus, ChangeError> {
    deployment
        .status(id)
        .ok_or_else(|| ChangeError::Unknown(id.to_string()))
}

async fn push(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    query: Result<QueryParams<PushQuery>, ApiError>,
    body: Body,
) -> Result<(StatusCode, Json<ChangeAnswer>), ApiError> {
    let ready = query.and_then(|QueryParams(query)| {
        let limits = limits(&query.limits)?;
        let busy = "Another component is being uploaded; try again.";
        let busy = |_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "upload_in_progress", busy);
        Ok((
            query,
            limits,
            Arc::clone(&admin.uploads)
                .try_acquire_owned()
                .map_err(busy)?,
        ))
    });
    let (query, limits, turn) = match ready {
        Ok(ready) => ready,
        Err(refusal) => {
            return Err(admin.note_refused(actor, refusal).await);
        }
    };
    let bytes = match receive(body).await {
        Ok(bytes) => bytes,
        Err(refusal) => return Err(admin.note_refused(actor, refusal).await),
    };
    let given = PushRequest {
        bytes,
        pack: query.pack,
        policy_only: query.policy_only,
        digest: query.sha256,
        limits,
        enrol: query.enrol,
    };
    let changed = admin
        .change(move |deployment| deployment.push(given, &actor))
        .await?;
    drop(turn);
    let status = if changed.0.changed {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Ok((status, changed))
}

/// The limits that are asked for: `memory-mib=64,tensors=8`.
fn limits(text: &str) -> Result<BTreeMap<String, String>, ApiError> {
    // As much of it as anybody reads: it goes into the audit log, too.
    let wrong = |text: &str, what: &str| {
        let text: String = text.chars().take(64).collect();
        Err(ApiError::bad_request(
            "invalid_limit",
            format!("The limit `{text}` is {what}."),
        ))
    };
    let mut limits = BTreeMap::new();
    for limit in text.split(',').filter(|text| !text.is_empty()) {
        let Some((name, value)) = limit.split_once('=') else {
            return wrong(limit, "not NAME=VALUE");
        };
        if limits.insert(name.to_owned(), value.to_owned()).is_some() {
            return wrong(name, "given twice");
        }
    }
    Ok(limits)
}

/// Takes an upload, as long as it goes on.
async fn receive(mut body: Body) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let deadline = Instant::now() + UPLOAD;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let frame = match timeout(STALLED.min(left), body.frame()).await {
            Ok(None) => return Ok(bytes),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                return Err(ApiError::bad_request(
                    "upload_cut_off",
                    format!("The component did not arrive whole: {error}; send it again."),
                ));
            }
            Err(_) => {
                let message = "The component did not arrive in time: nothing came for 10 s, or it took longer than 300 s; send it again.";
                return Err(ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "body_timeout",
                    message,
                ));
            }
        };
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if bytes.len() > Deployment::MOST_BYTES {
            return Err(refusal(
                ComponentError::TooLarge { size: bytes.len() }.into(),
            ));
        }
    }
}

async fn activate(
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
            };
            deployment.change(change, &actor)
        })
        .await
}

async fn canary(
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

async fn shadow(
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

async fn end_canary(
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

async fn end_shadow(
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

async fn retire(
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

async fn roll_back(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<ChangeAnswer>, ApiError> {
    admin
        .change(move |deployment| deployment.change(RevisionChange::RollBack, &actor))
        .await
}

impl Admin {
    /// Writes down a push that was refused before it was whole, on a thread that may wait for the
    /// disk.
    async fn note_refused(&self, actor: Actor, refusal: ApiError) -> ApiError {
        let why = refusal.message().to_owned();
        let noted = self.ask(move |deployment| {
            deployment.note_refused(&actor, Action::Push, &why);
            Ok(())
        });
        noted.await.err().unwrap_or(refusal)
    }

    /// Makes a change.
    async fn change(
        &self,
        work: impl FnOnce(&Deployment) -> Result<ChangeOutcome, ChangeError> + Send + 'static,
    ) -> Result<Json<ChangeAnswer>, ApiError> {
        let changed = self.ask(|deployment| {
            let ChangeOutcome { id, changed } = work(deployment)?;
            Ok(ChangeAnswer {
                changed,
                revision: status(deployment, id)?,
            })
        });
        changed.await.map(Json)
    }

    /// Asks the deployment something on a thread that may wait: while one thing is changed, which
    /// writes files, another waits for it.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Deployment) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let deployment = Arc::clone(&self.deployment);
        let answer = tokio::task::spawn_blocking(move || work(&deployment)).await;
        answer
            .map_err(|error| {
                ApiError::internal("internal", "The service failed unexpectedly.", error)
            })?
            .map_err(refusal)
    }
}

/// What a refused change is to an operator, who may know everything of it.
fn refusal(error: ChangeError) -> ApiError {
    let message = error.to_string();
    let (status, code) = match &error {
        ChangeError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_revision"),
        ChangeError::Ambiguous(_) => (StatusCode::BAD_REQUEST, "ambiguous_revision"),
        ChangeError::NotReady { .. } => (StatusCode::CONFLICT, "not_ready"),
        ChangeError::Contract { .. } => (StatusCode::CONFLICT, "contract_change"),
        ChangeError::Active(_) => (StatusCode::CONFLICT, "active"),
        ChangeError::OtherRole { .. } => (StatusCode::CONFLICT, "other_part"),
        ChangeError::NoPrevious => (StatusCode::CONFLICT, "no_previous"),
        ChangeError::Limit(_) => (StatusCode::BAD_REQUEST, "invalid_limit"),
        ChangeError::Share => (StatusCode::BAD_REQUEST, "invalid_share"),
        ChangeError::TooMany { .. } => (StatusCode::CONFLICT, "too_many_revisions"),
        ChangeError::OtherBytes { .. } => (StatusCode::BAD_REQUEST, "digest_mismatch"),
        ChangeError::Component(ComponentError::TooLarge { .. }) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "component_too_large")
        }
        ChangeError::NoPolicy | ChangeError::Component(_) => {
            (StatusCode::BAD_REQUEST, "invalid_component")
        }
        ChangeError::Pack(_) => (StatusCode::BAD_REQUEST, "pack_unusable"),
        ChangeError::State(StateError::Stopping) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        ChangeError::State(cause) if is_full(cause) => {
            (StatusCode::INSUFFICIENT_STORAGE, "storage_full")
        }
        ChangeError::State(_) => {
            return ApiError::internal("state_unwritable", message.clone(), message);
        }
    };
    let refused = ApiError::new(status, code, message);
    match error {
        ChangeError::Contract { people, .. } => refused.with("people", people),
        _ => refused,
    }
}
