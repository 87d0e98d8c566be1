//! Positions of each person's rows.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use rostro_common::ids::PersonId;

use crate::rows::Rows;

/// Number of rows that an index can have.
pub(super) const MAX_ROWS: usize = u32::MAX as usize;

/// The rows of each person, and the free ones.
///
/// An entry is the number of a row, found by the hash of the owner's id, which only the row has. A
/// map of ids would take 90 bytes a person instead of 10, a seventh of a template in 8 bits.
/// Callers pass the rows as they were when the entries were made.
#[derive(Debug, Default)]
pub(super) struct RowPositions {
    /// Numbers of the filled rows. A person with several templates has several entries.
    by_owner: HashTable<u32>,
    /// Random, so that no choice of ids makes their hashes collide.
    hasher: RandomState,
    /// Number of people with rows.
    people: usize,
    /// Free rows.
    holes: Vec<usize>,
}

impl RowPositions {
    /// Returns the number of people with rows.
    pub(super) fn people(&self) -> usize {
        self.people
    }

    /// Returns the rows of a person, in no order.
    pub(super) fn of(&self, id: &PersonId, rows: &Rows) -> Vec<usize> {
        self.by_owner
            .iter_hash(self.hasher.hash_one(id))
            .map(|&row| row as usize)
            .filter(|&row| rows.owner(row) == Some(id))
            .collect()
    }

    /// Returns true if a person has rows.
    pub(super) fn contains(&self, id: &PersonId, rows: &Rows) -> bool {
        self.by_owner
            .find(self.hasher.hash_one(id), |&row| {
                rows.owner(row as usize) == Some(id)
            })
            .is_some()
    }

    /// Returns the ids of all people with rows, in no order.
    pub(super) fn ids(&self, rows: &Rows) -> Vec<PersonId> {
        let mut ids: Vec<PersonId> = self
            .by_owner
            .iter()
            .filter_map(|&row| rows.owner(row as usize).cloned())
            .collect();
        if ids.len() > self.people {
            ids.sort_unstable();
            ids.dedup();
        }
        ids
    }

    /// Takes all rows from a person. They are free from now on.
    pub(super) fn release(&mut self, id: &PersonId, freed: &[usize]) {
        let hash = self.hasher.hash_one(id);
        for &freed in freed {
            if let Ok(entry) = self.by_owner.find_entry(hash, |&row| row as usize == freed) {
                entry.remove();
            }
        }
        self.holes.extend(freed);
        self.people -= usize::from(!freed.is_empty());
    }

    /// Takes a free row.
    pub(super) fn take_hole(&mut self) -> Option<usize> {
        self.holes.pop()
    }

    /// Gives filled rows, numbered below [`MAX_ROWS`], to a person without rows.
    pub(super) fn assign(&mut self, id: &PersonId, assigned: &[usize], rows: &Rows) {
        let hash = self.hasher.hash_one(id);
        let hash_of = |&row: &u32| {
            rows.owner(row as usize)
                .map_or(0, |owner| self.hasher.hash_one(owner))
        };
        for &row in assigned {
            if let Ok(row) = u32::try_from(row) {
                self.by_owner.insert_unique(hash, row, hash_of);
            }
        }
        self.people += usize::from(!assigned.is_empty());
    }
}
