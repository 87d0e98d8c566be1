//! `/v1/gallery`: export and import of the whole gallery as one archive.

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

use super::openapi::{Archive, AuthErrors, BodyErrors, LockErrors, NoBodyErrors, WriteErrors};
use super::responses::run_blocking;
use crate::error::{ApiError, is_disk_full};
use crate::request::body::archive;
use crate::request::extract::QueryParams;
use crate::request::headers::ContentType;
use crate::state::App;

/// Options of an import.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImportQuery {
    /// Treatment of people who were deleted after the archive was made.
    #[param(inline)]
    deleted: DeletedPeople,
    /// Removes people who are not in the archive. This needs a numbered archive without unusable
    /// entries.
    replace: bool,
    /// Changes nothing and reports what would be changed.
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DeletedPeople {
    /// They are left out.
    #[default]
    LeaveOut,
    /// They are imported.
    Restore,
}

/// Result of an import, or of a dry run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportAnswer {
    /// Number of imported people.
    people: usize,
    /// Number of groups with members in the archive.
    groups: usize,
    /// First hundred entries that were left out.
    left_out: Vec<LeftOut>,
    /// Number of entries that were left out.
    left_out_count: usize,
    /// First hundred people who were left out because they were deleted after the archive was made.
    deleted: Vec<String>,
    /// Number of people who were left out as deleted.
    deleted_count: usize,
    /// First hundred people who were removed because they are not in the archive.
    removed: Vec<String>,
    /// Number of people who were removed.
    removed_count: usize,
    /// Whether this was a dry run, which changes nothing.
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

/// Export all people and groups.
#[utoipa::path(
    get,
    path = "/v1/gallery",
    operation_id = "export_gallery",
    tag = "manage",
    responses(
        (
            status = 200,
            description = "A ZIP archive",
            body = Archive,
            content_type = "application/zip"
        ),
        AuthErrors, NoBodyErrors, WriteErrors, LockErrors
    )
)]
pub(super) async fn export(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
) -> Result<Response, ApiError> {
    let archive = run_blocking(move || {
        let _lock = app.service.archiving().map_err(archive_error)?;
        app.service.export(&actor).map_err(archive_error)
    })
    .await?;
    let length = archive.length();
    let body = match archive
        .into_data()
        .map_err(|error| archive_error(error.into()))?
    {
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
        // Lets a caller detect a truncated archive.
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    Ok((headers, body).into_response())
}

/// Import people and groups. Each person replaces the stored one. People who were deleted after the
/// archive was made are left out.
#[utoipa::path(
    post,
    path = "/v1/gallery",
    operation_id = "import_gallery",
    tag = "manage",
    params(ImportQuery),
    request_body(content = Archive, content_type = "application/zip"),
    responses(
        (status = 200, description = "Imported and omitted entries", body = ImportAnswer),
        AuthErrors, BodyErrors, WriteErrors
    )
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
    let lock = app.service.importing().map_err(archive_error)?;
    let archive = archive::receive(request, app.service.archives()).await?;
    // A started import is completed even if the caller disconnects.
    let imported = run_blocking(move || {
        app.service
            .import(archive, options, &actor, &lock)
            .map_err(archive_error)
    })
    .await?;
    let ImportReport {
        people,
        groups,
        left_out,
        left_out_count,
        deleted,
        removed,
        durable,
    } = imported;
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

fn archive_error(error: ArchiveError) -> ApiError {
    match error {
        ArchiveError::UnderWay => ApiError::retry_later(
            "archive_under_way",
            "Another archive is being exported or imported. Try again later.",
        ),
        ArchiveError::Stopping => ApiError::retry_later(
            "stopping",
            "The service is stopping; what was stored so far stays. Send the archive again once it \
             is back.",
        ),
        ArchiveError::Late => ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "deadline_exceeded",
            "The import took too long; what was stored so far stays.",
        ),
        ArchiveError::Service(error) => ApiError::of_service(error).with_message(
            "The archive was not taken, or not given, as a whole; what was stored so far stays.",
        ),
        ArchiveError::Io(error) if is_disk_full(&error) => archive::disk_full(&error),
        ArchiveError::Ledger(error) if is_disk_full(&error) => archive::disk_full(&error),
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
                "Nothing was changed: {error}. Import it without 'replace', or export the gallery \
                 with this version of the program."
            ),
        ),
        ArchiveError::Unusable(imported) => {
            let message = "Nothing was changed: entries of the archive cannot be used, so that \
                           nobody can be removed by it. Import it without 'replace', or mend \
                           the archive.";
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
