//! Headers that several modules read or write.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, header};

/// Header of answers with the digest of the revision that answered.
pub(crate) const X_ROSTRO_PIPELINE: HeaderName = HeaderName::from_static("x-rostro-pipeline");

/// Header of answers without a lease, with the seconds since its last renewal.
pub(crate) const X_ROSTRO_STALE: HeaderName = HeaderName::from_static("x-rostro-stale");

/// Kind of a request's body, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentType {
    Multipart,
    /// A form that cannot hold files; clients send it when they have none.
    UrlEncoded,
    /// No content type. The replaced service treated such a body as an empty form.
    Missing,
    Image,
    /// `application/octet-stream`.
    Bytes,
    Zip,
    Other,
}

impl ContentType {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Self::Missing;
        };
        let essence = value
            .as_bytes()
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        match String::from_utf8_lossy(essence)
            .to_ascii_lowercase()
            .as_str()
        {
            "multipart/form-data" => Self::Multipart,
            "application/x-www-form-urlencoded" => Self::UrlEncoded,
            "" => Self::Missing,
            "application/zip" => Self::Zip,
            "application/octet-stream" => Self::Bytes,
            image if image.starts_with("image/") => Self::Image,
            _ => Self::Other,
        }
    }
}

/// Returns the `content-length` of a request, if it is a number.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

/// Returns the name under which the client addresses the service: `host`, or the authority of the
/// request line in HTTP/2.
pub(crate) fn host(request: &Request) -> Option<&str> {
    let header = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    header.or_else(|| request.uri().authority().map(Authority::as_str))
}
