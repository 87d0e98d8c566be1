//! Turns at changing one person: between reading what is stored and writing it nobody else does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout_at;

use rostro_common::ids::PersonId;

use super::PeopleError;

/// Who is being changed.
#[derive(Debug, Default)]
pub(crate) struct PersonLocks(Mutex<HashMap<PersonId, Arc<tokio::sync::Mutex<()>>>>);

/// The right to change one person; it ends when it is dropped.
#[derive(Debug)]
pub struct PersonLock {
    locks: Arc<PersonLocks>,
    id: PersonId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl PersonLocks {
    /// Waits for a turn, which holds up no thread.
    ///
    /// # Errors
    ///
    /// If it does not come before the deadline.
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
        // Made first, so that the entry is cleared away whether the turn comes or not.
        let mut held = PersonLock {
            locks: Arc::clone(self),
            id: id.clone(),
            guard: None,
        };
        held.guard = Some(
            timeout_at(deadline.into(), lock.lock_owned())
                .await
                .map_err(|_| PeopleError::Busy)?,
        );
        Ok(held)
    }

    /// Takes the turn if nobody has it.
    pub(crate) fn try_take(self: &Arc<Self>, id: &PersonId) -> Option<PersonLock> {
        let lock = Arc::clone(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(id.clone())
                .or_default(),
        );
        let mut held = PersonLock {
            locks: Arc::clone(self),
            id: id.clone(),
            guard: None,
        };
        held.guard = lock.try_lock_owned().ok();
        held.guard.is_some().then_some(held)
    }

    /// The same on a thread that may wait.
    ///
    /// # Errors
    ///
    /// If it does not come before the deadline.
    pub(crate) fn wait(
        self: &Arc<Self>,
        id: &PersonId,
        deadline: Instant,
    ) -> Result<PersonLock, PeopleError> {
        Handle::current().block_on(self.take(id, deadline))
    }
}

impl PersonLock {
    /// Whose it is.
    pub fn id(&self) -> &PersonId {
        &self.id
    }
}

impl Drop for PersonLock {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut locks = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits holds it, too.
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

    #[tokio::test]
    async fn one_at_a_time_has_a_turn_and_nothing_is_left_of_it() {
        let locks = Arc::new(PersonLocks::default());
        let id: PersonId = "s6".parse().unwrap();
        let soon = || Instant::now() + Duration::from_millis(50);
        let first = locks.take(&id, soon()).await.unwrap();
        assert!(
            locks.take(&"s7".parse().unwrap(), soon()).await.is_ok(),
            "others are not in the way"
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
