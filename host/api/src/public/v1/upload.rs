//! Receiving an archive: from the connection to the disk, never as a whole in memory.

use std::io::{Seek, Write};
use std::time::Duration;

use axum::extract::Request;
use axum::http::header;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use rostro_service::{ArchiveFile, ArchiveFolder};

use crate::error::{ApiError, is_full};

/// How long a caller may send nothing.
const STALLED: Duration = Duration::from_secs(30);

/// How long a caller may be slow, and the bytes a second that are not slow.
const PATIENCE: Duration = Duration::from_secs(10);
const LEAST_RATE: u64 = 64 << 10;

/// Chunks on their way to the disk.
const CHUNKS: usize = 16;

/// Receives the body of a request.
///
/// # Errors
///
/// If it is larger than archives may be, stalls, ends early, or finds no room.
pub(super) async fn receive(
    request: Request,
    archives: &ArchiveFolder,
) -> Result<ArchiveFile, ApiError> {
    let most = archives.most();
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most) {
        return Err(too_large(most));
    }
    let mut file = archives.create();
    let (send, mut chunks) = mpsc::channel::<Bytes>(CHUNKS);
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = chunks.blocking_recv() {
            file.write_all(&chunk)?;
        }
        file.rewind()?;
        Ok::<_, std::io::Error>(file)
    });
    let mut body = request.into_body();
    // Time that the disk takes is not the caller's.
    let (mut waited, mut received) = (Duration::ZERO, 0_u64);
    loop {
        let begun = Instant::now();
        let frame = timeout(STALLED, body.frame()).await;
        waited += begun.elapsed();
        let frame = match frame {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                let message = "The body ended before it was complete; nothing was changed.";
                return Err(ApiError::bad_request("incomplete_body", message)
                    .with("cause", error.to_string()));
            }
            Err(_) => {
                return Err(too_slow(
                    "Nothing of the archive arrived for 30 s; nothing was changed.",
                    "stalled",
                ));
            }
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        received += data.len() as u64;
        if received > most {
            return Err(too_large(most));
        }
        if waited > PATIENCE && received < LEAST_RATE * waited.as_secs() {
            return Err(too_slow(
                "The archive arrived at less than 64 KiB/s on average; nothing was changed.",
                "average",
            ));
        }
        if send.send(data).await.is_err() {
            // It failed, and says why below.
            break;
        }
    }
    drop(send);
    let written = writing.await.map_err(|error| {
        ApiError::internal("internal", "The service failed unexpectedly.", error)
    })?;
    written.map_err(|error| match is_full(&error) {
        true => super::gallery::no_room(&error),
        false => ApiError::internal(
            "archive_failed",
            "The archive could not be written; nothing was changed.",
            error,
        ),
    })
}

fn too_slow(message: &str, limit: &str) -> ApiError {
    ApiError::body_timeout(message.to_owned()).with("limit", limit)
}

fn too_large(most: u64) -> ApiError {
    let message =
        format!("The archive is larger than {most} bytes, which --max-archive-gib allows.");
    ApiError::too_large("body_too_large", message).with("max_bytes", most)
}
