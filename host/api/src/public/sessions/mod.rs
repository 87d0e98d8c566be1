//! `/v1/sessions`: who is present in the frames of a stream.

mod answers;
pub(super) mod events;
pub(super) mod frames;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use rostro_service::SessionRequest;
use rostro_service::types::{
    CorrectedStatus, CorrectionRequest, GroupId, PresenceRule, SessionEvent, SessionId,
    SessionSummary, SessionView, StreamName, attendance_csv,
};

use self::answers::EventSchema;
use super::openapi::{
    AuthErrors, BodyErrors, NoBodyErrors, NotFoundErrors, SessionErrors, WriteErrors,
};
use super::responses::{parse_person, run_blocking};
use crate::auth::api_keys::SessionCaller;
use crate::error::ApiError;
use crate::request::extract::{JsonBody, PathParams, QueryParams};
use crate::state::App;

/// Largest number of sessions or events in an answer.
const MAX_LIMIT: usize = 1000;

/// Number of them if the caller chooses none.
const DEFAULT_LIMIT: usize = 100;

/// A session to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateSession {
    /// Name of the stream that the frames come from, such as a camera: 1 to 64 ASCII letters,
    /// digits, `-`, `_` and `.`.
    #[schema(value_type = String, example = "room-1")]
    stream: StreamName,
    /// Group to search. Its members are absent until they are seen. All people if it is left out.
    group: Option<String>,
    /// When a person is present.
    #[serde(default)]
    rule: PresenceRule,
}

/// Sessions to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionsQuery {
    /// The `next_cursor` of the previous answer.
    cursor: Option<String>,
    /// Largest number of sessions in the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Lists the sessions of this stream only.
    stream: Option<String>,
    /// Lists open (`true`) or ended (`false`) sessions only.
    open: Option<bool>,
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionsAnswer {
    sessions: Vec<SessionSummary>,
    /// Cursor of the next page. Null on the last page.
    next_cursor: Option<String>,
}

/// A correction of the attendance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CorrectAttendance {
    /// Id of an enrolled person.
    person: String,
    /// Status from now on, instead of the counted one. Null withdraws the correction.
    #[serde(deserialize_with = "Option::deserialize")]
    status: Option<CorrectedStatus>,
}

/// Events that a request made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CorrectedAnswer {
    #[schema(value_type = Vec<EventSchema>)]
    events: Vec<SessionEvent>,
}

/// How to end a session.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EndQuery {
    /// Deletes the session with its attendance and events, which are otherwise kept for
    /// `--keep-sessions` days. Needs the scope `attend`.
    #[param(default = false)]
    delete: Option<bool>,
}

/// Create a session.
#[utoipa::path(
    post,
    path = "/v1/sessions",
    operation_id = "create_session",
    tag = "sessions",
    request_body = CreateSession,
    responses(
        (status = 201, description = "The session", body = SessionSummary),
        AuthErrors, NotFoundErrors, BodyErrors, WriteErrors
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: SessionCaller,
    JsonBody(session): JsonBody<CreateSession>,
) -> Result<(StatusCode, Json<SessionSummary>), ApiError> {
    let group = session
        .group
        .map(|name| {
            name.parse::<GroupId>()
                .map_err(|_| ApiError::unknown_group(&name))
        })
        .transpose()?;
    let request = SessionRequest {
        stream: session.stream,
        group,
        rule: session.rule,
        owner: caller.name,
    };
    let created = run_blocking(move || {
        app.service
            .create_session(request)
            .map_err(ApiError::of_session)
    });
    Ok((StatusCode::CREATED, Json(created.await?)))
}

/// List sessions.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    operation_id = "list_sessions",
    tag = "sessions",
    params(SessionsQuery),
    responses(
        (status = 200, description = "Sessions, the latest first", body = SessionsAnswer),
        AuthErrors, NoBodyErrors
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    QueryParams(query): QueryParams<SessionsQuery>,
) -> Result<Json<SessionsAnswer>, ApiError> {
    let limit = limit(query.limit)?;
    let cursor = query.cursor.as_deref().map(parse_cursor).transpose()?;
    let listed = run_blocking(move || {
        let sessions = app.service.sessions().list();
        sessions.map_err(|error| ApiError::of_session(error.into()))
    });
    let mut sessions = listed.await?;
    sessions.reverse();
    if let Some(cursor) = cursor {
        let position = sessions.iter().position(|session| session.id == cursor);
        let position = position.ok_or_else(|| {
            ApiError::bad_request(
                "invalid_cursor",
                "The session of the cursor was deleted; list from the beginning.",
            )
        })?;
        sessions.drain(..=position);
    }
    sessions.retain(|session| {
        query
            .stream
            .as_deref()
            .is_none_or(|stream| session.stream.as_str() == stream)
            && query
                .open
                .is_none_or(|open| session.ended.is_none() == open)
    });
    let is_last = sessions.len() <= limit;
    sessions.truncate(limit);
    let last = sessions.last().filter(|_| !is_last);
    Ok(Json(SessionsAnswer {
        next_cursor: last.map(|session| session.id.to_string()),
        sessions,
    }))
}

/// Show who is present in a session.
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}",
    operation_id = "show_session",
    tag = "sessions",
    params(("id" = String, Path, description = "The session's id")),
    responses(
        (status = 200, description = "The session with its people", body = SessionView),
        AuthErrors, SessionErrors, NoBodyErrors
    )
)]
pub(super) async fn show(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
) -> Result<Json<SessionView>, ApiError> {
    let id = parse_session(&id)?;
    let view = run_blocking(move || app.service.session(id).map_err(ApiError::of_session));
    Ok(Json(view.await?))
}

/// Correct the attendance of a person, also after the session's end.
#[utoipa::path(
    patch,
    path = "/v1/sessions/{id}",
    operation_id = "correct_attendance",
    tag = "sessions",
    params(("id" = String, Path, description = "The session's id")),
    request_body = CorrectAttendance,
    responses(
        (status = 200, description = "The event of the correction", body = CorrectedAnswer),
        AuthErrors, SessionErrors, BodyErrors, WriteErrors
    )
)]
pub(super) async fn correct(
    State(app): State<App>,
    caller: SessionCaller,
    PathParams(id): PathParams<String>,
    JsonBody(correction): JsonBody<CorrectAttendance>,
) -> Result<Json<CorrectedAnswer>, ApiError> {
    let id = parse_session(&id)?;
    let request = CorrectionRequest {
        person: parse_person(&correction.person)?,
        status: correction.status,
        by: caller.name,
    };
    let events = run_blocking(move || {
        app.service
            .correct_attendance(id, &request)
            .map_err(ApiError::of_session)
    });
    Ok(Json(CorrectedAnswer {
        events: events.await?,
    }))
}

/// End a session: it takes no more frames.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{id}",
    operation_id = "end_session",
    tag = "sessions",
    params(("id" = String, Path, description = "The session's id"), EndQuery),
    responses(
        (status = 200, description = "The session at its end, without its people", body = SessionSummary),
        AuthErrors, SessionErrors, NoBodyErrors, WriteErrors
    )
)]
pub(super) async fn end(
    State(app): State<App>,
    caller: SessionCaller,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<EndQuery>,
) -> Result<Json<SessionSummary>, ApiError> {
    let id = parse_session(&id)?;
    let deletes = query.delete.unwrap_or_default();
    if deletes && !caller.can_attend {
        return Err(ApiError::scope_missing(&["attend"]));
    }
    let ended = run_blocking(move || {
        let service = &app.service;
        let end = || {
            if !caller.can_attend {
                service.check_session_owner(id, caller.name.as_deref())?;
            }
            // A deletion writes nothing, so that it works on a full disk.
            match deletes {
                true => service.delete_session(id),
                false => service.end_session(id),
            }
        };
        end().map_err(ApiError::of_session)
    });
    Ok(Json(ended.await?))
}

/// Read the attendance as CSV.
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}/attendance.csv",
    operation_id = "show_attendance",
    tag = "sessions",
    params(("id" = String, Path, description = "The session's id")),
    responses(
        (
            status = 200,
            description = "A row for each person: person, status, first_seen, last_seen, times_seen, \
                best_similarity, corrected_by",
            body = String,
            content_type = "text/csv"
        ),
        AuthErrors, SessionErrors, NoBodyErrors
    )
)]
pub(super) async fn attendance(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
) -> Result<([(HeaderName, String); 2], Vec<u8>), ApiError> {
    let id = parse_session(&id)?;
    let csv = run_blocking(move || {
        let view = app.service.session(id).map_err(ApiError::of_session)?;
        attendance_csv(&view).map_err(ApiError::unexpected)
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"attendance-{id}.csv\""),
        ),
    ];
    Ok((headers, csv.await?))
}

/// Parses the id of a session in a path. An invalid one names no session.
fn parse_session(id: &str) -> Result<SessionId, ApiError> {
    id.parse().map_err(|_| ApiError::unknown_session())
}

fn parse_cursor(text: &str) -> Result<SessionId, ApiError> {
    let invalid = |_| ApiError::bad_request("invalid_cursor", "The cursor is not valid.");
    text.parse().map_err(invalid)
}

/// Returns the number of entries that a caller wants.
fn limit(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(ApiError::bad_request(
            "invalid_limit",
            format!("'limit' must be 1 to {MAX_LIMIT}."),
        )),
    }
}
