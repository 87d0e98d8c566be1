//! Everybody who is stored, also those whom the active revision does not know by its embeddings.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use rostro_common::ids::PersonId;
use rostro_service::Mode;
use rostro_service::deployment::Actor;
use rostro_service::executor::Client;

use super::{blocking, person, unknown_person};
use crate::error::ApiError;
use crate::public::enroll::{EnrollAnswer, Photos};
use crate::public::openapi::{
    AuthErrors, BodyErrors, LockErrors, NoBodyErrors, NotFoundErrors, PhotosForm, ReadErrors,
    WorkerErrors, WriteErrors,
};
use crate::request::extract::{PathParams, QueryParams};
use crate::request::trace::RequestId;
use crate::{App, PipelineHeader};

/// The most people in an answer.
const MOST: usize = 1000;

/// Which people.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// The `next_cursor` of an answer before.
    cursor: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Some of the people.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PeopleAnswer {
    people: Vec<ListedPerson>,
    /// What to give as `cursor` for those that follow; null if these are the last.
    next_cursor: Option<String>,
}

/// A person of a list.
#[derive(Debug, Serialize, ToSchema)]
struct ListedPerson {
    id: String,
    /// Stored, and not recognised before they are enrolled with the active revision.
    needs_enrolment: bool,
}

/// A person.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PersonAnswer {
    id: String,
    /// Stored, and not recognised before they are enrolled with the active revision.
    needs_enrolment: bool,
    /// The photos that are enrolled, of every recogniser.
    photos: Vec<PhotoAnswer>,
    groups: Vec<String>,
}

/// An enrolled photo: what is kept of it.
#[derive(Debug, Serialize, ToSchema)]
struct PhotoAnswer {
    /// What its embedding means; null for one of the replaced service that no revision has seen
    /// yet.
    contract: Option<String>,
    /// The detector's confidence in the face; null where the replaced service wrote it.
    det_score: Option<f32>,
}

/// What a person is matched by.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EmbeddingAnswer {
    id: String,
    /// What the numbers mean: only those of one contract can be compared.
    contract: String,
    dimension: usize,
    /// The vectors that faces are compared with.
    templates: Vec<Vec<f32>>,
}

/// What came of a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletedAnswer {
    /// Whether there was such a person.
    deleted: bool,
    /// Files of the gallery that have the person's name and are not theirs, which stay.
    left_alone: Vec<LeftAlone>,
    /// False where the disk cannot sync folders, so that a crash of the machine may undo the
    /// deletion.
    durable: bool,
    /// Whether the deletion left a durable tombstone, by which an import leaves the person out if
    /// its archive is older. False where the gallery's disk has no room for it: then keep older
    /// archives away.
    tombstone: bool,
}

/// A file that stays.
#[derive(Debug, Serialize, ToSchema)]
struct LeftAlone {
    /// Its path.
    file: String,
    reason: String,
}

/// List people.
#[utoipa::path(
    get,
    path = "/v1/people",
    tag = "manage",
    params(ListQuery),
    responses((status = 200, description = "People in the order of their ids", body = PeopleAnswer), AuthErrors, NoBodyErrors)
)]
pub(super) async fn list(
    State(app): State<App>,
    QueryParams(query): QueryParams<ListQuery>,
) -> Result<Json<PeopleAnswer>, ApiError> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=MOST).contains(&limit) {
        return Err(ApiError::bad_request(
            "invalid_limit",
            format!("'limit' must be between 1 and {MOST}."),
        ));
    }
    let after = query.cursor.as_deref().map(of_cursor).transpose()?;
    let mut people =
        blocking(move || Ok(app.service.people_after(after.as_ref(), limit + 1))).await?;
    let more = people.len() > limit;
    people.truncate(limit);
    let next_cursor = people.last().filter(|_| more).map(|(id, _)| cursor(id));
    let people = people
        .into_iter()
        .map(|(id, needs_enrolment)| ListedPerson {
            id: id.to_string(),
            needs_enrolment,
        });
    Ok(Json(PeopleAnswer {
        people: people.collect(),
        next_cursor,
    }))
}

/// Show a person.
#[utoipa::path(
    get,
    path = "/v1/people/{id}",
    tag = "manage",
    params(("id" = String, Path, description = "The person's id")),
    responses((status = 200, description = "What is stored", body = PersonAnswer), AuthErrors, NotFoundErrors, NoBodyErrors, ReadErrors)
)]
pub(super) async fn show(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
) -> Result<Json<PersonAnswer>, ApiError> {
    let id = person(&id)?;
    blocking(move || {
        let stored = app
            .service
            .person(&id)
            .map_err(ApiError::of_service)?
            .ok_or_else(unknown_person)?;
        let photos = stored.samples.into_iter().map(|sample| PhotoAnswer {
            contract: sample.contract.map(|contract| contract.to_string()),
            det_score: sample.det_score,
        });
        let groups = stored.groups.iter().map(ToString::to_string).collect();
        Ok(Json(PersonAnswer {
            id: id.to_string(),
            needs_enrolment: stored.needs_enrolment,
            photos: photos.collect(),
            groups,
        }))
    })
    .await
}

/// Show what a person is matched by.
#[utoipa::path(
    get,
    path = "/v1/people/{id}/embedding",
    tag = "manage",
    params(("id" = String, Path, description = "The person's id")),
    responses((status = 200, description = "Their templates", body = EmbeddingAnswer), AuthErrors, NotFoundErrors, NoBodyErrors, ReadErrors, WorkerErrors)
)]
pub(super) async fn embedding(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Extension(client): Extension<Client>,
    PathParams(id): PathParams<String>,
) -> Result<Json<EmbeddingAnswer>, ApiError> {
    let id = person(&id)?;
    let context = app.service.context(client);
    let templates = app.service.templates(id.clone(), &context).await;
    let (service, about) = (Arc::clone(&app.service), id.clone());
    let templates = blocking(move || {
        // Before it is answered: what was read is recorded.
        service.note_embedding(&actor, &templates, &about);
        templates
            .map_err(ApiError::of_service)?
            .ok_or_else(unknown_person)
    })
    .await?;
    let (contract, dimension, templates) = (
        templates.contract.to_string(),
        templates.dimension,
        templates.vectors,
    );
    if templates.is_empty() {
        let message =
            "The person is stored with embeddings of another recogniser; enrol them again.";
        return Err(ApiError::new(
            axum::http::StatusCode::CONFLICT,
            "needs_enrolment",
            message,
        ));
    }
    Ok(Json(EmbeddingAnswer {
        id: id.to_string(),
        contract,
        dimension,
        templates,
    }))
}

/// Delete a person: from every search, every group and the disk.
#[utoipa::path(
    delete,
    path = "/v1/people/{id}",
    tag = "manage",
    params(("id" = String, Path, description = "The person's id")),
    responses((status = 200, description = "Whether there was one", body = DeletedAnswer), AuthErrors, NoBodyErrors, WriteErrors, LockErrors)
)]
pub(super) async fn delete(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    PathParams(id): PathParams<String>,
) -> Result<Json<DeletedAnswer>, ApiError> {
    let id = person(&id)?;
    let lock = app.service.lock(&id).await.map_err(ApiError::of_deletion)?;
    let removed = blocking(move || {
        app.service
            .delete(&lock, &actor)
            .map_err(ApiError::of_deletion)
    })
    .await?;
    let left_alone = removed.left_alone.into_iter();
    let left_alone = left_alone.map(|problem| LeftAlone {
        file: problem.path.display().to_string(),
        reason: problem.cause.to_string(),
    });
    Ok(Json(DeletedAnswer {
        deleted: removed.was_there,
        left_alone: left_alone.collect(),
        durable: removed.durable,
        tombstone: removed.has_tombstone,
    }))
}

/// Add photos to those that a person has.
#[utoipa::path(
    post,
    path = "/v1/people/{id}/photos",
    tag = "enrol",
    params(("id" = String, Path, description = "The person's id")),
    request_body(content = PhotosForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "What became of each photo", body = EnrollAnswer), AuthErrors, NotFoundErrors, BodyErrors, WriteErrors)
)]
pub(super) async fn add_photos(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Extension(actor): Extension<Actor>,
    Extension(client): Extension<Client>,
    PathParams(id): PathParams<String>,
    request: Request,
) -> Result<(PipelineHeader, Json<EnrollAnswer>), ApiError> {
    let id = person(&id)?;
    let photos = app
        .received(Photos::read(request, &app.limits.of(&client)))
        .await?;
    let context = app.service.context(client);
    EnrollAnswer::enroll(&app, id, photos, Mode::Add, &actor, &request_id, &context).await
}

/// An id as a cursor: callers are not to read it.
pub(super) fn cursor(id: &PersonId) -> String {
    id.as_str()
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(super) fn of_cursor(cursor: &str) -> Result<PersonId, ApiError> {
    let wrong = || {
        ApiError::bad_request(
            "invalid_cursor",
            "The cursor is not one that an answer gave.",
        )
    };
    let (pairs, rest) = cursor.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| {
        std::str::from_utf8(pair)
            .ok()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
    };
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    let text = bytes
        .filter(|_| rest.is_empty())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is_one() {
        for id in ["s6@school", "José Núñez", "李雷"] {
            let id: PersonId = id.parse().unwrap();
            assert_eq!(of_cursor(&cursor(&id)).unwrap(), id);
        }
        for wrong in ["", "7", "zz", "+1", "2e2e", "s6", "é", &"41".repeat(200)] {
            assert_eq!(
                of_cursor(wrong).unwrap_err().code,
                "invalid_cursor",
                "{wrong}"
            );
        }
    }
}
