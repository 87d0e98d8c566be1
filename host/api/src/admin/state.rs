//! State that the handlers of the admin port share.

use std::sync::Arc;

use axum::Json;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use rostro_common::digest::Sha256Digest;
use rostro_service::Service;
use rostro_service::audit::Action;
use rostro_service::deployment::{
    Actor, ChangeError, ChangeOutcome, Deployment, PushRequest, RevisionStatus,
};
use rostro_service::executor::Executor;

use super::error::change_error;
use super::reload::ReloadStatus;
use crate::error::ApiError;
use crate::metrics::Traffic;

/// State of the admin routes.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    /// Returns the number of dropped log lines.
    pub(super) dropped_lines: fn() -> u64,
    pub(super) service: Arc<Service>,
    pub(super) deployment: Arc<Deployment>,
    pub(super) executor: Executor,
    pub(super) traffic: Traffic,
    pub(super) reload: ReloadStatus,
    /// Permit for one upload at a time, because each is held in memory completely.
    pub(super) uploads: Arc<Semaphore>,
}

/// Result of a change.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangeAnswer {
    /// Whether the change had an effect.
    pub changed: bool,
    /// Revision that the change was about.
    pub revision: RevisionStatus,
}

/// Returns the status of a revision that exists.
pub(super) fn find_status(
    deployment: &Deployment,
    id: Sha256Digest,
) -> Result<RevisionStatus, ChangeError> {
    deployment
        .status(id)
        .ok_or_else(|| ChangeError::Unknown(id.to_string()))
}

impl ChangeAnswer {
    fn of(deployment: &Deployment, outcome: ChangeOutcome) -> Result<Self, ChangeError> {
        Ok(Self {
            changed: outcome.changed,
            revision: find_status(deployment, outcome.id)?,
        })
    }
}

impl Admin {
    pub(super) fn new(
        service: Arc<Service>,
        traffic: Traffic,
        reload: ReloadStatus,
        dropped_lines: fn() -> u64,
    ) -> Self {
        Self {
            dropped_lines,
            deployment: Arc::clone(service.deployment()),
            executor: service.executor().clone(),
            service,
            traffic,
            reload,
            uploads: Arc::new(Semaphore::new(1)),
        }
    }

    /// Writes an audit line about a push that was refused before its component was complete.
    pub(super) async fn audit_refusal(&self, actor: Actor, refusal: ApiError) -> ApiError {
        let cause = refusal.message.clone();
        let written = self.run(move |deployment| {
            deployment.record_refused(&actor, Action::Push, &cause);
            Ok(())
        });
        written.await.err().unwrap_or(refusal)
    }

    /// Runs a change and returns the changed revision.
    pub(super) async fn change(
        &self,
        work: impl FnOnce(&Deployment) -> Result<ChangeOutcome, ChangeError> + Send + 'static,
    ) -> Result<Json<ChangeAnswer>, ApiError> {
        let deployment = Arc::clone(&self.deployment);
        tokio::task::spawn_blocking(move || ChangeAnswer::of(&deployment, work(&deployment)?))
            .await
            .map_err(ApiError::unexpected)?
            .map(Json)
            .map_err(change_error)
    }

    /// Pushes a component and returns its revision.
    pub(super) async fn push(
        &self,
        request: PushRequest,
        actor: Actor,
    ) -> Result<ChangeAnswer, ApiError> {
        let deployment = Arc::clone(&self.deployment);
        tokio::task::spawn_blocking(move || {
            let outcome = deployment.push(request, &actor)?;
            ChangeAnswer::of(&deployment, outcome)
        })
        .await
        .map_err(ApiError::unexpected)?
        .map_err(change_error)
    }

    /// Runs work on the deployment on a thread for blocking work, because changes write files and
    /// wait for each other.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Deployment) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let deployment = Arc::clone(&self.deployment);
        tokio::task::spawn_blocking(move || work(&deployment))
            .await
            .map_err(ApiError::unexpected)?
            .map_err(change_error)
    }
}
