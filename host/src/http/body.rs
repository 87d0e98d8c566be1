//! Reading what callers send within bounds: of each part, and of all requests together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
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
            linger(drain(body)).await;
            return pushed.map(|_| None);
        }
    }
    Ok(Some(collector.finish()))
}

/// Reads the rest of a body that was refused, and drops it, so that a client that only reads the answer after sending everything gets to see
/// it.
pub(crate) fn drop_rest(body: Body) {
    tokio::spawn(linger(drain(body)));
}

/// How long that is done.
pub(super) async fn linger(rest: impl Future<Output = ()>) {
    let _ = tokio::time::timeout(Duration::from_secs(2), rest).await;
}

/// Reads a body and drops it.
pub(super) async fn drain(mut body: Body) {
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
