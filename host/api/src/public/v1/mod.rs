//! The interface beside the two endpoints of the replaced service: faces without storing, people
//! and groups.

mod duplicates;
mod faces;
mod gallery;
pub(crate) mod groups;
mod people;
mod upload;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use rostro_common::ids::PersonId;

use crate::App;
use crate::error::ApiError;
use crate::request::query::refuse_unknown;

/// Where archives go in and out.
pub(crate) const ARCHIVES: &str = "/v1/gallery";

/// What tells of faces and stores nothing.
pub(crate) fn recognising() -> OpenApiRouter<App> {
    refuse_unknown(
        OpenApiRouter::new()
            .routes(routes!(faces::detect))
            .routes(routes!(faces::embeddings))
            .routes(routes!(faces::compare)),
    )
}

/// What enrols.
pub(crate) fn enrolling() -> OpenApiRouter<App> {
    refuse_unknown(OpenApiRouter::new().routes(routes!(people::add_photos)))
}

/// What lists, shows and deletes people, and puts them into groups.
pub(crate) fn managing() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new()
        .routes(routes!(people::list))
        .routes(routes!(people::show, people::delete))
        .routes(routes!(people::embedding))
        .routes(routes!(duplicates::list))
        .routes(routes!(gallery::export, gallery::import))
        .routes(routes!(groups::list))
        .routes(routes!(groups::show, groups::delete))
        .routes(routes!(groups::add, groups::remove));
    refuse_unknown(routes)
}

/// The id in a path.
fn person(id: &str) -> Result<PersonId, ApiError> {
    id.parse().map_err(|error| {
        ApiError::bad_request("invalid_id", format!("The id is not valid: {error}."))
    })
}

fn unknown_person() -> ApiError {
    ApiError::new(
        axum::http::StatusCode::NOT_FOUND,
        "unknown_person",
        "Nobody is stored under this id.",
    )
}

/// Does what may wait for the disk on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
    done.map_err(|error| ApiError::internal("internal", "The service failed unexpectedly.", error))?
}
