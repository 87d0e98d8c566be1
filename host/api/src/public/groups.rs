//! `/v1/groups`: groups of people, such as a course or a shift.

use axum::Json;
use axum::extract::{Extension, State};
use serde::Serialize;
use utoipa::ToSchema;

use rostro_service::deployment::Actor;
use rostro_service::types::{GroupChange, GroupId};

use super::openapi::{
    AuthErrors, LeaseErrors, LockErrors, NoBodyErrors, NotFoundErrors, WriteErrors,
};
use super::responses::{parse_person, run_blocking};
use crate::error::ApiError;
use crate::request::extract::PathParams;
use crate::state::App;

/// All groups.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupsAnswer {
    groups: Vec<ListedGroup>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ListedGroup {
    group: String,
    /// Number of members.
    people: usize,
}

/// A group with its members.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupAnswer {
    group: String,
    people: Vec<String>,
}

/// Result of a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangedAnswer {
    /// Whether the change had an effect.
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
    operation_id = "list_groups",
    tag = "manage",
    responses(
        (status = 200, description = "All groups", body = GroupsAnswer),
        AuthErrors, LeaseErrors
    )
)]
pub(super) async fn list(State(app): State<App>) -> Result<Json<GroupsAnswer>, ApiError> {
    let groups = app
        .service
        .list_groups()
        .map_err(ApiError::of_service)?
        .into_iter()
        .map(|(group, people)| ListedGroup {
            group: group.to_string(),
            people,
        });
    Ok(Json(GroupsAnswer {
        groups: groups.collect(),
    }))
}

/// Show the members of a group.
#[utoipa::path(
    get,
    path = "/v1/groups/{group}",
    operation_id = "show_group",
    tag = "manage",
    params(("group" = String, Path, description = "The group's name")),
    responses(
        (status = 200, description = "The members", body = GroupAnswer),
        AuthErrors, NotFoundErrors, NoBodyErrors, LeaseErrors
    )
)]
pub(super) async fn show(
    State(app): State<App>,
    PathParams(name): PathParams<String>,
) -> Result<Json<GroupAnswer>, ApiError> {
    let group = parse_group(&name)?;
    let members = app
        .service
        .group_members(&group)
        .map_err(ApiError::of_service)?
        .ok_or_else(|| ApiError::unknown_group(&name))?;
    let mut people: Vec<String> = members.iter().map(ToString::to_string).collect();
    people.sort();
    Ok(Json(GroupAnswer {
        group: group.to_string(),
        people,
    }))
}

/// Delete a group. Its members stay enrolled.
#[utoipa::path(
    delete,
    path = "/v1/groups/{group}",
    operation_id = "delete_group",
    tag = "manage",
    params(("group" = String, Path, description = "The group's name")),
    responses(
        (status = 200, description = "Whether the group existed", body = ChangedAnswer),
        AuthErrors, NoBodyErrors, WriteErrors
    )
)]
pub(super) async fn delete(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    PathParams(name): PathParams<String>,
) -> Result<Json<ChangedAnswer>, ApiError> {
    let group = parse_group(&name)?;
    let changed = run_blocking(move || {
        app.service
            .delete_group(&group, &actor)
            .map_err(ApiError::of_service)
    })
    .await?;
    Ok(Json(changed.into()))
}

/// Add a person to a group. The group is created if it does not exist.
#[utoipa::path(
    put,
    path = "/v1/groups/{group}/people/{id}",
    operation_id = "add_to_group",
    tag = "manage",
    params(
        ("group" = String, Path, description = "The group's name"),
        ("id" = String, Path, description = "The person's id")
    ),
    responses(
        (status = 200, description = "Whether the person was added", body = ChangedAnswer),
        AuthErrors, NotFoundErrors, NoBodyErrors, WriteErrors, LockErrors
    )
)]
pub(super) async fn add(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    PathParams((name, id)): PathParams<(String, String)>,
) -> Result<Json<ChangedAnswer>, ApiError> {
    let (group, id) = (parse_group(&name)?, parse_person(&id)?);
    let lock = app.service.lock(&id).await.map_err(ApiError::of_service)?;
    let changed = run_blocking(move || {
        app.service
            .add_to_group(&group, &lock, &actor)
            .map_err(ApiError::of_service)
    })
    .await?;
    Ok(Json(changed.ok_or_else(ApiError::unknown_person)?.into()))
}

/// Remove a person from a group.
#[utoipa::path(
    delete,
    path = "/v1/groups/{group}/people/{id}",
    operation_id = "remove_from_group",
    tag = "manage",
    params(
        ("group" = String, Path, description = "The group's name"),
        ("id" = String, Path, description = "The person's id")
    ),
    responses(
        (status = 200, description = "Whether the person was a member", body = ChangedAnswer),
        AuthErrors, NotFoundErrors, NoBodyErrors, WriteErrors
    )
)]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    PathParams((name, id)): PathParams<(String, String)>,
) -> Result<Json<ChangedAnswer>, ApiError> {
    let (group, id) = (parse_group(&name)?, parse_person(&id)?);
    let changed = run_blocking(move || {
        app.service
            .remove_from_group(&group, &id, &actor)
            .map_err(ApiError::of_service)
    })
    .await?;
    Ok(Json(
        changed
            .ok_or_else(|| ApiError::unknown_group(&name))?
            .into(),
    ))
}

fn parse_group(name: &str) -> Result<GroupId, ApiError> {
    name.parse().map_err(|error| {
        ApiError::bad_request(
            "invalid_group",
            format!("The group's name is not valid: {error}."),
        )
    })
}
