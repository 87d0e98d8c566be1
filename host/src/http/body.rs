//! Reading what callers send within bounds: of each part, and of all requests together.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// The unit in which memory is reserved, in bytes: an image is many of them, and a semaphore counts up to 2^32.
const UNIT: usize = 1024;

/// The memory for bodies, of all requests together. Who finds none left is told to come back: waiting would hold what others need.
#[derive(Clone, Debug)]
pub(super) struct BodyMemory(Arc<Semaphore>);

impl BodyMemory {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).clamp(1, u32::MAX as usize))))
    }

    /// Whether nothing of `bytes` is held.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_free(&self, bytes: usize) -> bool {
        self.0.available_permits() == bytes / UNIT
    }

    /// Begins to collect at most `most` bytes.
    pub(super) fn collect(&self, most: usize) -> Collector {
        Collector { memory: Arc::clone(&self.0), most, content: BytesMut::new(), held: None }
    }
}

/// Bytes as they arrive, with the memory that is reserved for them.
#[derive(Debug)]
pub(super) struct Collector {
    memory: Arc<Semaphore>,
    most: usize,
    content: BytesMut,
    held: Option<OwnedSemaphorePermit>,
}

/// All bytes, and their memory: it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    _held: Option<OwnedSemaphorePermit>,
}

impl Collector {
    /// Adds a chunk; whether it still fits.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<bool, ApiError> {
        if self.content.len() + chunk.len() > self.most {
            return Ok(false);
        }
        let reserved = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = (self.content.len() + chunk.len()).div_ceil(UNIT).saturating_sub(reserved);
        if wanted > 0 {
            let units = u32::try_from(wanted).unwrap_or(u32::MAX);
            let more = Arc::clone(&self.memory).try_acquire_many_owned(units).map_err(|_| ApiError::overloaded())?;
            match &mut self.held {
                Some(held) => held.merge(more),
                empty => *empty = Some(more),
            }
        }
        self.content.extend_from_slice(chunk);
        Ok(true)
    }

    pub(super) fn finish(self) -> Content {
        Content { bytes: self.content.freeze(), _held: self.held }
    }
}

/// Reads a body that is not a form; none if it does not fit.
pub(super) async fn read(mut body: Body, mut collector: Collector) -> Result<Option<Content>, ApiError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request("incomplete_body", "The body ended before it was complete.").with("cause", error.to_string())
        })?;
        let pushed = frame.data_ref().map_or(Ok(true), |data| collector.push(data));
        if !matches!(pushed, Ok(true)) {
            drop(collector);
            return pushed.map(|_| None);
        }
    }
    Ok(Some(collector.finish()))
}

/// A body of which whatever is not read is read and dropped for a while when it is dropped itself. So a client that only reads the answer
/// after sending everything gets to see it, and a connection that is used again is not closed under the next request.
#[derive(Debug)]
pub(super) struct Rest(Option<Body>);

impl Rest {
    pub(super) fn of(body: Body) -> Body {
        // Most requests have none, and then nothing is to be done.
        if body.is_end_stream() { body } else { Body::new(Self(Some(body))) }
    }
}

impl HttpBody for Rest {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream())
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(linger(drain(body)));
        }
    }
}

/// How long that is done.
async fn linger(rest: impl Future<Output = ()>) {
    let _ = tokio::time::timeout(Duration::from_secs(2), rest).await;
}

/// Reads a body and drops it.
async fn drain(mut body: Body) {
    while let Some(Ok(_)) = body.frame().await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reserved_as_bytes_come_and_free_when_they_are_dropped() {
        let memory = BodyMemory::new(4 * UNIT);
        let mut first = memory.collect(10 * UNIT);
        assert!(first.push(&[1; 2 * UNIT]).unwrap() && first.push(&[2; UNIT + 1]).unwrap());
        let mut second = memory.collect(UNIT);
        assert_eq!(second.push(&[3]).unwrap_err().code, "overloaded");
        let first = first.finish();
        assert_eq!((first.bytes.len(), memory.0.available_permits()), (3 * UNIT + 1, 0));
        drop(first);
        assert!(second.push(&[3]).unwrap());
        assert!(!second.push(&[3; UNIT]).unwrap(), "more than its own limit");
        drop(second);
        assert_eq!(memory.0.available_permits(), 4);
    }
}
