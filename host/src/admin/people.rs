//! Everybody who is stored, also those whom the active revision does not know by its embeddings.

use axum::Json;
use axum::extract::{Extension, Path, State};
use serde::{Deserialize, Serialize};

use super::{Admin, Asked};
use crate::deployment::Actor;
use crate::http::ApiError;
use crate::person::PersonId;

/// The most people in an answer.
const MOST: usize = 1000;

/// Which people.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    after: Option<String>,
    limit: Option<usize>,
}

/// Some of the people.
#[derive(Debug, Serialize)]
pub(super) struct PeopleAnswer {
    people: Vec<PersonAnswer>,
    /// What to give as `after` for those that follow; null if these are the last.
    next: Option<String>,
}

/// A person.
#[derive(Debug, Serialize)]
struct PersonAnswer {
    id: String,
    /// Stored, and not recognised before they are enrolled with the active revision.
    needs_enrolment: bool,
}

/// What came of a deletion.
#[derive(Debug, Serialize)]
pub(super) struct DeletedAnswer {
    /// Whether there was such a person.
    deleted: bool,
}

pub(super) async fn list(State(admin): State<Admin>, Asked(query): Asked<ListQuery>) -> Result<Json<PeopleAnswer>, ApiError> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=MOST).contains(&limit) {
        return Err(ApiError::bad_request("invalid_limit", format!("'limit' must be between 1 and {MOST}.")));
    }
    let after = query.after.as_deref().map(person).transpose()?;
    let mut people = admin.ask(move |deployment| Ok(deployment.active().view.list(after.as_ref(), limit + 1))).await?;
    let more = people.len() > limit;
    people.truncate(limit);
    let next = people.last().filter(|_| more).map(|(id, _)| id.to_string());
    let people = people.into_iter().map(|(id, needs_enrolment)| PersonAnswer { id: id.to_string(), needs_enrolment });
    Ok(Json(PeopleAnswer { people: people.collect(), next }))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> Result<Json<DeletedAnswer>, ApiError> {
    let id = person(&id)?;
    let deleted = tokio::task::spawn_blocking(move || admin.deployment.delete_person(&id, &actor)).await;
    let failed =
        |error: &dyn std::fmt::Display| ApiError::internal("gallery_failed", "The person could not be deleted.", error.to_string());
    let deleted = deleted.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    Ok(Json(DeletedAnswer { deleted }))
}

fn person(id: &str) -> Result<PersonId, ApiError> {
    id.parse().map_err(|error| ApiError::bad_request("invalid_id", format!("The id is not valid: {error}.")))
}
