//! Turns at changing one person: between reading what is stored and writing it nobody else does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout_at;

use rostro_common::person::PersonId;

use super::PeopleError;

/// Who is being changed.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<PersonId, Arc<tokio::sync::Mutex<()>>>>);

/// The right to change one person; it ends when it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    id: PersonId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for a turn, which holds up no thread.
    ///
    /// # Errors
    ///
    /// If it does not come before the deadline.
    pub(crate) async fn take(
        self: &Arc<Self>,
        id: &PersonId,
        deadline: Instant,
    ) -> Result<Turn, PeopleError> {
        let lock = Arc::clone(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(id.clone())
                .or_default(),
        );
        // Made first, so that the entry is cleared away whether the turn comes or not.
        let mut turn = Turn {
            turns: Arc::clone(self),
            id: id.clone(),
            guard: None,
        };
        turn.guard = Some(
            timeout_at(deadline.into(), lock.lock_owned())
                .await
                .map_err(|_| PeopleError::Busy)?,
        );
        Ok(turn)
    }

    /// Takes the turn if nobody has it.
    pub(crate) fn try_take(self: &Arc<Self>, id: &PersonId) -> Option<Turn> {
        let lock = Arc::clone(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(id.clone())
                .or_default(),
        );
        let mut turn = Turn {
            turns: Arc::clone(self),
            id: id.clone(),
            guard: None,
        };
        turn.guard = lock.try_lock_owned().ok();
        turn.guard.is_some().then_some(turn)
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
    ) -> Result<Turn, PeopleError> {
        Handle::current().block_on(self.take(id, deadline))
    }
}

impl Turn {
    /// Whose it is.
    pub fn id(&self) -> &PersonId {
        &self.id
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut turns = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits holds it, too.
        if turns
            .get(&self.id)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            turns.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_at_a_time_has_a_turn_and_nothing_is_left_of_it() {
        let turns = Arc::new(Turns::default());
        let id: PersonId = "s6".parse().unwrap();
        let soon = || Instant::now() + Duration::from_millis(50);
        let first = turns.take(&id, soon()).await.unwrap();
        assert!(
            turns.take(&"s7".parse().unwrap(), soon()).await.is_ok(),
            "others are not in the way"
        );
        assert!(matches!(
            turns.take(&id, soon()).await,
            Err(PeopleError::Busy)
        ));
        assert!(turns.try_take(&id).is_none() && turns.try_take(&"s8".parse().unwrap()).is_some());
        let waiting = tokio::spawn({
            let (turns, id) = (Arc::clone(&turns), id.clone());
            async move {
                turns
                    .take(&id, Instant::now() + Duration::from_secs(5))
                    .await
                    .is_ok()
            }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.unwrap());
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
