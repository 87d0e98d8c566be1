//! Members of every group, in memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{GroupId, PersonId};

/// Members of a group.
pub type Members = Arc<HashSet<PersonId>>;

/// All groups with their members. Reads take no lock; the store serialises changes.
#[derive(Debug, Default)]
pub struct GroupIndex(ArcSwap<BTreeMap<GroupId, Members>>);

impl GroupIndex {
    /// Creates an index of these groups.
    pub fn new(groups: BTreeMap<GroupId, Members>) -> Self {
        Self(ArcSwap::from_pointee(groups))
    }

    /// Returns true if any group exists.
    pub fn are_in_use(&self) -> bool {
        self.count() > 0
    }

    /// Returns the number of groups.
    pub fn count(&self) -> usize {
        self.0.load().len()
    }

    /// Returns the members of a group; none if it does not exist.
    pub fn members(&self, group: &GroupId) -> Option<Members> {
        self.0.load().get(group).cloned()
    }

    /// Returns every group with the number of its members.
    pub fn list(&self) -> Vec<(GroupId, usize)> {
        self.0
            .load()
            .iter()
            .map(|(group, members)| (group.clone(), members.len()))
            .collect()
    }

    /// Returns the groups of a person.
    pub fn groups_of(&self, id: &PersonId) -> Vec<GroupId> {
        self.0
            .load()
            .iter()
            .filter(|(_, members)| members.contains(id))
            .map(|(group, _)| group.clone())
            .collect()
    }

    /// Replaces all groups.
    pub fn replace(&self, groups: BTreeMap<GroupId, Members>) {
        self.0.store(Arc::new(groups));
    }

    /// Sets the members of a group.
    pub fn set(&self, group: &GroupId, members: HashSet<PersonId>) {
        self.change(|groups| drop(groups.insert(group.clone(), Arc::new(members))));
    }

    /// Removes a group.
    pub fn remove(&self, group: &GroupId) {
        self.change(|groups| drop(groups.remove(group)));
    }

    /// Removes a person from groups.
    pub fn remove_member<'g>(&self, from: impl IntoIterator<Item = &'g GroupId>, id: &PersonId) {
        self.change(|groups| {
            for group in from {
                if let Some(members) = groups.get_mut(group) {
                    Arc::make_mut(members).remove(id);
                }
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<GroupId, Members>)) {
        let mut groups = BTreeMap::clone(&self.0.load());
        change(&mut groups);
        self.0.store(Arc::new(groups));
    }
}
