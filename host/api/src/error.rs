//! The one error of the HTTP interface.
//!
//! A caller sees a short message, a stable code and the request's id; the cause stays inside and is
//! logged once, by the middleware that writes the body (see [`super::request`]).

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use rostro_common::digest::Sha256Digest;
use rostro_service::ServiceError;
use rostro_service::executor::ExecutorError;
use rostro_service::people::PeopleError;
use rostro_service::types::GalleryError;
use rostro_service::types::GroupsError;
use rostro_service::types::RunError;

use super::X_ROSTRO_PIPELINE;

/// An error as it is answered.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(super) status: StatusCode,
    /// Stable, snake_case.
    pub(super) code: &'static str,
    /// For people.
    pub(super) message: String,
    /// More, by name, for programs.
    pub(super) details: Box<Map<String, Value>>,
    /// What really happened, for the log alone.
    pub(super) cause: Option<String>,
    retry_after: Option<Duration>,
    /// The revision that did the work.
    pipeline: Option<Box<Sha256Digest>>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            details: Box::default(),
            cause: None,
            retry_after: None,
            pipeline: None,
        }
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn too_large(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code, message)
    }

    /// Too much is under way; the caller should wait before it tries again. `reason` completes the
    /// message.
    fn overloaded(reason: &str, limit: &str) -> Self {
        // The shortest that the header can say: most requests are done within it.
        Self::later(
            "overloaded",
            &format!("The service is at capacity: {reason}. Try again later."),
        )
        .with("limit", limit)
    }

    /// The bodies of all requests hold what they may.
    pub(super) fn bodies_full(bytes: usize) -> Self {
        Self::overloaded(
            &format!(
                "bodies of requests hold the {} MiB of --max-bodies-mib",
                bytes >> 20
            ),
            "bodies",
        )
    }

    /// The bodies of one client hold what they may.
    pub(super) fn own_bodies_full(bytes: usize) -> Self {
        let reason = format!(
            "bodies of this client hold its {} MiB, half of --max-bodies-mib",
            bytes >> 20
        );
        Self::overloaded(&reason, "bodies-of-one-client")
    }

    /// What cannot be done now, and may be soon.
    pub(super) fn later(code: &'static str, message: &str) -> Self {
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
        }
    }

    /// The same with another time after which to come back.
    pub(super) fn retrying_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same in other words for people.
    pub(super) fn saying(mut self, message: &str) -> Self {
        message.clone_into(&mut self.message);
        self
    }

    /// The caller did not send its body in time.
    pub(super) fn body_timeout(message: String) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
    }

    pub(super) fn unsupported_media_type(accepted: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_type",
            format!("Unsupported content type. Send {accepted}."),
        )
    }

    pub(crate) fn internal(
        code: &'static str,
        message: impl Into<String>,
        cause: impl ToString,
    ) -> Self {
        let mut error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, message);
        error.cause = Some(cause.to_string());
        error
    }

    /// There is no room on a disk.
    pub(super) fn full(message: &str, cause: impl ToString) -> Self {
        let mut error = Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", message);
        error.cause = Some(cause.to_string());
        error
    }

    /// Says what really happened, for the log.
    pub(super) fn because(mut self, cause: &str) -> Self {
        self.cause = Some(cause.to_owned());
        self
    }

    /// Says which revision did the work.
    pub(super) fn on(mut self, pipeline: Sha256Digest) -> Self {
        self.pipeline = Some(Box::new(pipeline));
        self
    }

    /// What people are told.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// What the service's error is to a caller of `POST /process_frame` or `POST /process-images`.
    pub(super) fn of_service(error: ServiceError) -> Self {
        match error {
            ServiceError::Executor(ExecutorError::Overloaded { queue, wait }) => {
                Self::overloaded(&format!("the {queue} places of --queue are taken"), "queue")
                    .retrying_after(wait)
            }
            ServiceError::Executor(error @ ExecutorError::Deadline { .. }) => deadline(error),
            ServiceError::Executor(error @ ExecutorError::Panicked) => {
                Self::internal("internal", "The service failed unexpectedly.", error)
            }
            ServiceError::Run(error) => Self::of_run(error),
            ServiceError::People(PeopleError::Run(error)) => Self::of_run(error),
            ServiceError::People(PeopleError::Gallery(error)) => of_gallery(&error),
            ServiceError::UnknownPerson => Self::new(
                StatusCode::NOT_FOUND,
                "unknown_person",
                "Nobody is stored under this id.",
            ),
            ServiceError::People(PeopleError::Busy) => Self::later(
                "person_busy",
                "Another request or program is changing this person. Try again later.",
            ),
            ServiceError::People(error @ PeopleError::IdTaken) => Self::new(
                StatusCode::CONFLICT,
                "id_taken",
                format!("Nothing was changed: {error}."),
            ),
            ServiceError::People(PeopleError::Groups(error)) => of_groups(&error),
            ServiceError::People(error @ PeopleError::Index(_)) => {
                Self::internal("internal", "The service failed unexpectedly.", error)
            }
        }
    }

    /// What the service's error is to a caller who deletes somebody, of whom a part may be gone
    /// already.
    pub(super) fn of_deletion(error: ServiceError) -> Self {
        match error {
            ServiceError::People(error @ (PeopleError::Gallery(_) | PeopleError::Groups(_))) => {
                Self::internal(
                    "deletion_failed",
                    "The person could not be deleted as a whole; delete them again.",
                    error,
                )
            }
            other => Self::of_service(other),
        }
    }

    fn of_run(error: RunError) -> Self {
        match error {
            RunError::Undecodable(cause) => {
                let error = Self::bad_request("undecodable_image", "Could not decode image.")
                    .because(&cause);
                error.with("cause", cause)
            }
            RunError::TooLarge {
                width,
                height,
                max_pixels,
            } => Self::too_large(
                "image_too_large",
                format!("The image has {width}x{height} pixels; at most {max_pixels} are decoded."),
            )
            .with("width", width)
            .with("height", height)
            .with("max_pixels", max_pixels),
            RunError::Deadline { .. } => deadline(error),
            RunError::OutOfCapacity(_) => {
                let full = Self::overloaded(
                    "running pipelines hold the memory of --max-guests-mib",
                    "guests",
                );
                Self {
                    cause: Some(error.to_string()),
                    ..full
                }
            }
            error => Self::internal(
                "pipeline_failed",
                "The pipeline failed on this request.",
                error,
            ),
        }
    }
}

/// The seconds of the header `retry-after`: at least one, rounded up.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn deadline(cause: impl ToString) -> ApiError {
    let message = "The request was not done before its deadline, which counts from the end of its body (--deadline).";
    let error = ApiError::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", message);
    ApiError {
        cause: Some(cause.to_string()),
        ..error
    }
}

/// Returns a value as JSON for `details`. Numbers keep the digits that they are written with
/// elsewhere in an answer: 0.7 of 32 bits is 0.7, and not 0.699999988.
pub(super) fn as_json(value: &impl Serialize) -> Value {
    serde_json::to_string(value)
        .and_then(|text| serde_json::from_str(&text))
        .unwrap_or_default()
}

/// Whether the disk is full.
pub(crate) fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| {
            matches!(
                error.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            )
        })
}

fn of_groups(error: &GroupsError) -> ApiError {
    match error {
        GroupsError::TooMany => ApiError::new(
            StatusCode::CONFLICT,
            "too_many_groups",
            format!("Nothing was changed: {error}."),
        ),
        GroupsError::TooLarge => ApiError::new(
            StatusCode::CONFLICT,
            "group_too_large",
            format!("Nothing was changed: {error}."),
        ),
        GroupsError::Damaged => ApiError::new(
            StatusCode::CONFLICT,
            "group_damaged",
            format!("Nothing was changed: {error}."),
        ),
        GroupsError::NameTaken => ApiError::new(
            StatusCode::CONFLICT,
            "id_taken",
            format!("Nothing was changed: {error}."),
        ),
        GroupsError::Unsynced { .. } => {
            let message =
                "The groups were changed, but the disk failed: a crash may undo the change.";
            ApiError::internal("groups_failed", message, error)
        }
        error if is_full(error) => storage_full(error),
        error => ApiError::internal(
            "groups_failed",
            "The groups could not be written; nothing was changed.",
            error,
        ),
    }
}

fn storage_full(cause: &dyn std::error::Error) -> ApiError {
    let mut full = ApiError::new(
        StatusCode::INSUFFICIENT_STORAGE,
        "storage_full",
        "The gallery's disk is full; nothing was changed.",
    );
    full.cause = Some(cause.to_string());
    full
}

fn of_gallery(error: &GalleryError) -> ApiError {
    if let GalleryError::Damaged { .. } = error {
        let mut damaged = ApiError::new(
            StatusCode::CONFLICT,
            "person_damaged",
            "What is stored of this person cannot be read; enrol them anew.",
        );
        damaged.cause = Some(error.to_string());
        return damaged;
    }
    if let GalleryError::TooLarge { .. } = error {
        return ApiError::new(
            StatusCode::CONFLICT,
            "person_too_large",
            "The photos make a file that is too large to be read again.",
        );
    }
    if let GalleryError::Unsynced { .. } = error {
        let message = "The gallery was changed, but the disk failed: a crash may undo the change. Send the request again.";
        return ApiError::internal("gallery_failed", message, error);
    }
    if is_full(error) {
        return storage_full(error);
    }
    ApiError::internal(
        "gallery_failed",
        "The gallery could not be written; nothing was changed.",
        error,
    )
}

impl IntoResponse for ApiError {
    /// A response without a body yet: the middleware that knows the request's id writes it.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some(value) = self
            .pipeline
            .as_ref()
            .and_then(|digest| HeaderValue::try_from(digest.to_string()).ok())
        {
            response.headers_mut().insert(X_ROSTRO_PIPELINE, value);
        }
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_keep_short_numbers() {
        let text = |value: f32| as_json(&vec![Some(value)]).to_string();
        assert_eq!(
            (
                text(0.7).as_str(),
                text(0.1).as_str(),
                text(86_400.0).as_str()
            ),
            ("[0.7]", "[0.1]", "[86400.0]")
        );
        assert_eq!(text(f32::NAN), "[null]");
        assert_eq!(as_json(&"strict"), "strict");
    }
}
