//! Errors of changes to revisions, with status and code.

use axum::http::StatusCode;

use rostro_service::deployment::{ChangeError, StateError};
use rostro_service::types::{ComponentError, GalleryError, PendingCause};

use crate::error::{ApiError, is_disk_full};

/// Converts an error of a change. Its message is not shortened, because operators may know all of
/// it.
pub(super) fn change_error(error: ChangeError) -> ApiError {
    let message = error.to_string();
    let (status, code) = match &error {
        ChangeError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_revision"),
        ChangeError::Ambiguous(_) => (StatusCode::BAD_REQUEST, "ambiguous_revision"),
        ChangeError::NotReady { .. } | ChangeError::NotReadyOnNodes { .. } => {
            (StatusCode::CONFLICT, "not_ready")
        }
        ChangeError::Pending(pending) => {
            let code = match pending.cause {
                PendingCause::Deadline => "change_pending",
                PendingCause::StaleReaders => "stale_readers",
            };
            (StatusCode::GATEWAY_TIMEOUT, code)
        }
        ChangeError::Nodes(GalleryError::Database(failure)) if failure.is_transient => {
            let message = format!("{message}; nothing was changed, send the change again");
            return ApiError::retry_later("database_unavailable", &message);
        }
        ChangeError::Nodes(_) => {
            return ApiError::internal("database_failed", message.clone(), message);
        }
        ChangeError::State(StateError::Database { cause, .. }) if cause.is_transient => {
            let message = format!("{message}; send the change again, which may have taken effect");
            return ApiError::retry_later("database_unavailable", &message);
        }
        ChangeError::State(StateError::Database { .. }) => {
            return ApiError::internal("database_failed", message.clone(), message);
        }
        ChangeError::State(StateError::Conflict) => (StatusCode::SERVICE_UNAVAILABLE, "conflict"),
        ChangeError::Contract { .. } => (StatusCode::CONFLICT, "contract_change"),
        ChangeError::Active(_) => (StatusCode::CONFLICT, "active"),
        ChangeError::OtherRole { .. } => (StatusCode::CONFLICT, "other_part"),
        ChangeError::NoPrevious => (StatusCode::CONFLICT, "no_previous"),
        ChangeError::Setting(_) | ChangeError::TooManySettings { .. } => {
            (StatusCode::BAD_REQUEST, "invalid_setting")
        }
        ChangeError::NotSet { .. } => (StatusCode::CONFLICT, "setting_not_set"),
        ChangeError::Retired(_) => (StatusCode::CONFLICT, "retired"),
        ChangeError::Limit(_) => (StatusCode::BAD_REQUEST, "invalid_limit"),
        ChangeError::Share => (StatusCode::BAD_REQUEST, "invalid_share"),
        ChangeError::TooMany { .. } => (StatusCode::CONFLICT, "too_many_revisions"),
        ChangeError::OtherBytes { .. } => (StatusCode::BAD_REQUEST, "digest_mismatch"),
        ChangeError::Component(ComponentError::TooLarge { .. }) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "component_too_large")
        }
        ChangeError::NoPolicy | ChangeError::Component(_) => {
            (StatusCode::BAD_REQUEST, "invalid_component")
        }
        ChangeError::Pack(_) => (StatusCode::BAD_REQUEST, "pack_unusable"),
        ChangeError::State(StateError::Stopping) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        ChangeError::State(cause) if is_disk_full(cause) => {
            (StatusCode::INSUFFICIENT_STORAGE, "storage_full")
        }
        ChangeError::State(_) => {
            return ApiError::internal("state_unwritable", message.clone(), message);
        }
    };
    let converted = ApiError::new(status, code, message);
    match error {
        ChangeError::Contract { people, .. } => converted.with("people", people),
        _ => converted,
    }
}
