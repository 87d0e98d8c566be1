//! Groups of people: a course, a shift, a door.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use rostro_service::deployment::Actor;
use rostro_service::types::{GroupChange, GroupId};

use super::{blocking, person, unknown_person};
use crate::App;
use crate::error::ApiError;
use crate::public::openapi::{AuthErrors, LockErrors, NoBodyErrors, NotFoundErrors, WriteErrors};
use crate::request::extract::PathParams;

/// Every group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupsAnswer {
    groups: Vec<ListedGroup>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ListedGroup {
    group: String,
    /// How many people are in it.
    people: usize,
}

/// A group and who is in it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupAnswer {
    group: String,
    people: Vec<String>,
}

/// What came of a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangedAnswer {
    /// Whether anything is other than before.
    changed: bool,
    /// False where the disk cannot sync folders, so that a crash of the machine may undo the
    /// change.
    durable: bool,
}

impl From<GroupChange> for ChangedAnswer {
    fn from(change: GroupChange) -> Self {
        Self {
            changed: change.is_changed(),
            durable: change.durable,
        }
    }
}

/// List groups.
#[utoipa::path(
    get,
    path = "/v1/groups",
    tag = "manage",
    responses((status = 200, description = "Every group", body = GroupsAnswer), AuthErrors)
)]
pub(super) async fn list(State(app): State<App>) -> Json<GroupsAnswer> {
    let groups = app
        .service
        .groups()
        .list()
        .into_iter()
        .map(|(group, people)| ListedGroup {
            group: group.to_string(),
            people,
        });
    Json(GroupsAnswer {
        groups: groups.collect(),
    })
}

/// Show who is in a group.
#[utoipa::path(
    get,
    path = "/v1/groups/{group}",
    tag = "manage",
    params(("group" = String, Path, description = "The group's name")),
    responses((status = 200, description = "Who is in it", body = GroupAnswer), AuthErrors, NotFoundErrors, NoBodyErrors)
)]
pub(super) async fn show(
    State(app): State<App>,
    PathParams(name): PathParams<String>,
) -> Result<Json<GroupAnswer>, ApiError> {
    let group = group(&name)?;
    let members = app
        .service
        .groups()
        .members(&group)
        .ok_or_else(|| unknown_group(&name))?;
    let mut people: Vec<String> = members.iter().map(ToString::to_string).collect();
    people.sort();
    Ok(Json(GroupAnswer {
        group: group.to_string(),
        people,
    }))
}

/// Delete a group, and nobody in it.
#[utoipa::path(
    delete,
    path = "/v1/groups/{group}",
    tag = "manage",
    params(("group" = String, Path, description = "The group's name")),
    responses((status = 200, description = "Whether there was one", body = ChangedAnswer), AuthErrors, NoBodyErrors, WriteErrors)
)]
pub(super) async fn delete(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    PathParams(name): PathParams<String>,
) -> Result<Json<ChangedAnswer>, ApiError> {
    let group = group(&name)?;
    let changed = blocking(move || {
        app.service
            .delete_group(&group, &actor)
            .map_err(ApiError::of_service)
    })
    .await?;
    Ok(Json(changed.into()))
}

/// Put a person into a group, which is made if there is none.
#[utoipa::path(
    put,
    path = "/v1/groups/{group}/people/{id}",
    tag = "manage",
    params(("group" = String, Path, description = "The group's name"), ("id" = String, Path, description = "The person's id")),
    responses((status = 200, description = "Whether they were not in it", body = ChangedAnswer), AuthErrors, NotFoundErrors, NoBodyErrors, WriteErrors, LockErrors)
)]
pub(super) async fn add(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    PathParams((name, id)): PathParams<(String, String)>,
) -> Result<Json<ChangedAnswer>, ApiError> {
    let (group, id) = (group(&name)?, person(&id)?);
    let lock = app.service.lock(&id).await.map_err(ApiError::of_service)?;
    let changed = blocking(move || {
        app.service
            .add_to_group(&group, &lock, &actor)
            .map_err(ApiError::of_service)
    })
    .await?;
    Ok(Json(changed.ok_or_else(unknown_person)?.into()))
}

/// Take a person out of a group.
#[utoipa::path(
    delete,
    path = "/v1/groups/{group}/people/{id}",
    tag = "manage",
    params(("group" = String, Path, description = "The group's name"), ("id" = String, Path, description = "The person's id")),
    responses((status = 200, description = "Whether they were in it", body = ChangedAnswer), AuthErrors, NotFoundErrors, NoBodyErrors, WriteErrors)
)]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    PathParams((name, id)): PathParams<(String, String)>,
) -> Result<Json<ChangedAnswer>, ApiError> {
    let (group, id) = (group(&name)?, person(&id)?);
    let changed = blocking(move || {
        app.service
            .remove_from_group(&group, &id, &actor)
            .map_err(ApiError::of_service)
    })
    .await?;
    Ok(Json(changed.ok_or_else(|| unknown_group(&name))?.into()))
}

fn group(name: &str) -> Result<GroupId, ApiError> {
    name.parse().map_err(|error| {
        ApiError::bad_request(
            "invalid_group",
            format!("The group's name is not valid: {error}."),
        )
    })
}

/// The error for a group that there is not; the name is valid or the caller's own.
pub(crate) fn unknown_group(name: &str) -> ApiError {
    let shown: String = name.chars().take(128).collect();
    ApiError::new(
        StatusCode::NOT_FOUND,
        "unknown_group",
        format!("There is no group '{shown}'."),
    )
    .with("group", shown)
}
