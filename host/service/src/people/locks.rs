//! Locks of people: one task at a time reads and then writes the samples of one person.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout_at;

use rostro_common::ids::PersonId;

use super::PeopleError;

/// Locks of the people that are being changed.
#[derive(Debug, Default)]
pub(crate) struct PersonLocks(Mutex<HashMap<PersonId, Arc<tokio::sync::Mutex<()>>>>);

/// Lock of one person, released on drop.
#[derive(Debug)]
pub struct PersonLock {
    locks: Arc<PersonLocks>,
    id: PersonId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl PersonLocks {
    /// Waits for a person's lock, without blocking a thread.
    ///
    /// # Errors
    ///
    /// [`PeopleError::Busy`] if the lock is not free before the deadline.
    pub(crate) async fn take(
        self: &Arc<Self>,
        id: &PersonId,
        deadline: Instant,
    ) -> Result<PersonLock, PeopleError> {
        let lock = Arc::clone(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(id.clone())
                .or_default(),
        );
        // Created first, so that its drop removes the entry in any case.
        let mut person_lock = PersonLock {
            locks: Arc::clone(self),
            id: id.clone(),
            guard: None,
        };
        person_lock.guard = Some(
            timeout_at(deadline.into(), lock.lock_owned())
                .await
                .map_err(|_| PeopleError::Busy)?,
        );
        Ok(person_lock)
    }

    /// Takes a person's lock if it is free.
    pub(crate) fn try_take(self: &Arc<Self>, id: &PersonId) -> Option<PersonLock> {
        let lock = Arc::clone(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(id.clone())
                .or_default(),
        );
        let mut person_lock = PersonLock {
            locks: Arc::clone(self),
            id: id.clone(),
            guard: None,
        };
        person_lock.guard = lock.try_lock_owned().ok();
        person_lock.guard.is_some().then_some(person_lock)
    }

    /// Waits for a person's lock on a thread that may block.
    ///
    /// # Errors
    ///
    /// [`PeopleError::Busy`] if the lock is not free before the deadline.
    pub(crate) fn wait(
        self: &Arc<Self>,
        id: &PersonId,
        deadline: Instant,
    ) -> Result<PersonLock, PeopleError> {
        Handle::current().block_on(self.take(id, deadline))
    }
}

impl PersonLock {
    /// Returns the id of the locked person.
    pub fn id(&self) -> &PersonId {
        &self.id
    }
}

impl Drop for PersonLock {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut locks = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Each waiting task holds a reference, too.
        if locks
            .get(&self.id)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// One task at a time has a person's lock, and the map is empty once all are dropped.
    #[tokio::test]
    async fn lock_is_exclusive_and_cleaned_up() {
        let locks = Arc::new(PersonLocks::default());
        let id: PersonId = "s6".parse().unwrap();
        let soon = || Instant::now() + Duration::from_millis(50);
        let first = locks.take(&id, soon()).await.unwrap();
        assert!(
            locks.take(&"s7".parse().unwrap(), soon()).await.is_ok(),
            "other people are not locked"
        );
        assert!(matches!(
            locks.take(&id, soon()).await,
            Err(PeopleError::Busy)
        ));
        assert!(locks.try_take(&id).is_none() && locks.try_take(&"s8".parse().unwrap()).is_some());
        let waiting = tokio::spawn({
            let (locks, id) = (Arc::clone(&locks), id.clone());
            async move {
                locks
                    .take(&id, Instant::now() + Duration::from_secs(5))
                    .await
                    .is_ok()
            }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.unwrap());
        assert!(locks.0.lock().unwrap().is_empty());
    }
}
