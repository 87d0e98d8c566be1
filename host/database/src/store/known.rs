//! The people that this node may have in its views, by the surrogate key that a deletion names.

use std::collections::{HashMap, HashSet};

use rostro_common::ids::PersonId;

/// Ids by surrogate key. Each person who gets into a view is in it before.
#[derive(Debug, Default)]
pub(super) struct KnownPeople {
    ids: HashMap<i64, PersonId>,
    /// Number of loads that run now. They see an earlier state than the feed.
    loads: usize,
    /// Keys of unknown people who were deleted during a load.
    deleted_during_loads: HashSet<i64>,
    /// Number of comparisons with all stored people.
    comparisons: u64,
}

/// A load of all people that runs.
#[derive(Debug)]
pub(super) struct RunningLoad {
    comparisons: u64,
}

impl KnownPeople {
    pub(super) fn insert(&mut self, person: i64, id: PersonId) {
        self.ids.insert(person, id);
    }

    pub(super) fn extend(&mut self, people: impl IntoIterator<Item = (i64, PersonId)>) {
        self.ids.extend(people);
    }

    /// Returns a person's surrogate key, the latest one if there are several.
    pub(super) fn key_of(&self, id: &PersonId) -> Option<i64> {
        let people = self.ids.iter().filter(|(_, known)| *known == id);
        people.map(|(person, _)| *person).max()
    }

    /// Returns a person who is deleted; none if no view has them.
    pub(super) fn deleted(&mut self, person: i64) -> Option<PersonId> {
        let id = self.ids.get(&person).cloned();
        if id.is_none() && self.loads > 0 {
            self.deleted_during_loads.insert(person);
        }
        id
    }

    /// Forgets people after their deletion is applied.
    pub(super) fn forget(&mut self, people: Vec<i64>) {
        for person in people {
            self.ids.remove(&person);
        }
    }

    /// Returns the known people who are not stored.
    pub(super) fn missing_in(
        &mut self,
        stored: &HashMap<i64, PersonId>,
    ) -> impl Iterator<Item = (i64, &PersonId)> {
        self.comparisons += 1;
        self.ids
            .iter()
            .filter(|(person, _)| !stored.contains_key(person))
            .map(|(person, id)| (*person, id))
    }

    pub(super) fn begin_load(&mut self) -> RunningLoad {
        self.loads += 1;
        RunningLoad {
            comparisons: self.comparisons,
        }
    }

    /// Ends a load that read these people. Returns those who were deleted meanwhile, or none if the
    /// load must be repeated, because it cannot be known.
    pub(super) fn end_load(
        &mut self,
        load: RunningLoad,
        people: HashMap<i64, PersonId>,
    ) -> Option<HashSet<PersonId>> {
        self.loads -= 1;
        let is_usable = load.comparisons == self.comparisons;
        let mut deleted = HashSet::new();
        if is_usable {
            for (person, id) in people {
                if self.deleted_during_loads.contains(&person) {
                    deleted.insert(id);
                } else {
                    self.ids.insert(person, id);
                }
            }
        }
        if self.loads == 0 {
            self.deleted_during_loads.clear();
        }
        is_usable.then_some(deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> PersonId {
        name.parse().unwrap()
    }

    fn people() -> HashMap<i64, PersonId> {
        HashMap::from([(1, id("alice")), (2, id("bob"))])
    }

    /// A deletion that a load does not see, of a person that only the load sees.
    #[test]
    fn deletion_during_load_counts() {
        let mut known = KnownPeople::default();
        let load = known.begin_load();
        assert_eq!(known.deleted(2), None);
        let deleted = known.end_load(load, people()).unwrap();
        assert_eq!(deleted, HashSet::from([id("bob")]));
        assert_eq!(known.deleted(1), Some(id("alice")));
        assert_eq!(known.deleted(2), None);
    }

    #[test]
    fn comparison_during_load_repeats_it() {
        let mut known = KnownPeople::default();
        let load = known.begin_load();
        assert_eq!(known.missing_in(&HashMap::new()).count(), 0);
        assert!(known.end_load(load, people()).is_none());
        let load = known.begin_load();
        assert!(known.end_load(load, people()).unwrap().is_empty());
        assert_eq!(known.missing_in(&HashMap::new()).count(), 2);
    }
}
