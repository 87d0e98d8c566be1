//! The interface beside the two endpoints of the replaced service: faces without storing, people and groups.

mod faces;
pub(super) mod groups;
mod people;

use axum::Router;
use axum::routing::{get, post, put};

use super::App;
use super::error::ApiError;
use crate::person::PersonId;

/// What tells of faces and stores nothing.
pub(super) fn recognising() -> Router<App> {
    Router::new()
        .route("/v1/detect", post(faces::detect))
        .route("/v1/embeddings", post(faces::embeddings))
        .route("/v1/compare", post(faces::compare))
}

/// What enrols.
pub(super) fn enrolling() -> Router<App> {
    Router::new().route("/v1/people/{id}/photos", post(people::add_photos))
}

/// What lists, shows and deletes people, and puts them into groups.
pub(super) fn managing() -> Router<App> {
    Router::new()
        .route("/v1/people", get(people::list))
        .route("/v1/people/{id}", get(people::show).delete(people::delete))
        .route("/v1/people/{id}/embedding", get(people::embedding))
        .route("/v1/groups", get(groups::list))
        .route("/v1/groups/{group}", get(groups::show).delete(groups::delete))
        .route("/v1/groups/{group}/people/{id}", put(groups::add).delete(groups::remove))
}

/// The id in a path.
fn person(id: &str) -> Result<PersonId, ApiError> {
    id.parse().map_err(|error| ApiError::bad_request("invalid_id", format!("The id is not valid: {error}.")))
}

fn unknown_person() -> ApiError {
    ApiError::new(axum::http::StatusCode::NOT_FOUND, "unknown_person", "Nobody is stored under this id.")
}

/// Does what may wait for the disk on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ApiError> + Send + 'static) -> Result<T, ApiError> {
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
    done.map_err(|error| ApiError::internal("internal", "The service failed unexpectedly.", error))?
}
