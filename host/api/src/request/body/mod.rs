//! Reading bodies into memory within bounds of size, memory and time.

pub(crate) mod archive;
mod pace;

use std::time::Instant;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout_at;

use crate::error::ApiError;
use crate::request::memory::{BodyMemory, BufferedBody};

use self::pace::Pace;

/// Largest size of a body in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BodyLimit {
    /// The body is a form.
    Form(usize),
    /// The body is an image.
    Image(usize),
}

impl BodyLimit {
    /// Refuses a body of more bytes.
    fn check(self, bytes: usize) -> Result<(), ApiError> {
        match self {
            Self::Form(most) if bytes > most => Err(body_too_large(most)),
            Self::Image(most) if bytes > most => Err(image_too_large("body", most)),
            Self::Form(_) | Self::Image(_) => Ok(()),
        }
    }
}

/// Returns the error for a body over its limit.
pub(crate) fn body_too_large(max_bytes: usize) -> ApiError {
    ApiError::too_large(
        "body_too_large",
        format!("The body is larger than {max_bytes} bytes."),
    )
    .with("max_bytes", max_bytes)
}

/// Returns the error for an image over its limit.
pub(crate) fn image_too_large(file_name: &str, max_bytes: usize) -> ApiError {
    ApiError::too_large(
        "image_too_large",
        format!("The image '{file_name}' is larger than {max_bytes} bytes."),
    )
    .with("file_name", file_name)
    .with("max_bytes", max_bytes)
}

/// Reads a body as long as it arrives at the required pace.
///
/// # Errors
///
/// If the body exceeds the limit or finds no memory, or is slow or incomplete.
pub(crate) async fn read(
    mut body: Body,
    memory: &BodyMemory,
    limit: BodyLimit,
) -> Result<BufferedBody, ApiError> {
    let mut buffer = memory.buffer();
    let mut pace = Pace::begin(Instant::now());
    loop {
        let (until, slowness) = pace.next_limit();
        let frame = match timeout_at(until.into(), body.frame()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(buffer.finish()),
            Err(_) => return Err(pace.refusal(slowness, Instant::now())),
        };
        let frame = frame.map_err(|error| {
            ApiError::bad_request("incomplete_body", "The body ended before it was complete.")
                .with("cause", error.to_string())
        })?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        pace.add(data.len(), Instant::now());
        limit.check(buffer.len() + data.len())?;
        buffer.push(data)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_body_is_refused() {
        for (limit, code) in [
            (BodyLimit::Form(2), "body_too_large"),
            (BodyLimit::Image(2), "image_too_large"),
        ] {
            assert!(limit.check(2).is_ok());
            assert_eq!(limit.check(3).unwrap_err().code, code);
        }
    }
}
