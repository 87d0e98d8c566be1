//! Reading what callers send within bounds: of each part, of all requests together, and of time.

mod pace;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use rostro_service::executor::Client;

use crate::error::ApiError;

pub(crate) use self::pace::Pace;

/// The unit in which memory is reserved, in bytes: an image is many of them, and a semaphore counts
/// up to 2^32.
const UNIT: usize = 1024;

/// The memory for bodies, of all requests together. Who finds none left is told to come back:
/// waiting would hold what others need.
#[derive(Clone, Debug)]
pub(crate) struct BodyMemory {
    all: Arc<Semaphore>,
    shares: Arc<ClientShare>,
    /// The client's, if it is known whose bodies these are.
    own: Option<Arc<Semaphore>>,
}

/// What each client may have of it.
#[derive(Debug)]
struct ClientShare {
    /// Units of all bodies together, and of one client's.
    all: usize,
    most: usize,
    of: Mutex<HashMap<Client, Weak<Semaphore>>>,
}

impl BodyMemory {
    /// So many bytes, of which one client has at most a share.
    pub(crate) fn new(bytes: usize, share: usize) -> Self {
        let shares = ClientShare {
            all: units(bytes),
            most: units(share),
            of: Mutex::default(),
        };
        Self {
            all: Arc::new(Semaphore::new(units(bytes))),
            shares: Arc::new(shares),
            own: None,
        }
    }

    /// The same for this client's bodies.
    pub(crate) fn of(&self, client: &Client) -> Self {
        let mut shares = self
            .shares
            .of
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, share| share.strong_count() > 0);
        let there = shares.get(client).and_then(Weak::upgrade);
        let own = there.unwrap_or_else(|| {
            let share = Arc::new(Semaphore::new(self.shares.most));
            shares.insert(client.clone(), Arc::downgrade(&share));
            share
        });
        Self {
            own: Some(own),
            ..self.clone()
        }
    }

    /// Whether nothing of `bytes` is held.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_free(&self, bytes: usize) -> bool {
        self.all.available_permits() == bytes / UNIT
    }

    /// Begins to collect at most `most` bytes.
    pub(crate) fn collect(&self, most: usize) -> BodyBuffer {
        BodyBuffer {
            memory: self.clone(),
            most,
            content: BytesMut::new(),
            held: MemoryPermits::default(),
        }
    }
}

/// Bytes as they arrive, with the memory that is reserved for them.
#[derive(Debug)]
pub(crate) struct BodyBuffer {
    memory: BodyMemory,
    most: usize,
    content: BytesMut,
    held: MemoryPermits,
}

/// What is reserved: of all memory, and of the client's share.
#[derive(Debug, Default)]
struct MemoryPermits {
    units: usize,
    all: Option<OwnedSemaphorePermit>,
    own: Option<OwnedSemaphorePermit>,
}

/// Bytes of a body, and the memory of the body: it is free again when all of its parts are dropped.
#[derive(Debug)]
pub(crate) struct BufferedBody {
    pub(crate) bytes: Bytes,
    held: Arc<MemoryPermits>,
}

impl AsRef<[u8]> for BufferedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl BufferedBody {
    /// The bytes, which keep the memory reserved until their last clone is dropped.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// The reservation without the bytes, for parts that are taken out of them.
    pub(crate) fn into_parts(self) -> (Bytes, Reservation) {
        (self.bytes, Reservation(self.held))
    }
}

/// The memory of a body whose parts are taken out. Each part keeps all of it.
#[derive(Clone, Debug)]
pub(crate) struct Reservation(Arc<MemoryPermits>);

impl Reservation {
    /// A part of the body.
    pub(crate) fn part(&self, bytes: Bytes) -> Bytes {
        BufferedBody {
            bytes,
            held: Arc::clone(&self.0),
        }
        .into_bytes()
    }
}

impl BodyBuffer {
    /// Adds a chunk; whether it still fits.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<bool, ApiError> {
        if self.content.len() + chunk.len() > self.most {
            return Ok(false);
        }
        let wanted = (self.content.len() + chunk.len())
            .div_ceil(UNIT)
            .saturating_sub(self.held.units);
        if wanted > 0 {
            let ClientShare { all, most, .. } = *self.memory.shares;
            reserve(Some(&self.memory.all), &mut self.held.all, wanted)
                .map_err(|()| ApiError::bodies_full(all * UNIT))?;
            reserve(self.memory.own.as_ref(), &mut self.held.own, wanted)
                .map_err(|()| ApiError::own_bodies_full(most * UNIT))?;
            self.held.units += wanted;
        }
        self.content.extend_from_slice(chunk);
        Ok(true)
    }

    pub(crate) fn finish(self) -> BufferedBody {
        BufferedBody {
            bytes: self.content.freeze(),
            held: Arc::new(self.held),
        }
    }
}

fn units(bytes: usize) -> usize {
    (bytes / UNIT).clamp(1, u32::MAX as usize)
}

/// Reserves more of some memory, if there is as much.
fn reserve(
    memory: Option<&Arc<Semaphore>>,
    held: &mut Option<OwnedSemaphorePermit>,
    units: usize,
) -> Result<(), ()> {
    let Some(memory) = memory else { return Ok(()) };
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    let more = Arc::clone(memory)
        .try_acquire_many_owned(units)
        .map_err(drop)?;
    match held {
        Some(held) => held.merge(more),
        empty => *empty = Some(more),
    }
    Ok(())
}

/// Reads a body as long as it arrives at a good pace; none if it does not fit.
pub(crate) async fn read(
    mut body: Body,
    mut collector: BodyBuffer,
) -> Result<Option<BufferedBody>, ApiError> {
    let mut pace = Pace::begin(Instant::now());
    loop {
        let (until, slowness) = pace.next_limit();
        let frame = match timeout_at(until.into(), body.frame()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(Some(collector.finish())),
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
        let pushed = collector.push(data);
        if !matches!(pushed, Ok(true)) {
            drop(collector);
            return pushed.map(|_| None);
        }
    }
}

/// A body of which whatever is not read is read and dropped for a while when it is dropped itself.
/// So a client that only reads the answer after sending everything gets to see it, and a connection
/// that is used again is not closed under the next request.
#[derive(Debug)]
pub(crate) struct DrainOnDrop(Option<Body>);

impl DrainOnDrop {
    pub(crate) fn of(body: Body) -> Body {
        // Most requests have none, and then nothing is to be done.
        if body.is_end_stream() {
            body
        } else {
            Body::new(Self(Some(body)))
        }
    }
}

impl HttpBody for DrainOnDrop {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
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
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for DrainOnDrop {
    fn drop(&mut self) {
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream())
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(drain(body));
        }
    }
}

/// Reads a body and drops it, for at most two seconds.
async fn drain(mut body: Body) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reserved_as_bytes_come_and_free_when_they_are_dropped() {
        let memory = BodyMemory::new(4 * UNIT, 4 * UNIT);
        let mut first = memory.collect(10 * UNIT);
        assert!(first.push(&[1; 2 * UNIT]).unwrap() && first.push(&[2; UNIT + 1]).unwrap());
        let mut second = memory.collect(UNIT);
        assert_eq!(second.push(&[3]).unwrap_err().code, "overloaded");
        let first = first.finish();
        assert_eq!(
            (first.bytes.len(), memory.all.available_permits()),
            (3 * UNIT + 1, 0)
        );
        let (bytes, reservation) = first.into_parts();
        let parts = [
            reservation.part(bytes.slice(..UNIT)),
            reservation.part(bytes.slice(UNIT..)),
        ];
        drop((bytes, reservation));
        assert_eq!(
            memory.all.available_permits(),
            0,
            "a part keeps the memory of the body"
        );
        drop(parts);
        assert!(second.push(&[3]).unwrap());
        assert!(!second.push(&[3; UNIT]).unwrap(), "more than its own limit");
        drop(second);
        assert_eq!(memory.all.available_permits(), 4);
    }

    #[test]
    fn one_client_leaves_memory_to_the_others() {
        let memory = BodyMemory::new(4 * UNIT, 2 * UNIT);
        let of = |name: &str| memory.of(&Client::Key(name.into())).collect(10 * UNIT);
        let (mut first, mut second) = (of("a"), of("a"));
        assert!(first.push(&[1; UNIT]).unwrap() && second.push(&[1; UNIT]).unwrap());
        let refused = first.push(&[1]).unwrap_err();
        assert_eq!(
            (refused.code, refused.details["limit"].as_str()),
            ("overloaded", Some("bodies-of-one-client"))
        );
        let mut other = of("b");
        assert!(other.push(&[1; UNIT]).unwrap());
        drop((first, second, other));
        assert_eq!(memory.all.available_permits(), 4);
        assert!(
            of("a").push(&[1; 2 * UNIT]).unwrap(),
            "what was reserved for nothing is free, too"
        );
        assert_eq!(memory.shares.of.lock().unwrap().len(), 1);
    }
}
