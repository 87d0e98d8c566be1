//! Reading bodies into memory within bounds of size, memory and time.

pub(crate) mod archive;
mod pace;

use std::time::Instant;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout_at;

use crate::error::ApiError;
use crate::request::memory::{BodyBuffer, BufferedBody};

use self::pace::Pace;

/// Reads a body as long as it arrives at the required pace. Returns `None` if it does not fit into
/// the buffer.
pub(crate) async fn read(
    mut body: Body,
    mut buffer: BodyBuffer,
) -> Result<Option<BufferedBody>, ApiError> {
    let mut pace = Pace::begin(Instant::now());
    loop {
        let (until, slowness) = pace.next_limit();
        let frame = match timeout_at(until.into(), body.frame()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(Some(buffer.finish())),
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
        if !buffer.push(data)? {
            return Ok(None);
        }
    }
}
