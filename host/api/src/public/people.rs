//! `/v1/people`: stored people, also those who must be enrolled again for the active revision.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use rostro_common::ids::PersonId;
use rostro_service::Mode;
use rostro_service::deployment::Actor;
use rostro_service::executor::Client;

use super::enroll::{self, EnrollAnswer, EnrollCall, Photos};
use super::openapi::{
    AuthErrors, BodyErrors, LeaseErrors, LockErrors, NoBodyErrors, NotFoundErrors, PhotosForm,
    ReadErrors, WorkerErrors, WriteErrors,
};
use super::responses::{PipelineHeader, parse_person, run_blocking};
use crate::error::ApiError;
use crate::request::extract::{PathParams, QueryParams};
use crate::request::trace::RequestId;
use crate::request::upload::{Received, Upload};
use crate::state::App;

/// Largest number of people in an answer.
const MAX_LIMIT: usize = 1000;

/// Page of people.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// The `next_cursor` of the previous answer.
    cursor: Option<String>,
    /// Largest number of people in the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A page of people.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PeopleAnswer {
    people: Vec<ListedPerson>,
    /// Cursor of the next page. Null on the last page.
    next_cursor: Option<String>,
}

/// A person of a list.
#[derive(Debug, Serialize, ToSchema)]
struct ListedPerson {
    id: String,
    /// Whether the person must be enrolled again before the active revision recognises them.
    needs_enrolment: bool,
}

/// A stored person.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PersonAnswer {
    id: String,
    /// Whether the person must be enrolled again before the active revision recognises them.
    needs_enrolment: bool,
    /// Enrolled photos, of all recognisers.
    photos: Vec<PhotoAnswer>,
    groups: Vec<String>,
}

/// Stored data of an enrolled photo.
#[derive(Debug, Serialize, ToSchema)]
struct PhotoAnswer {
    /// Contract of the embedding. Null for a photo of the replaced service that no revision has
    /// claimed yet.
    contract: Option<String>,
    /// The detector's confidence in the face. Null for a photo of the replaced service.
    det_score: Option<f32>,
}

/// Templates of a person.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EmbeddingAnswer {
    id: String,
    /// Contract of the vectors. Only vectors of one contract can be compared.
    contract: String,
    dimension: usize,
    /// Vectors that faces are compared with.
    templates: Vec<Vec<f32>>,
}

/// Result of a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletedAnswer {
    /// Whether the person existed.
    deleted: bool,
    /// Files that are named like the person but do not belong to them. They stay.
    left_alone: Vec<LeftAlone>,
    /// False where the disk cannot sync folders, so that a crash of the machine may undo the
    /// deletion.
    durable: bool,
    /// Whether a durable tombstone was written, by which imports of older archives leave the person
    /// out. False if the disk has no room for it: then do not import older archives.
    tombstone: bool,
}

/// A file that was not deleted.
#[derive(Debug, Serialize, ToSchema)]
struct LeftAlone {
    /// Path of the file.
    file: String,
    reason: String,
}

/// List people.
#[utoipa::path(
    get,
    path = "/v1/people",
    operation_id = "list_people",
    tag = "manage",
    params(ListQuery),
    responses(
        (status = 200, description = "People in the order of their ids", body = PeopleAnswer),
        AuthErrors, NoBodyErrors, LeaseErrors
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    QueryParams(query): QueryParams<ListQuery>,
) -> Result<Json<PeopleAnswer>, ApiError> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::bad_request(
            "invalid_limit",
            format!("'limit' must be between 1 and {MAX_LIMIT}."),
        ));
    }
    let after = query.cursor.as_deref().map(parse_cursor).transpose()?;
    let mut people = run_blocking(move || {
        let people = app.service.people_after(after.as_ref(), limit + 1);
        people.map_err(ApiError::of_service)
    })
    .await?;
    let has_more = people.len() > limit;
    people.truncate(limit);
    let next_cursor = people.last().filter(|_| has_more).map(|(id, _)| cursor(id));
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
    operation_id = "show_person",
    tag = "manage",
    params(("id" = String, Path, description = "The person's id")),
    responses(
        (status = 200, description = "The stored data", body = PersonAnswer),
        AuthErrors, NotFoundErrors, NoBodyErrors, ReadErrors
    )
)]
pub(super) async fn show(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
) -> Result<Json<PersonAnswer>, ApiError> {
    let id = parse_person(&id)?;
    run_blocking(move || {
        let stored = app
            .service
            .person(&id)
            .map_err(ApiError::of_service)?
            .ok_or_else(ApiError::unknown_person)?;
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

/// Show the templates of a person.
#[utoipa::path(
    get,
    path = "/v1/people/{id}/embedding",
    operation_id = "show_embedding",
    tag = "manage",
    params(("id" = String, Path, description = "The person's id")),
    responses(
        (status = 200, description = "The templates", body = EmbeddingAnswer),
        AuthErrors, NotFoundErrors, NoBodyErrors, ReadErrors, WorkerErrors
    )
)]
pub(super) async fn embedding(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Extension(client): Extension<Client>,
    PathParams(id): PathParams<String>,
) -> Result<Json<EmbeddingAnswer>, ApiError> {
    let id = parse_person(&id)?;
    let context = app.service.context(client);
    let templates = app.service.templates(id.clone(), &context).await;
    let (service, person) = (Arc::clone(&app.service), id.clone());
    let templates = run_blocking(move || {
        // The audit line is written before the answer is sent.
        service.record_embedding(&actor, &templates, &person);
        templates
            .map_err(ApiError::of_service)?
            .ok_or_else(ApiError::unknown_person)
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

/// Delete a person from every search, every group and the disk.
#[utoipa::path(
    delete,
    path = "/v1/people/{id}",
    operation_id = "delete_person",
    tag = "manage",
    params(("id" = String, Path, description = "The person's id")),
    responses(
        (status = 200, description = "Whether the person existed", body = DeletedAnswer),
        AuthErrors, NoBodyErrors, WriteErrors, LockErrors
    )
)]
pub(super) async fn delete(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    PathParams(id): PathParams<String>,
) -> Result<Json<DeletedAnswer>, ApiError> {
    let id = parse_person(&id)?;
    let lock = app.service.lock(&id).await.map_err(ApiError::of_deletion)?;
    let removed = run_blocking(move || {
        app.service
            .delete(lock, &actor)
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
        durable: removed.durability.is_synced(),
        tombstone: removed.has_tombstone,
    }))
}

/// Add photos to a person.
#[utoipa::path(
    post,
    path = "/v1/people/{id}/photos",
    tag = "enrol",
    params(("id" = String, Path, description = "The person's id")),
    request_body(content = PhotosForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Result for each photo", body = EnrollAnswer),
        AuthErrors, NotFoundErrors, BodyErrors, WriteErrors
    )
)]
pub(super) async fn add_photos(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Extension(actor): Extension<Actor>,
    PathParams(id): PathParams<String>,
    upload: Upload,
) -> Result<(PipelineHeader, Json<EnrollAnswer>), ApiError> {
    let id = parse_person(&id)?;
    let Received {
        content: form,
        context,
        ..
    } = upload.form(enroll::FIELDS).await?;
    let call = EnrollCall {
        id,
        photos: Photos::of(form)?,
        mode: Mode::Add,
        actor,
        request_id,
        context,
    };
    enroll::enroll_photos(&app, call).await
}

/// Encodes an id as a cursor, which is opaque to callers.
pub(super) fn cursor(id: &PersonId) -> String {
    hex::encode(id.as_str())
}

/// Decodes a cursor.
pub(super) fn parse_cursor(cursor: &str) -> Result<PersonId, ApiError> {
    let invalid = || {
        ApiError::bad_request(
            "invalid_cursor",
            "The cursor is not one that an answer gave.",
        )
    };
    let bytes = hex::decode(cursor).map_err(|_| invalid())?;
    let text = String::from_utf8(bytes).map_err(|_| invalid())?;
    text.parse().map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_is_parsed_or_refused() {
        for id in ["s6@school", "José Núñez", "李雷"] {
            let id: PersonId = id.parse().unwrap();
            assert_eq!(parse_cursor(&cursor(&id)).unwrap(), id);
        }
        for wrong in [
            "",
            "7",
            "zz",
            "+1",
            "2e2e",
            "733",
            "s6",
            "é",
            &"41".repeat(200),
        ] {
            assert_eq!(
                parse_cursor(wrong).unwrap_err().code,
                "invalid_cursor",
                "{wrong}"
            );
        }
    }
}
