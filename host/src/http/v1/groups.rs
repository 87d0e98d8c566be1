//! Groups of people: a course, a shift, a door.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;

use super::{blocking, person, unknown_person};
use crate::groups::{GroupId, GroupsError};
use crate::http::App;
use crate::http::error::ApiError;

/// Every group.
#[derive(Debug, Serialize)]
pub(super) struct GroupsAnswer {
    groups: Vec<ListedGroup>,
}

#[derive(Debug, Serialize)]
struct ListedGroup {
    group: String,
    /// How many people are in it.
    people: usize,
}

/// A group and who is in it.
#[derive(Debug, Serialize)]
pub(super) struct GroupAnswer {
    group: String,
    people: Vec<String>,
}

/// What came of a change.
#[derive(Debug, Serialize)]
pub(super) struct ChangedAnswer {
    /// Whether anything is other than before.
    changed: bool,
}

pub(super) async fn list(State(app): State<App>) -> Json<GroupsAnswer> {
    let groups = app.service.groups().list().into_iter().map(|(group, people)| ListedGroup { group: group.to_string(), people });
    Json(GroupsAnswer { groups: groups.collect() })
}

pub(super) async fn show(State(app): State<App>, Path(name): Path<String>) -> Result<Json<GroupAnswer>, ApiError> {
    let members = app.service.groups().members(&group(&name)?).ok_or_else(|| unknown_group(&name))?;
    let mut people: Vec<String> = members.iter().map(ToString::to_string).collect();
    people.sort();
    Ok(Json(GroupAnswer { group: name, people }))
}

pub(super) async fn delete(State(app): State<App>, Path(name): Path<String>) -> Result<Json<ChangedAnswer>, ApiError> {
    let group = group(&name)?;
    let changed = blocking(move || app.service.groups().delete(&group).map_err(failed)).await?;
    Ok(Json(ChangedAnswer { changed }))
}

pub(super) async fn add(State(app): State<App>, Path((name, id)): Path<(String, String)>) -> Result<Json<ChangedAnswer>, ApiError> {
    let (group, id) = (group(&name)?, person(&id)?);
    let deadline = app.service.deadline();
    let changed = blocking(move || app.service.add_to_group(&group, &id, deadline).map_err(ApiError::of_service)).await?;
    Ok(Json(ChangedAnswer { changed: changed.ok_or_else(unknown_person)? }))
}

pub(super) async fn remove(State(app): State<App>, Path((name, id)): Path<(String, String)>) -> Result<Json<ChangedAnswer>, ApiError> {
    let (group, id) = (group(&name)?, person(&id)?);
    let changed = blocking(move || app.service.groups().remove(&group, &id).map_err(failed)).await?;
    Ok(Json(ChangedAnswer { changed: changed.ok_or_else(|| unknown_group(&name))? }))
}

fn group(name: &str) -> Result<GroupId, ApiError> {
    name.parse().map_err(|error| ApiError::bad_request("invalid_group", format!("The group's name is not valid: {error}.")))
}

/// The error for a group that there is not; the name is valid or the caller's own.
pub(in crate::http) fn unknown_group(name: &str) -> ApiError {
    let shown: String = name.chars().take(128).collect();
    ApiError::new(StatusCode::NOT_FOUND, "unknown_group", format!("There is no group '{shown}'.")).with("group", shown)
}

pub(in crate::http) fn failed(error: GroupsError) -> ApiError {
    ApiError::of_service(crate::people::PeopleError::from(error).into())
}
