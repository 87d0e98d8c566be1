//! Memory that request bodies hold: bounded in total and per client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use rostro_service::executor::Client;

use crate::error::ApiError;

/// Bytes of one permit. An image takes many permits, and a semaphore counts up to 2^32 of them.
const UNIT: usize = 1024;

/// Memory for the bodies of all requests. A request that finds none left is refused, because
/// waiting would hold memory that others need.
#[derive(Clone, Debug)]
pub(crate) struct BodyMemory {
    total: Arc<Semaphore>,
    shares: Arc<ClientShares>,
    /// Share of the client whose bodies these are, once it is known.
    share: Option<Arc<Semaphore>>,
}

/// Memory of each client that holds some.
#[derive(Debug)]
struct ClientShares {
    /// Units of all bodies together.
    total_units: usize,
    /// Units of one client's bodies.
    client_units: usize,
    by_client: Mutex<HashMap<Client, Weak<Semaphore>>>,
}

impl BodyMemory {
    /// Allows `bytes` in total, of which one client has at most `client_bytes`.
    pub(crate) fn new(bytes: usize, client_bytes: usize) -> Self {
        let shares = ClientShares {
            total_units: units(bytes),
            client_units: units(client_bytes),
            by_client: Mutex::default(),
        };
        Self {
            total: Arc::new(Semaphore::new(units(bytes))),
            shares: Arc::new(shares),
            share: None,
        }
    }

    /// Returns this memory with the share of one client.
    pub(crate) fn of(&self, client: &Client) -> Self {
        let mut by_client = self
            .shares
            .by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        by_client.retain(|_, share| share.strong_count() > 0);
        let existing = by_client.get(client).and_then(Weak::upgrade);
        let share = existing.unwrap_or_else(|| {
            let share = Arc::new(Semaphore::new(self.shares.client_units));
            by_client.insert(client.clone(), Arc::downgrade(&share));
            share
        });
        Self {
            share: Some(share),
            ..self.clone()
        }
    }

    /// Returns true if no body holds memory. `bytes` is the total.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_free(&self, bytes: usize) -> bool {
        self.total.available_permits() == bytes / UNIT
    }

    /// Returns an empty buffer.
    pub(crate) fn buffer(&self) -> BodyBuffer {
        BodyBuffer {
            memory: self.clone(),
            content: BytesMut::new(),
            permits: MemoryPermits::default(),
        }
    }
}

/// Bytes of a body that arrives, with the memory that is reserved for them.
#[derive(Debug)]
pub(crate) struct BodyBuffer {
    memory: BodyMemory,
    content: BytesMut,
    permits: MemoryPermits,
}

/// Permits of the total and of the client's share.
#[derive(Debug, Default)]
struct MemoryPermits {
    units: usize,
    total: Option<OwnedSemaphorePermit>,
    share: Option<OwnedSemaphorePermit>,
}

impl MemoryPermits {
    /// Adds permits until they suffice for `bytes`.
    fn extend_to(&mut self, bytes: usize, memory: &BodyMemory) -> Result<(), ApiError> {
        let missing = bytes.div_ceil(UNIT).saturating_sub(self.units);
        if missing == 0 {
            return Ok(());
        }
        let shares = &memory.shares;
        let total = acquire(&memory.total, missing)
            .ok_or_else(|| ApiError::bodies_full(shares.total_units * UNIT))?;
        if let Some(share) = &memory.share {
            let share = acquire(share, missing)
                .ok_or_else(|| ApiError::client_bodies_full(shares.client_units * UNIT))?;
            self.share = Some(merged(self.share.take(), share));
        }
        self.total = Some(merged(self.total.take(), total));
        self.units += missing;
        Ok(())
    }
}

/// Bytes of a complete body, and its memory, which is free again when all parts are dropped.
#[derive(Debug)]
pub(crate) struct BufferedBody {
    pub(crate) bytes: Bytes,
    permits: Arc<MemoryPermits>,
}

impl AsRef<[u8]> for BufferedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl BufferedBody {
    /// Returns the bytes, which keep the memory reserved until their last clone is dropped.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Separates the bytes from the reservation, for parts that are cut out of the bytes.
    pub(crate) fn into_parts(self) -> (Bytes, Reservation) {
        (self.bytes, Reservation(self.permits))
    }
}

/// Memory of a body that is cut into parts. Each part keeps all of it reserved.
#[derive(Clone, Debug)]
pub(crate) struct Reservation(Arc<MemoryPermits>);

impl Reservation {
    /// Returns a part of the body, which keeps the memory reserved.
    pub(crate) fn part(&self, bytes: Bytes) -> Bytes {
        BufferedBody {
            bytes,
            permits: Arc::clone(&self.0),
        }
        .into_bytes()
    }
}

impl BodyBuffer {
    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.content.len()
    }

    /// Adds a chunk.
    ///
    /// # Errors
    ///
    /// If no memory is left for it.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        let length = self.content.len() + chunk.len();
        self.permits.extend_to(length, &self.memory)?;
        self.content.extend_from_slice(chunk);
        Ok(())
    }

    /// Returns the body when all of it has arrived.
    pub(crate) fn finish(self) -> BufferedBody {
        BufferedBody {
            bytes: self.content.freeze(),
            permits: Arc::new(self.permits),
        }
    }
}

fn units(bytes: usize) -> usize {
    (bytes / UNIT).clamp(1, u32::MAX as usize)
}

/// Returns permits for `units`, if as many are left.
fn acquire(memory: &Arc<Semaphore>, units: usize) -> Option<OwnedSemaphorePermit> {
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    Arc::clone(memory).try_acquire_many_owned(units).ok()
}

/// Joins permits of one semaphore.
fn merged(held: Option<OwnedSemaphorePermit>, added: OwnedSemaphorePermit) -> OwnedSemaphorePermit {
    match held {
        Some(mut held) => {
            held.merge(added);
            held
        }
        None => added,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_holds_memory_until_dropped() {
        let memory = BodyMemory::new(4 * UNIT, 4 * UNIT);
        let mut first = memory.buffer();
        first.push(&[1; 2 * UNIT]).unwrap();
        first.push(&[2; UNIT + 1]).unwrap();
        let mut second = memory.buffer();
        assert_eq!(second.push(&[3]).unwrap_err().code, "overloaded");
        let first = first.finish();
        assert_eq!(
            (first.bytes.len(), memory.total.available_permits()),
            (3 * UNIT + 1, 0)
        );
        let (bytes, reservation) = first.into_parts();
        let parts = [
            reservation.part(bytes.slice(..UNIT)),
            reservation.part(bytes.slice(UNIT..)),
        ];
        drop((bytes, reservation));
        assert_eq!(
            memory.total.available_permits(),
            0,
            "a part keeps the memory of the body"
        );
        drop(parts);
        second.push(&[3]).unwrap();
        drop(second);
        assert_eq!(memory.total.available_permits(), 4);
    }

    #[test]
    fn client_takes_at_most_its_share() {
        let memory = BodyMemory::new(4 * UNIT, 2 * UNIT);
        let of = |name: &str| memory.of(&Client::Key(name.into())).buffer();
        let (mut first, mut second) = (of("a"), of("a"));
        first.push(&[1; UNIT]).unwrap();
        second.push(&[1; UNIT]).unwrap();
        let refused = first.push(&[1]).unwrap_err();
        assert_eq!(
            (refused.code, refused.details["limit"].as_str()),
            ("overloaded", Some("bodies-of-one-client"))
        );
        let mut other = of("b");
        other.push(&[1; UNIT]).unwrap();
        drop((first, second, other));
        assert_eq!(memory.total.available_permits(), 4);
        assert!(
            of("a").push(&[1; 2 * UNIT]).is_ok(),
            "a refused reservation leaves nothing reserved"
        );
        assert_eq!(memory.shares.by_client.lock().unwrap().len(), 1);
    }
}
