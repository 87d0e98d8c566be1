//! Templates that a store keeps, so that a later start need not make them again.

mod file;

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use rostro_common::digest::Sha256Digest;
use rostro_common::ids::PersonId;

use crate::store::SharedChange;

pub use file::{TEMPLATES, remove_templates};
pub(crate) use file::{TemplateFile, no_templates};

/// Size of an entry in bytes, without its templates.
pub(crate) const ENTRY_HEADER: usize = 32 + 4 + 4;

/// Templates of one view by the digest of the samples that they were made of. They are none if they
/// are larger than the store's bound.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptTemplates {
    by_samples: HashMap<Sha256Digest, Vec<Vec<f32>>>,
    /// People with templates that no store has yet, with the digest of their samples; none for those
    /// without samples of the contract.
    made: Vec<(PersonId, Option<Sha256Digest>)>,
    /// Size of the entries, including those that were too many.
    bytes: usize,
    max_bytes: usize,
    /// Later changes of people may be missing.
    as_of: SharedChange,
}

impl KeptTemplates {
    /// Creates an empty set of at most `max_bytes`, of people as a change left them.
    #[must_use]
    pub fn new(max_bytes: usize, as_of: SharedChange) -> Self {
        Self {
            by_samples: HashMap::new(),
            made: Vec::new(),
            bytes: 0,
            max_bytes,
            as_of,
        }
    }

    /// Creates an empty set of the same bound and change.
    #[must_use]
    pub fn successor(&self) -> Self {
        Self::new(self.max_bytes, self.as_of.clone())
    }

    /// Returns the digest of samples, which are N embeddings of any length.
    #[must_use]
    pub fn digest(samples: &[Vec<f32>]) -> Sha256Digest {
        let mut hasher = Sha256::new();
        for sample in samples {
            hasher.update((sample.len() as u64).to_le_bytes());
            let bytes: Vec<u8> = sample.iter().flat_map(|n| n.to_le_bytes()).collect();
            hasher.update(bytes);
        }
        Sha256Digest(hasher.finalize().into())
    }

    /// Returns the templates that were made of samples with this digest.
    #[must_use]
    pub fn get(&self, samples: &Sha256Digest) -> Option<&Vec<Vec<f32>>> {
        self.by_samples.get(samples)
    }

    /// Removes and returns the templates that were made of samples with this digest.
    pub fn take(&mut self, samples: &Sha256Digest) -> Option<Vec<Vec<f32>>> {
        self.by_samples.remove(samples)
    }

    /// Returns true if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_samples.is_empty()
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_samples.len()
    }

    /// Returns the size of the entries in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the change after which the people were read.
    #[must_use]
    pub fn as_of(&self) -> &SharedChange {
        &self.as_of
    }

    /// Returns all entries: the digest of the samples, and their templates.
    pub fn iter(&self) -> impl Iterator<Item = (&Sha256Digest, &[Vec<f32>])> {
        let entries = self.by_samples.iter();
        entries.map(|(samples, templates)| (samples, templates.as_slice()))
    }

    /// Returns the people with templates that no store has yet, and the templates, which may be none.
    pub fn made(&self) -> impl Iterator<Item = (&PersonId, &[Vec<f32>])> {
        self.made.iter().filter_map(|(person, samples)| {
            let templates = match samples {
                Some(samples) => self.by_samples.get(samples)?,
                None => return Some((person, &[][..])),
            };
            Some((person, templates.as_slice()))
        })
    }

    /// Adds a person without samples of the contract.
    pub fn insert_without(&mut self, person: PersonId) {
        self.made.push((person, None));
    }

    /// Adds templates that the store has, by the digest of their samples.
    pub fn insert(&mut self, samples: Sha256Digest, templates: Vec<Vec<f32>>) {
        let numbers: usize = templates.iter().map(Vec::len).sum();
        self.bytes += ENTRY_HEADER + numbers * size_of::<f32>();
        if self.bytes > self.max_bytes {
            self.by_samples = HashMap::new();
            self.made = Vec::new();
        } else {
            self.by_samples.insert(samples, templates);
        }
    }

    /// Adds templates that were made of a person's samples.
    pub fn insert_made(
        &mut self,
        person: PersonId,
        samples: Sha256Digest,
        templates: Vec<Vec<f32>>,
    ) {
        self.insert(samples, templates);
        if self.by_samples.contains_key(&samples) {
            self.made.push((person, Some(samples)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_depends_on_grouping() {
        let digest = |samples: &[&[f32]]| {
            let samples: Vec<Vec<f32>> = samples.iter().map(|sample| sample.to_vec()).collect();
            KeptTemplates::digest(&samples)
        };
        assert_ne!(digest(&[&[1.0, 2.0]]), digest(&[&[1.0], &[2.0]]));
        assert_ne!(digest(&[&[1.0, 2.0]]), digest(&[&[2.0, 1.0]]));
    }

    /// Above the bound all are dropped, because a part of them would not be worth its memory.
    #[test]
    fn templates_above_bound_are_dropped() {
        let mut templates = KeptTemplates::new(100, SharedChange::default());
        let sample = |number: u8| Sha256Digest::of(&[number]);
        templates.insert_made("a".parse().unwrap(), sample(1), vec![vec![1.0]]);
        templates.insert(sample(2), vec![vec![1.0]]);
        assert_eq!((templates.len(), templates.made().count()), (2, 1));
        templates.insert_made("b".parse().unwrap(), sample(3), vec![vec![1.0]]);
        assert_eq!((templates.len(), templates.made().count()), (0, 0));
        assert!(templates.successor().is_empty());
    }
}
