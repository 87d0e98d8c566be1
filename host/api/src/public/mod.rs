//! Routes of the service's port: the two endpoints of the replaced service, `/v1`, and pages.

mod duplicates;
mod enroll;
mod faces;
mod gallery;
mod groups;
pub(crate) mod health;
pub(crate) mod openapi;
pub(crate) mod pages;
mod people;
mod recognize;
mod responses;
mod sessions;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::request::query::refuse_unknown;
use crate::state::App;

/// Path of export and import of the gallery.
pub(crate) const ARCHIVES: &str = "/v1/gallery";

/// Routes that analyse images and store nothing.
pub(crate) fn recognition_routes() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new()
        .routes(routes!(faces::detect))
        .routes(routes!(faces::embeddings))
        .routes(routes!(faces::compare));
    refuse_unknown(routes).routes(routes!(recognize::process_frame))
}

/// Routes that enrol people.
pub(crate) fn enrollment_routes() -> OpenApiRouter<App> {
    refuse_unknown(OpenApiRouter::new().routes(routes!(people::add_photos)))
        .routes(routes!(enroll::process_images))
}

/// Routes that list, show and delete people, and change groups.
pub(crate) fn management_routes() -> OpenApiRouter<App> {
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

/// Routes that create sessions and take their frames.
pub(crate) fn session_feed_routes() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new()
        .routes(routes!(sessions::create))
        .routes(routes!(sessions::frames::take));
    refuse_unknown(routes)
}

/// Routes that read and correct the attendance of sessions.
pub(crate) fn attendance_routes() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new()
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::show, sessions::correct))
        .routes(routes!(sessions::attendance))
        .routes(routes!(sessions::events::list));
    refuse_unknown(routes)
}

/// Routes that end sessions.
pub(crate) fn session_end_routes() -> OpenApiRouter<App> {
    refuse_unknown(OpenApiRouter::new().routes(routes!(sessions::end)))
}
