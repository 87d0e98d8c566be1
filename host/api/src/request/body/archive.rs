//! Receiving an archive: from the connection to the disk, never completely in memory.

use std::io::{Seek, Write};
use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use rostro_service::{ArchiveFile, ArchiveFolder};

use crate::error::{ApiError, is_disk_full};
use crate::request::body::pace::{GRACE, MAX_PAUSE, MIN_RATE};
use crate::request::headers::content_length;

/// Chunks on their way to the disk.
const CHUNKS: usize = 16;

/// Receives the body of a request into a file.
///
/// # Errors
///
/// If the body exceeds the limit of archives, is slow or incomplete, or the disk is full.
pub(crate) async fn receive(
    request: Request,
    archives: &ArchiveFolder,
) -> Result<ArchiveFile, ApiError> {
    let max_bytes = archives.most();
    if content_length(request.headers()).is_some_and(|length| length > max_bytes) {
        return Err(too_large(max_bytes));
    }
    let mut file = archives.create();
    let (sender, mut chunks) = mpsc::channel::<Bytes>(CHUNKS);
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = chunks.blocking_recv() {
            file.write_all(&chunk)?;
        }
        file.rewind()?;
        Ok::<_, std::io::Error>(file)
    });
    let mut body = request.into_body();
    // Only the time of waiting for the caller counts, not that of the disk.
    let (mut waited, mut received) = (Duration::ZERO, 0_u64);
    loop {
        let begun = Instant::now();
        let frame = timeout(MAX_PAUSE, body.frame()).await;
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
        if received > max_bytes {
            return Err(too_large(max_bytes));
        }
        if waited > GRACE && received < u64::from(MIN_RATE) * waited.as_secs() {
            return Err(too_slow(
                "The archive arrived at less than 64 KiB/s on average; nothing was changed.",
                "average",
            ));
        }
        if sender.send(data).await.is_err() {
            // The writer failed; its error is returned below.
            break;
        }
    }
    drop(sender);
    let written = writer.await.map_err(ApiError::unexpected)?;
    written.map_err(|error| match is_disk_full(&error) {
        true => disk_full(&error),
        false => ApiError::internal(
            "archive_failed",
            "The archive could not be written; nothing was changed.",
            error,
        ),
    })
}

/// Returns the error for an archive that finds no room on the disk.
pub(crate) fn disk_full(cause: &std::io::Error) -> ApiError {
    let message = "There is no room for the archive on the disk of the state folder; what was \
                   stored so far stays.";
    ApiError::disk_full(message, cause)
}

fn too_slow(message: &str, limit: &str) -> ApiError {
    ApiError::body_timeout(message.to_owned()).with("limit", limit)
}

fn too_large(max_bytes: u64) -> ApiError {
    let message =
        format!("The archive is larger than {max_bytes} bytes, which --max-archive-gib allows.");
    ApiError::too_large("body_too_large", message).with("max_bytes", max_bytes)
}
