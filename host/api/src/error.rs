//! Error of every route.
//!
//! A caller gets a short message, a stable code and the request's id. The cause is only logged,
//! once, by the middleware that writes the body: see [`crate::request::trace`].

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use rostro_common::digest::Sha256Digest;
use rostro_service::executor::ExecutorError;
use rostro_service::people::PeopleError;
use rostro_service::types::{
    DatabaseFailure, GalleryError, GroupsError, PendingCause, PendingChange, RunError,
    SessionError, SessionStoreError,
};
use rostro_service::{RevisionError, ServiceError, SessionRequestError};

use crate::request::headers::X_ROSTRO_PIPELINE;

/// Message of an error that no caller can prevent.
const UNEXPECTED: &str = "The service failed unexpectedly.";

/// Message of the error for a full disk of the gallery.
const GALLERY_DISK_FULL: &str = "The gallery's disk is full; nothing was changed.";

/// An error of a request.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// Stable, snake_case.
    pub(crate) code: &'static str,
    /// Sentence for people.
    pub(crate) message: String,
    /// Values by name, for programs.
    pub(crate) details: Box<Map<String, Value>>,
    /// Cause, for the log alone.
    pub(crate) cause: Option<String>,
    retry_after: Option<Duration>,
    /// Revision that did the work.
    pipeline: Option<Box<Sha256Digest>>,
    /// Address of the service that answers the request instead.
    pub(crate) other_service: Option<Box<str>>,
}

/// Body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorAnswer {
    /// Sentence for people.
    error: String,
    /// Stable code for programs, in snake_case.
    code: &'static str,
    /// Values by name.
    #[schema(value_type = Object)]
    details: Map<String, Value>,
    /// Id as in the header `x-request-id` and in the service's log.
    request_id: String,
}

impl ErrorAnswer {
    pub(crate) fn new(error: &ApiError, request_id: &str) -> Self {
        Self {
            error: error.message.clone(),
            code: error.code,
            details: (*error.details).clone(),
            request_id: request_id.to_owned(),
        }
    }
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
            other_service: None,
        }
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn too_large(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code, message)
    }

    /// Returns the error for a service at capacity. `reason` completes the message.
    fn overloaded(reason: &str, limit: &str) -> Self {
        Self::retry_later(
            "overloaded",
            &format!("The service is at capacity: {reason}. Try again later."),
        )
        .with("limit", limit)
    }

    /// Returns the error for bodies that hold all memory for bodies.
    pub(crate) fn bodies_full(bytes: usize) -> Self {
        Self::overloaded(
            &format!(
                "bodies of requests hold the {} MiB of --max-bodies-mib",
                bytes >> 20
            ),
            "bodies",
        )
    }

    /// Returns the error for bodies of one client that hold all of its share.
    pub(crate) fn client_bodies_full(bytes: usize) -> Self {
        let reason = format!(
            "bodies of this client hold its {} MiB, half of --max-bodies-mib",
            bytes >> 20
        );
        Self::overloaded(&reason, "bodies-of-one-client")
    }

    /// Returns an error after which a retry may succeed.
    pub(crate) fn retry_later(code: &'static str, message: &str) -> Self {
        Self {
            // The shortest time of the header. Most requests finish within it.
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
        }
    }

    /// Sets the time after which to retry.
    pub(crate) fn retrying_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Replaces the message.
    pub(crate) fn with_message(mut self, message: &str) -> Self {
        message.clone_into(&mut self.message);
        self
    }

    /// Returns the error for a body that arrives too slowly.
    pub(crate) fn body_timeout(message: String) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_type",
            format!("Unsupported content type. Send {accepted}."),
        )
    }

    /// Returns a server error. `cause` is only logged.
    pub(crate) fn internal(
        code: &'static str,
        message: impl Into<String>,
        cause: impl ToString,
    ) -> Self {
        let mut error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, message);
        error.cause = Some(cause.to_string());
        error
    }

    /// Returns the error for a bug in the service. `cause` is only logged.
    pub(crate) fn unexpected(cause: impl ToString) -> Self {
        Self::internal("internal", UNEXPECTED, cause)
    }

    /// Returns the error for a full disk.
    pub(crate) fn disk_full(message: &str, cause: impl ToString) -> Self {
        let mut error = Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", message);
        error.cause = Some(cause.to_string());
        error
    }

    /// Sets the cause for the log.
    pub(crate) fn with_cause(mut self, cause: &str) -> Self {
        self.cause = Some(cause.to_owned());
        self
    }

    /// Sets the revision that did the work.
    pub(crate) fn on_revision(mut self, pipeline: Sha256Digest) -> Self {
        self.pipeline = Some(Box::new(pipeline));
        self
    }

    /// Adds a value to the details.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Converts an error of a request that a revision was chosen for.
    pub(crate) fn of_revision(error: RevisionError) -> Self {
        Self::of_service(error.cause).on_revision(error.revision)
    }

    /// Returns the error of a node that may not answer from memory.
    pub(crate) fn no_lease() -> Self {
        Self::retry_later(
            "lease_lost",
            "This node has lost its lease of the database, so that it may know deleted people. \
             Send the request to another node.",
        )
    }

    /// Returns the error of a node that an operator drains. Requests are still answered.
    pub(crate) fn draining() -> Self {
        Self::retry_later(
            "draining",
            "An operator drains this node. Send requests to another node.",
        )
    }

    /// Returns the error of a node that fails where others do not. Requests are still answered.
    pub(crate) fn tripped() -> Self {
        Self::retry_later(
            "breaker_tripped",
            "Requests failed on this node and not on the others. Send requests to another node.",
        )
    }

    /// Returns the error for a person who is not stored.
    pub(crate) fn unknown_person() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_person",
            "Nobody is stored under this id.",
        )
    }

    /// Returns the error for a group that does not exist. The name is shortened, because it may be
    /// any text of the caller.
    pub(crate) fn unknown_group(name: &str) -> Self {
        let shown: String = name.chars().take(128).collect();
        let message = format!("There is no group '{shown}'.");
        Self::new(StatusCode::NOT_FOUND, "unknown_group", message).with("group", shown)
    }

    /// Returns the error for a session that is not stored.
    pub(crate) fn unknown_session() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_session",
            "There is no session of this id. It may have been deleted; create one with POST \
             /v1/sessions.",
        )
    }

    /// Returns the error for a key without one of these scopes.
    pub(crate) fn scope_missing(scopes: &[&str]) -> Self {
        let message = format!(
            "The key is not good for this; it needs the scope '{}'.",
            scopes.join("' or '")
        );
        Self::new(StatusCode::FORBIDDEN, "scope_missing", message).with("scope", scopes.join(","))
    }

    /// Converts an error of a request about a session.
    pub(crate) fn of_session(error: SessionRequestError) -> Self {
        match error {
            SessionRequestError::Store(error) => of_session_store(&error),
            SessionRequestError::OtherOwner => Self::new(
                StatusCode::FORBIDDEN,
                "session_of_other_key",
                "Another API key created this session; use that key.",
            ),
            SessionRequestError::UnknownGroup(group) => Self::unknown_group(&group),
            error @ SessionRequestError::TooManySubscriptions => Self::retry_later(
                "overloaded",
                &format!("The service is at capacity: {error}. Try again later."),
            )
            .with("limit", "event-streams"),
            SessionRequestError::UnknownPerson => Self::unknown_person(),
            error @ (SessionRequestError::Ahead { .. } | SessionRequestError::Early(_)) => {
                Self::bad_request(
                    "invalid_option",
                    format!("The frame cannot be taken: {error}."),
                )
                .with("parameter", "at")
            }
            SessionRequestError::Recognition(error) => Self::of_revision(error),
            SessionRequestError::Service(error) => Self::of_service(error),
        }
    }

    /// Converts an error of the service.
    pub(crate) fn of_service(error: ServiceError) -> Self {
        match error {
            ServiceError::Executor(ExecutorError::Overloaded { queue, wait }) => {
                Self::overloaded(&format!("the {queue} places of --queue are taken"), "queue")
                    .retrying_after(wait)
            }
            ServiceError::Executor(error @ ExecutorError::Deadline { .. }) => deadline(error),
            ServiceError::Executor(error @ ExecutorError::Panicked) => Self::unexpected(error),
            ServiceError::Run(error) => Self::of_run(error),
            ServiceError::People(PeopleError::Run(error)) => Self::of_run(error),
            ServiceError::Choice(error) => Self::bad_request(
                "invalid_option",
                format!("The request cannot be answered: {error}."),
            ),
            ServiceError::UnknownPerson => Self::unknown_person(),
            ServiceError::NoLease => Self::no_lease(),
            ServiceError::Pending(pending) => of_pending(pending),
            ServiceError::People(PeopleError::Busy) => Self::retry_later(
                "person_busy",
                "Another request or program is changing this person. Try again later.",
            ),
            ServiceError::People(
                error @ (PeopleError::IdTaken | PeopleError::Gallery(GalleryError::IdTaken)),
            ) => unchanged("id_taken", error),
            ServiceError::People(PeopleError::Gallery(error)) => of_gallery(&error),
            ServiceError::People(PeopleError::Groups(error)) => of_groups(&error),
            ServiceError::People(PeopleError::Sessions(error)) => of_session_store(&error),
            ServiceError::People(error @ PeopleError::Index(_)) => Self::unexpected(error),
        }
    }

    /// Converts an error of a deletion, which may have deleted a part of the person.
    pub(crate) fn of_deletion(error: ServiceError) -> Self {
        match error {
            ServiceError::People(
                PeopleError::Gallery(GalleryError::Database(failure))
                | PeopleError::Groups(GroupsError::Database(failure)),
            ) => of_database(&failure),
            ServiceError::People(PeopleError::Sessions(error)) if is_disk_full(&error) => {
                let message = "The person is deleted, but not their attendance, because the disk of \
                               the state folder is full. Make room, and delete them again.";
                Self::disk_full(message, error)
            }
            ServiceError::People(
                error @ (PeopleError::Gallery(_)
                | PeopleError::Groups(_)
                | PeopleError::Sessions(_)),
            ) => Self::internal(
                "deletion_failed",
                "The person could not be deleted completely; delete them again.",
                error,
            ),
            other => Self::of_service(other),
        }
    }

    fn of_run(error: RunError) -> Self {
        match error {
            RunError::Undecodable(cause) => {
                let error = Self::bad_request("undecodable_image", "Could not decode image.")
                    .with_cause(&cause);
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
                let reason = "running pipelines hold the memory of --max-guests-mib";
                Self::overloaded(reason, "guests").with_cause(&error.to_string())
            }
            error => Self::internal(
                "pipeline_failed",
                "The pipeline failed on this request.",
                error,
            ),
        }
    }
}

fn of_session_store(error: &SessionStoreError) -> ApiError {
    let refused = |status| {
        let mut message = error.to_string();
        if let Some(first) = message.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        ApiError::new(status, error.code(), format!("{message}."))
    };
    match error {
        SessionStoreError::Unknown(_) => ApiError::unknown_session(),
        SessionStoreError::TooManySessions { .. }
        | SessionStoreError::TooManyKept { .. }
        | SessionStoreError::PersonRemoved => refused(StatusCode::CONFLICT),
        SessionStoreError::Refused(SessionError::OutOfOrder { last }) => {
            refused(StatusCode::CONFLICT).with("last_frame", to_json(last))
        }
        SessionStoreError::Refused(SessionError::Ended(_)) => refused(StatusCode::GONE),
        error if is_disk_full(error) => ApiError::disk_full(
            "The disk of the sessions is full; nothing was changed.",
            error,
        ),
        SessionStoreError::Elsewhere { node, address, .. } => {
            of_other_node(error.code(), node, address.as_deref())
        }
        SessionStoreError::Moved(_) => ApiError::retry_later(
            error.code(),
            "Another node of the fleet takes the session over. Send the request again.",
        ),
        SessionStoreError::Deleting => ApiError::retry_later(
            error.code(),
            "A person is being deleted. Send the request again.",
        ),
        SessionStoreError::NoLease => ApiError::no_lease(),
        SessionStoreError::Database {
            is_transient: true, ..
        } => ApiError::retry_later(
            error.code(),
            "The database did not answer. Send the request again.",
        )
        .with_cause(&error.to_string()),
        SessionStoreError::Database { .. } => ApiError::internal(
            error.code(),
            "The database refused the request; nothing was changed.",
            error,
        ),
        SessionStoreError::Io { .. } | SessionStoreError::Tombstones(_) => ApiError::internal(
            error.code(),
            "The session could not be read or written. Check the disk of the state folder, and send the \
             request again.",
            error,
        ),
    }
}

/// Returns the error for a session of another node: a redirect, if callers can reach that node.
fn of_other_node(code: &'static str, node: &str, address: Option<&str>) -> ApiError {
    let error = match address {
        Some(address) => ApiError {
            other_service: Some(address.into()),
            ..ApiError::new(
                StatusCode::TEMPORARY_REDIRECT,
                code,
                "Another node of the fleet has the session. Send the request to the address in \
                 the header 'location'.",
            )
        },
        None => ApiError::retry_later(
            code,
            "Another node of the fleet has the session, and its --advertise gives no address. \
             Send the request to that node.",
        ),
    };
    error.with("node", node)
}

/// Returns the error of a deletion that is made and not promised.
fn of_pending(pending: PendingChange) -> ApiError {
    let (code, message) = match pending.cause {
        PendingCause::Deadline => (
            "deletion_pending",
            "The person is deleted, but nodes of the fleet may still recognise them. Send the \
             request again.",
        ),
        PendingCause::StaleReaders => (
            "stale_readers",
            "The person is deleted, but nodes without the database may still recognise them, \
             because an operator allows stale reads. Send the request again when those have ended.",
        ),
    };
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, code, message)
        .with_cause(&pending.to_string())
        .with("nodes", pending.nodes)
}

/// Returns the seconds for the header `retry-after`: rounded up, and at least one.
fn retry_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn deadline(cause: impl ToString) -> ApiError {
    let message = "The request was not done before its deadline, which counts from the end of its \
                   body (--deadline).";
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", message)
        .with_cause(&cause.to_string())
}

/// Converts a value to JSON for `details`. Numbers of 32 bits keep their short form: 0.7, not
/// 0.699999988.
pub(crate) fn to_json(value: &impl Serialize) -> Value {
    serde_json::to_string(value)
        .and_then(|text| serde_json::from_str(&text))
        .unwrap_or_default()
}

/// Returns true if an error or one of its sources is a full disk.
pub(crate) fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| {
            matches!(
                error.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            )
        })
}

fn unchanged(code: &'static str, error: impl Display) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        code,
        format!("Nothing was changed: {error}."),
    )
}

fn of_groups(error: &GroupsError) -> ApiError {
    match error {
        GroupsError::TooMany => unchanged("too_many_groups", error),
        GroupsError::TooLarge => unchanged("group_too_large", error),
        GroupsError::Damaged => unchanged("group_damaged", error),
        GroupsError::NameTaken => unchanged("id_taken", error),
        GroupsError::Unsynced { .. } => {
            let message =
                "The groups were changed, but the disk failed: a crash may undo the change.";
            ApiError::internal("groups_failed", message, error)
        }
        GroupsError::Database(failure) => of_database(failure),
        error if is_disk_full(error) => ApiError::disk_full(GALLERY_DISK_FULL, error),
        error => ApiError::internal(
            "groups_failed",
            "The groups could not be written; nothing was changed.",
            error,
        ),
    }
}

/// Returns the error of a request that the database did not answer.
fn of_database(failure: &DatabaseFailure) -> ApiError {
    if failure.is_transient {
        // A commit may have taken effect even if its answer was lost.
        let message = "The database did not answer. Send the request again.";
        return ApiError::retry_later("database_unavailable", message)
            .with_cause(&failure.to_string());
    }
    ApiError::internal(
        "database_failed",
        "The database refused the request; nothing was changed.",
        failure,
    )
}

fn of_gallery(error: &GalleryError) -> ApiError {
    if let GalleryError::Database(failure) = error {
        return of_database(failure);
    }
    if let GalleryError::Damaged { .. } = error {
        let message = "The stored data of this person cannot be read; enrol them again.";
        return ApiError::new(StatusCode::CONFLICT, "person_damaged", message)
            .with_cause(&error.to_string());
    }
    if let GalleryError::TooLarge { .. } = error {
        return ApiError::new(
            StatusCode::CONFLICT,
            "person_too_large",
            "The photos make a file that is too large to be read again.",
        );
    }
    if let GalleryError::Unsynced { .. } = error {
        let message = "The gallery was changed, but the disk failed: a crash may undo the change. \
                       Send the request again.";
        return ApiError::internal("gallery_failed", message, error);
    }
    if is_disk_full(error) {
        return ApiError::disk_full(GALLERY_DISK_FULL, error);
    }
    ApiError::internal(
        "gallery_failed",
        "The gallery could not be written; nothing was changed.",
        error,
    )
}

impl IntoResponse for ApiError {
    /// Returns a response without a body. The middleware that knows the request's id writes it.
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
                .insert(header::RETRY_AFTER, HeaderValue::from(retry_seconds(wait)));
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
    fn json_numbers_keep_short_form() {
        let text = |value: f32| to_json(&vec![Some(value)]).to_string();
        assert_eq!(text(0.7), "[0.7]");
        assert_eq!(text(0.1), "[0.1]");
        assert_eq!(text(86_400.0), "[86400.0]");
        assert_eq!(text(f32::NAN), "[null]");
        assert_eq!(to_json(&"strict"), "strict");
    }
}
