//! Who must be there: what the load knows of each person by what it was answered.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// People that the load enrols and deletes.
pub(super) const PEOPLE: usize = 200;

/// What is known of a person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// A bit for each photo of their face that is enrolled; nobody is there without one.
    pub(super) photos: u8,
    /// A bit for each group that they are in.
    pub(super) groups: u8,
    /// Something went wrong, which was told then; what the service made of it is not known.
    pub(super) doubtful: bool,
    busy: bool,
    since: Instant,
}

/// Everybody.
#[derive(Debug)]
pub(super) struct People(Mutex<Vec<Known>>);

/// The right to change one person, so that what is answered is what was done; it ends when it is
/// dropped.
#[derive(Debug)]
pub(super) struct Claim<'p> {
    people: &'p People,
    pub(super) index: usize,
    pub(super) known: Known,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.people.locked().get_mut(self.index) {
            *known = Known {
                busy: false,
                since: Instant::now(),
                ..self.known
            };
        }
    }
}

impl People {
    pub(super) fn new() -> Self {
        let nobody = Known {
            photos: 0,
            groups: 0,
            doubtful: false,
            busy: false,
            since: Instant::now(),
        };
        Self(Mutex::new(vec![nobody; PEOPLE]))
    }

    /// Claims a person whom nobody else changes: the first from `from` on, and if `there`, one who
    /// is enrolled.
    pub(super) fn claim(&self, from: usize, there: bool) -> Option<Claim<'_>> {
        let mut people = self.locked();
        let index = (0..PEOPLE)
            .map(|more| (from + more) % PEOPLE)
            .find(|&index| {
                people.get(index).is_some_and(|known| {
                    !known.busy && !known.doubtful && (known.photos > 0 || !there)
                })
            })?;
        let known = people.get_mut(index)?;
        known.busy = true;
        Some(Claim {
            people: self,
            index,
            known: *known,
        })
    }

    /// Whether a person was not there, or not in the group, at any moment since then.
    pub(super) fn is_out_since(&self, index: usize, group: Option<usize>, then: Instant) -> bool {
        self.locked().get(index).is_some_and(|known| {
            let is_in =
                known.photos > 0 && group.is_none_or(|group| known.groups & 1 << group != 0);
            !is_in && !known.busy && !known.doubtful && known.since < then
        })
    }

    /// Everybody, with what is known of them.
    pub(super) fn all(&self) -> Vec<Known> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A person's id.
pub(super) fn id(index: usize) -> String {
    format!("soak-{index:03}")
}

/// The person of an id; none if it is not one of these.
pub(super) fn index(id: &str) -> Option<usize> {
    id.strip_prefix("soak-")?.parse().ok()
}
