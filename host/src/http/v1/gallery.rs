//! The whole gallery as one archive.

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::fs::File;
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;

use super::blocking;
use crate::deployment::Actor;
use crate::executor::Client;
use crate::http::body;
use crate::http::error::{ApiError, is_full};
use crate::http::form::body_too_large;
use crate::http::openapi::{Admission, Archive, Asking, Sending, Storing, Waiting};
use crate::http::{App, ContentType};
use crate::service::{ArchiveError, Imported};

/// How long an import may take: a template is made for each person.
const IMPORT: Duration = Duration::from_secs(600);

/// What came of an import.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportAnswer {
    /// People who are stored now as the archive says.
    people: usize,
    /// Groups to which the archive has members.
    groups: usize,
    /// The first hundred entries that were left out.
    left_out: Vec<LeftOut>,
    /// How many were.
    left_out_count: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct LeftOut {
    entry: String,
    reason: String,
}

/// Export everybody and every group.
#[utoipa::path(
    get,
    path = "/v1/gallery",
    tag = "manage",
    responses((status = 200, description = "A ZIP archive", body = Archive, content_type = "application/zip"), Admission, Asking, Storing, Waiting)
)]
pub(super) async fn export(State(app): State<App>, Extension(actor): Extension<Actor>) -> Result<Response, ApiError> {
    let archive = blocking(move || {
        let _turn = app.service.archiving().map_err(failed)?;
        app.service.export(&actor).map_err(failed)
    })
    .await?;
    let headers = [(header::CONTENT_TYPE, "application/zip"), (header::CONTENT_DISPOSITION, "attachment; filename=\"gallery.zip\"")];
    Ok((headers, Body::from_stream(ReaderStream::new(File::from_std(archive)))).into_response())
}

/// Import people and groups, each in place of what is stored under that id for the same contract.
#[utoipa::path(
    post,
    path = "/v1/gallery",
    tag = "manage",
    request_body(content = Archive, content_type = "application/zip"),
    responses((status = 200, description = "What was taken, and what was left out", body = ImportAnswer), Admission, Sending, Storing)
)]
pub(super) async fn import(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Result<Json<ImportAnswer>, ApiError> {
    if ContentType::of(request.headers()) != ContentType::Zip {
        return Err(ApiError::unsupported_media_type("an archive as application/zip"));
    }
    let most = app.limits.body_bytes;
    let content = app.received(body::read(request.into_body(), app.limits.of(&client).memory.collect(most))).await?;
    let content = content.ok_or_else(|| body_too_large(most))?;
    let Imported { people, groups, left_out, left_out_count } = blocking(move || {
        // Whole, with the memory that is reserved for it: the caller may go before it is done.
        let content = content;
        let _turn = app.service.archiving().map_err(failed)?;
        app.service.import(content.bytes.clone(), &actor, Instant::now() + IMPORT).map_err(failed)
    })
    .await?;
    let left_out = left_out.into_iter().map(|(entry, reason)| LeftOut { entry, reason }).collect();
    Ok(Json(ImportAnswer { people, groups, left_out, left_out_count }))
}

fn failed(error: ArchiveError) -> ApiError {
    match error {
        ArchiveError::UnderWay => ApiError::later("archive_under_way", "Another archive is made or taken. Try again later."),
        // What was stored before stays.
        ArchiveError::Late => {
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", "The import took too long; what was stored so far stays.")
        }
        ArchiveError::Service(error) => {
            ApiError::of_service(error).saying("The archive was not taken, or not given, as a whole; what was stored so far stays.")
        }
        ArchiveError::Io(error) if is_full(&error) => {
            ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", "There is no room for the archive.")
        }
        ArchiveError::Io(error) => ApiError::internal("archive_failed", "The archive could not be written.", error),
        error @ ArchiveError::TooMany(_) => ApiError::bad_request("invalid_archive", format!("Not taken: {error}.")),
        ArchiveError::Zip(error) => {
            ApiError::bad_request("invalid_archive", "This is no ZIP archive, or it is damaged.").with("cause", error.to_string())
        }
    }
}
