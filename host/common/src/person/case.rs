//! Ids that differ only in upper and lower case: a new one is refused, because callers confuse them
//! and some file systems cannot keep both.

use std::collections::{BTreeSet, HashMap};

use super::PersonId;

/// Stored ids by their case keys.
#[derive(Debug, Default)]
pub struct CaseKeys(HashMap<String, BTreeSet<PersonId>>);

impl CaseKeys {
    /// Records an id that is stored. Returns true if it is new.
    pub fn insert(&mut self, id: &PersonId) -> bool {
        self.0.entry(id.case_key()).or_default().insert(id.clone())
    }

    /// Removes an id that is no longer stored.
    pub fn remove(&mut self, id: &PersonId) {
        let key = id.case_key();
        if let Some(ids) = self.0.get_mut(&key) {
            ids.remove(id);
            if ids.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// Returns true if an id is new and differs only in case from one that is stored. Pairs that
    /// are stored stay.
    pub fn is_taken(&self, id: &PersonId) -> bool {
        self.0
            .get(&id.case_key())
            .is_some_and(|ids| !ids.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_id_of_other_case_is_taken() {
        let id = |text: &str| text.parse::<PersonId>().unwrap();
        let mut keys = CaseKeys::default();
        assert!(!keys.is_taken(&id("Anna")));
        keys.insert(&id("Anna"));
        assert!(
            keys.is_taken(&id("ANNA")) && !keys.is_taken(&id("Anna")) && !keys.is_taken(&id("Ana"))
        );
        keys.insert(&id("anna"));
        assert!(!keys.is_taken(&id("anna")) && keys.is_taken(&id("aNNa")));
        keys.remove(&id("Anna"));
        keys.remove(&id("nobody"));
        assert!(keys.is_taken(&id("Anna")));
        keys.remove(&id("anna"));
        assert!(!keys.is_taken(&id("Anna")) && keys.0.is_empty());
    }
}
