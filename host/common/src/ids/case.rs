//! Detection of ids that differ only in case. A new one is refused, because callers confuse them
//! and some file systems cannot store both.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::PersonId;

/// Stored ids by their [case keys](PersonId::case_key).
#[derive(Debug, Default)]
pub struct CaseKeys(HashMap<Box<str>, StoredIds>);

/// Stored ids with one case key. All but a few keys have one id, which takes no memory of its own.
#[derive(Debug)]
enum StoredIds {
    One(PersonId),
    Several(Box<[PersonId]>),
}

impl CaseKeys {
    /// Adds a stored id. Returns true if it is new.
    pub fn insert(&mut self, id: &PersonId) -> bool {
        match self.0.entry(id.case_key().into()) {
            Entry::Vacant(entry) => {
                entry.insert(StoredIds::One(id.clone()));
                true
            }
            Entry::Occupied(mut entry) => {
                let ids = entry.get_mut();
                let is_new = !ids.as_slice().contains(id);
                if is_new {
                    let all = [ids.as_slice(), std::slice::from_ref(id)].concat();
                    *ids = StoredIds::Several(all.into());
                }
                is_new
            }
        }
    }

    /// Removes a deleted id.
    pub fn remove(&mut self, id: &PersonId) {
        let key = id.case_key();
        let Some(ids) = self.0.get_mut(key.as_str()) else {
            return;
        };
        let mut others = ids.as_slice().to_vec();
        others.retain(|stored| stored != id);
        if others.is_empty() {
            self.0.remove(key.as_str());
        } else {
            *ids = StoredIds::Several(others.into());
        }
    }

    /// Returns true if an id is new and differs only in case from a stored one. An id that is
    /// stored itself is never taken.
    pub fn is_taken(&self, id: &PersonId) -> bool {
        self.0
            .get(id.case_key().as_str())
            .is_some_and(|ids| !ids.as_slice().contains(id))
    }
}

impl StoredIds {
    fn as_slice(&self) -> &[PersonId] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Several(ids) => ids,
        }
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
