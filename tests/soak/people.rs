//! Expected state of the people that the load enrols, derived from the answers to its requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Number of people that the load enrols and deletes.
pub(crate) const PEOPLE: usize = 200;

/// Number of groups.
pub(crate) const GROUPS: usize = 4;

/// Expected state of a person.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// One bit for each enrolled photo. A person without photos does not exist.
    pub(crate) photos: u8,
    /// One bit for each group that the person belongs to.
    pub(crate) groups: u8,
    /// Set after a failed change, because the outcome is then unknown.
    pub(crate) is_unknown: bool,
    is_claimed: bool,
    since: Instant,
}

/// Expected state of all people.
#[derive(Debug)]
pub(crate) struct People(Mutex<Vec<Expected>>);

/// Exclusive right to change a person, so that the answers determine the state. Dropping it stores
/// the new state.
#[derive(Debug)]
pub(crate) struct Claim<'p> {
    people: &'p People,
    pub(crate) index: usize,
    pub(crate) expected: Expected,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(expected) = self.people.locked().get_mut(self.index) {
            *expected = Expected {
                is_claimed: false,
                since: Instant::now(),
                ..self.expected
            };
        }
    }
}

impl People {
    pub(crate) fn new() -> Self {
        let absent = Expected {
            photos: 0,
            groups: 0,
            is_unknown: false,
            is_claimed: false,
            since: Instant::now(),
        };
        Self(Mutex::new(vec![absent; PEOPLE]))
    }

    /// Claims the first unclaimed person from index `from` on; only an enrolled one if
    /// `must_be_enrolled`.
    pub(crate) fn claim(&self, from: usize, must_be_enrolled: bool) -> Option<Claim<'_>> {
        let mut people = self.locked();
        let is_eligible = |person: &Expected| {
            !person.is_claimed && !person.is_unknown && (person.photos > 0 || !must_be_enrolled)
        };
        let index = (from..from + PEOPLE)
            .map(|index| index % PEOPLE)
            .find(|&index| people.get(index).is_some_and(is_eligible))?;
        let expected = people.get_mut(index)?;
        expected.is_claimed = true;
        Some(Claim {
            people: self,
            index,
            expected: *expected,
        })
    }

    /// Returns true if a person was absent, or outside the group, at every moment since `then`.
    pub(crate) fn is_absent_since(
        &self,
        index: usize,
        group: Option<usize>,
        then: Instant,
    ) -> bool {
        self.locked().get(index).is_some_and(|person| {
            let is_member =
                person.photos > 0 && group.is_none_or(|group| person.groups & 1 << group != 0);
            !is_member && !person.is_claimed && !person.is_unknown && person.since < then
        })
    }

    /// Returns the expected state of all people.
    pub(crate) fn all(&self) -> Vec<Expected> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the id of a person.
pub(crate) fn id(index: usize) -> String {
    format!("soak-{index:03}")
}

/// Returns the person with an id, if the load uses it.
pub(crate) fn index(id: &str) -> Option<usize> {
    id.strip_prefix("soak-")?.parse().ok()
}

/// Returns the name of a group.
pub(crate) fn group(group: usize) -> String {
    format!("door-{group}")
}
