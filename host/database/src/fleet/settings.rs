//! Settings that change answers, and their comparison with those of other nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use rostro_common::digest::Sha256Digest;

/// Prefix of the keys of a pipeline's own settings. A missing one has the pipeline's default.
pub const PIPELINE_SETTING: &str = "setting.";

/// Key of the length of a lease, which must be equal on all nodes.
pub const LEASE: &str = "lease";

/// Bytes above which a value is represented by its digest.
const MAX_VALUE: usize = 64;

/// Settings of a node that change answers, by key. Clones share the values, because a reload changes
/// some.
#[derive(Clone, Debug, Default)]
pub struct NodeSettings(Arc<Mutex<BTreeMap<String, String>>>);

impl NodeSettings {
    /// Creates settings from their values.
    pub fn new(values: impl IntoIterator<Item = (String, String)>) -> Self {
        let settings = Self::default();
        for (key, value) in values {
            settings.set(&key, &value);
        }
        settings
    }

    /// Sets a value. The next renewal of the lease writes it.
    pub fn set(&self, key: &str, value: &str) {
        let value = match value.len() > MAX_VALUE {
            true => format!("sha256:{}", Sha256Digest::of(value.as_bytes()).short()),
            false => value.to_owned(),
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.to_owned(), value);
    }

    /// Returns the values.
    pub fn values(&self) -> BTreeMap<String, String> {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.clone()
    }
}

/// A setting with different values on two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub key: String,
    pub here: Option<String>,
    pub there: Option<String>,
}

/// Compares the settings of two nodes. A key that one program does not know is not compared, except
/// those of the pipeline's own settings.
pub(super) fn compare(
    here: &BTreeMap<String, String>,
    there: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let keys: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    keys.into_iter()
        .map(|key| Difference {
            key: key.clone(),
            here: here.get(key).cloned(),
            there: there.get(key).cloned(),
        })
        .filter(|difference| {
            let is_known = difference.here.is_some() && difference.there.is_some();
            difference.here != difference.there
                && (is_known || difference.key.starts_with(PIPELINE_SETTING))
        })
        .collect()
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [here, there] = [&self.here, &self.there]
            .map(|value| value.as_deref().unwrap_or("the pipeline's default"));
        write!(f, "{} ({here}, there {there})", self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        NodeSettings::new(pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
            .values()
    }

    #[test]
    fn differences_name_both_values() {
        let here = settings(&[("pack", "mobile"), ("review", "off"), ("setting.a", "1")]);
        let there = settings(&[("pack", "mobile"), ("review", "strict")]);
        let differences = compare(&here, &there);
        let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "review (off, there strict)",
                "setting.a (1, there the pipeline's default)"
            ]
        );
    }

    /// Nodes of two versions serve together.
    #[test]
    fn unknown_keys_are_not_compared() {
        assert!(
            compare(
                &settings(&[("pack", "a"), ("new", "1")]),
                &settings(&[("pack", "a")])
            )
            .is_empty()
        );
    }

    #[test]
    fn long_values_become_digests() {
        let long = "a".repeat(65);
        let one = settings(&[("setting.a", &long)]);
        assert_eq!(one["setting.a"].len(), "sha256:".len() + 12);
        assert_ne!(one, settings(&[("setting.a", &"b".repeat(65))]));
        assert_eq!(settings(&[("a", &"a".repeat(64))])["a"].len(), 64);
    }
}
