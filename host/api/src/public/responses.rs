//! Parts that the answers of several routes share.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;
use axum::response::{IntoResponseParts, ResponseParts};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use rostro_common::ids::PersonId;
use rostro_service::types::{Measure, Revision};

use crate::error::ApiError;
use crate::request::headers::{X_ROSTRO_PIPELINE, X_ROSTRO_STALE};

/// Revision that answered, as a field of the answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct PipelineInfo {
    name: String,
    version: String,
    digest: String,
}

impl PipelineInfo {
    pub(super) fn of(revision: &Revision) -> Self {
        Self {
            name: revision.name().to_owned(),
            version: revision.version().to_owned(),
            digest: revision.digest().to_string(),
        }
    }
}

/// Revision that answered, as the header `x-rostro-pipeline`.
#[derive(Debug)]
pub(super) struct PipelineHeader(String);

impl PipelineHeader {
    pub(super) fn of(revision: &Revision) -> Self {
        Self(revision.digest().to_string())
    }
}

impl IntoResponseParts for PipelineHeader {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        if let Ok(value) = HeaderValue::try_from(self.0) {
            parts.headers_mut().insert(X_ROSTRO_PIPELINE, value);
        }
        Ok(parts)
    }
}

/// Age of an answer that no lease covers, as the header `x-rostro-stale`.
#[derive(Debug)]
pub(super) struct StaleHeader(pub Option<Duration>);

impl IntoResponseParts for StaleHeader {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        if let Some(age) = self.0 {
            parts
                .headers_mut()
                .insert(X_ROSTRO_STALE, HeaderValue::from(age.as_secs()));
        }
        Ok(parts)
    }
}

/// Size of an upright image in pixels.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FrameSize {
    pub width: u32,
    pub height: u32,
}

/// Converts the time of a stage to milliseconds with three decimals.
pub(super) fn milliseconds((stage, time): (String, Duration)) -> (String, Value) {
    let rounded = (time.as_secs_f64() * 1e6).round() / 1e3;
    (stage, Value::from(rounded))
}

/// Returns the time in milliseconds since 1970-01-01 UTC.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Returns measures by name.
pub(super) fn measures(measures: Vec<Measure>) -> BTreeMap<String, f32> {
    let measures = measures.into_iter();
    measures
        .map(|measure| (measure.name, measure.value))
        .collect()
}

/// Parses the id of a person in a path.
pub(super) fn parse_person(id: &str) -> Result<PersonId, ApiError> {
    id.parse().map_err(|error| {
        ApiError::bad_request("invalid_id", format!("The id is not valid: {error}."))
    })
}

/// Runs work that may wait for the disk on a thread for blocking work.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
    done.map_err(ApiError::unexpected)?
}
