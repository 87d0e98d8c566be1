//! The whole gallery as one archive.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tempfile::SpooledData;
use tokio::fs::File;
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};

use rostro_service::deployment::Actor;
use rostro_service::{ArchiveError, ImportOptions, ImportReport, PeopleList};

use super::{blocking, upload};
use crate::error::{ApiError, is_full};
use crate::public::openapi::{
    Archive, AuthErrors, BodyErrors, LockErrors, NoBodyErrors, WriteErrors,
};
use crate::request::extract::QueryParams;
use crate::{App, ContentType};

/// How an archive is taken in.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImportQuery {
    /// What becomes of people who were deleted after the archive was made.
    #[param(inline)]
    deleted: DeletedPeople,
    /// Removes people whom the archive lacks. It needs a numbered archive all entries of which can
    /// be used.
    replace: bool,
    /// Changes nothing, and answers what would be done.
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DeletedPeople {
    /// They are left out.
    #[default]
    LeaveOut,
    /// They are taken in.
    Restore,
}

/// What came of an import, or would come of it.
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
    /// The first hundred people who were left out because they were deleted after the archive was
    /// made.
    deleted: Vec<String>,
    /// How many were.
    deleted_count: usize,
    /// The first hundred people who were removed because the archive lacks them.
    removed: Vec<String>,
    /// How many were.
    removed_count: usize,
    /// Whether nothing was changed, because that was asked for.
    dry_run: bool,
    /// False where the file system cannot sync folders, so that a crash of the machine may undo the
    /// import.
    durable: bool,
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
    responses((status = 200, description = "A ZIP archive", body = Archive, content_type = "application/zip"), AuthErrors, NoBodyErrors, WriteErrors, LockErrors)
)]
pub(super) async fn export(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
) -> Result<Response, ApiError> {
    let archive = blocking(move || {
        let _turn = app.service.archiving().map_err(failed)?;
        app.service.export(&actor).map_err(failed)
    })
    .await?;
    let length = archive.length();
    let body = match archive.into_data().map_err(|error| failed(error.into()))? {
        SpooledData::InMemory(bytes) => Body::from(bytes.into_inner()),
        SpooledData::OnDisk(file) => {
            Body::from_stream(ReaderStream::with_capacity(File::from_std(file), 64 << 10))
        }
    };
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/zip"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"gallery.zip\""),
        ),
        // So that a caller knows one that was cut short.
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    Ok((headers, body).into_response())
}

/// Import people and groups, each person in place of what is stored under that id. People who were
/// deleted after the archive was made are left out.
#[utoipa::path(
    post,
    path = "/v1/gallery",
    tag = "manage",
    params(ImportQuery),
    request_body(content = Archive, content_type = "application/zip"),
    responses((status = 200, description = "What was taken, and what was left out", body = ImportAnswer), AuthErrors, BodyErrors, WriteErrors)
)]
pub(super) async fn import(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    QueryParams(query): QueryParams<ImportQuery>,
    request: Request,
) -> Result<Json<ImportAnswer>, ApiError> {
    if ContentType::of(request.headers()) != ContentType::Zip {
        return Err(ApiError::unsupported_media_type(
            "an archive as application/zip",
        ));
    }
    let ImportQuery {
        deleted,
        replace,
        dry_run,
    } = query;
    let options = ImportOptions {
        restore: deleted == DeletedPeople::Restore,
        replace,
        dry_run,
    };
    let turn = app.service.importing().map_err(failed)?;
    let archive = upload::receive(request, app.service.archives()).await?;
    let ImportReport { people, groups, left_out, left_out_count, deleted, removed, durable } =
        // The caller may go before it is done.
        blocking(move || app.service.import(archive, options, &actor, &turn).map_err(failed)).await?;
    let ids = |named: &PeopleList| named.first.iter().map(ToString::to_string).collect();
    Ok(Json(ImportAnswer {
        people,
        groups,
        left_out: left_out.into_iter().map(LeftOut::from).collect(),
        left_out_count,
        deleted: ids(&deleted),
        deleted_count: deleted.count,
        removed: ids(&removed),
        removed_count: removed.count,
        dry_run,
        durable,
    }))
}

impl From<(String, String)> for LeftOut {
    fn from((entry, reason): (String, String)) -> Self {
        Self { entry, reason }
    }
}

fn failed(error: ArchiveError) -> ApiError {
    match error {
        ArchiveError::UnderWay => ApiError::later(
            "archive_under_way",
            "Another archive is made or taken. Try again later.",
        ),
        ArchiveError::Stopping => ApiError::later(
            "stopping",
            "The service is stopping; what was stored so far stays. Send the archive again once it is back.",
        ),
        // What was stored before stays.
        ArchiveError::Late => ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "deadline_exceeded",
            "The import took too long; what was stored so far stays.",
        ),
        ArchiveError::Service(error) => ApiError::of_service(error).saying(
            "The archive was not taken, or not given, as a whole; what was stored so far stays.",
        ),
        ArchiveError::Io(error) if is_full(&error) => no_room(&error),
        ArchiveError::Ledger(error) if is_full(&error) => no_room(&error),
        ArchiveError::Ledger(error) => ApiError::internal(
            "gallery_failed",
            "The gallery could not be written; what was stored so far stays.",
            error,
        ),
        ArchiveError::TooLarge => {
            let message = "The gallery makes a larger archive than --max-archive-gib allows.";
            ApiError::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "archive_too_large",
                message,
            )
        }
        error @ ArchiveError::NotNumbered => ApiError::bad_request(
            "archive_not_numbered",
            format!(
                "Nothing was changed: {error}. Import it without 'replace', or export the gallery with this version of the program."
            ),
        ),
        ArchiveError::Unusable(imported) => {
            let message = "Nothing was changed: entries of the archive cannot be used, so that nobody can be removed by it. Import it \
                           without 'replace', or mend the archive.";
            let left_out: Vec<LeftOut> = imported.left_out.into_iter().map(LeftOut::from).collect();
            ApiError::bad_request("archive_unusable_entries", message)
                .with(
                    "left_out",
                    serde_json::to_value(left_out).unwrap_or_default(),
                )
                .with("left_out_count", imported.left_out_count)
        }
        ArchiveError::Io(error) => {
            ApiError::internal("archive_failed", "The archive could not be written.", error)
        }
        error @ ArchiveError::TooMany(_) => {
            ApiError::bad_request("invalid_archive", format!("Not taken: {error}."))
        }
        ArchiveError::Zip(error) => ApiError::bad_request(
            "invalid_archive",
            "This is no ZIP archive, or it is damaged.",
        )
        .with("cause", error.to_string()),
    }
}

pub(super) fn no_room(cause: &std::io::Error) -> ApiError {
    let message = "There is no room for the archive on the disk of the state folder; what was stored so far stays.";
    ApiError::full(message, cause)
}
