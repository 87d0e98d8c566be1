//! Detection of ids that differ only in case. A new one is refused, because callers confuse them
//! and some file systems cannot store both.

use std::collections::{BTreeSet, HashMap};

use super::PersonId;

/// Stored ids by their [case keys](PersonId::case_key).
#[derive(Debug, Default)]
pub struct CaseKeys(HashMap<String, BTreeSet<PersonId>>);

impl CaseKeys {
    /// Adds a stored id. Returns true if it is new.
    pub fn insert(&mut self, id: &PersonId) -> bool {
        self.0.entry(id.case_key()).or_default().insert(id.clone())
    }

    /// Removes a deleted id.
    pub fn remove(&mut self, id: &PersonId) {
        let key = id.case_key();
        if let Some(ids) = self.0.get_mut(&key) {
            ids.remove(id);
            if ids.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// Returns true if an id is new and differs only in case from a stored one. An id that is
    /// stored itself is never taken.
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
    fn id_of_other_case_is_taken() {
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
        keys.remove(&id("missing"));
        assert!(keys.is_taken(&id("Anna")));
        keys.remove(&id("anna"));
        assert!(!keys.is_taken(&id("Anna")) && keys.0.is_empty());
    }
}
