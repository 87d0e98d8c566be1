//! Extractors of path, query and JSON. Their errors are JSON, and axum's own are plain text.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::request::body::{self, BodyLimit};
use crate::state::App;

/// Largest JSON body in bytes.
const MAX_JSON: usize = 64 << 10;

/// Parameters of a query.
#[derive(Debug)]
pub(crate) struct QueryParams<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let Query(parameters) =
            query.map_err(|error| ApiError::bad_request("invalid_query", error.body_text()))?;
        Ok(Self(parameters))
    }
}

/// Parameters of a route that has none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParameters {}

/// Parameters of a path.
#[derive(Debug)]
pub(crate) struct PathParams<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        let Path(parameters) =
            path.map_err(|error| ApiError::bad_request("invalid_path", error.body_text()))?;
        Ok(Self(parameters))
    }
}

/// Body in JSON.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let content_type = request.headers().get(CONTENT_TYPE);
        let is_json = content_type
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(ApiError::unsupported_media_type("application/json"));
        }
        let limit = BodyLimit::Form(MAX_JSON);
        let body = body::read(request.into_body(), &app.limits.memory, limit).await?;
        let body = body.into_bytes();
        let mut json = serde_json::Deserializer::from_slice(&body);
        let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let (path, cause) = (error.path().to_string(), error.into_inner());
            invalid_body(&path, &cause)
        })?;
        json.end().map_err(|cause| invalid_body(".", &cause))?;
        Ok(Self(parsed))
    }
}

/// Returns the error of a body in JSON. The path is `.` for the body as a whole.
fn invalid_body(path: &str, cause: &serde_json::Error) -> ApiError {
    let place = match path {
        "." => String::new(),
        path => format!(" at '{path}'"),
    };
    let message = format!("The body is not valid{place}: {cause}.");
    ApiError::bad_request("invalid_body", message).with("field", path)
}
