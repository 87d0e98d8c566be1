//! Which settings a pipeline knows, as it showed by asking for them while it described itself, and
//! which of the operator's it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use rostro_common::text::sanitize_name;

/// How alike two keys must be for one to be suggested for the other, 0 to 1.
const ALIKE: f64 = 0.5;

/// Known settings that are listed in a message.
const LISTED: usize = 20;

/// The settings that a pipeline knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingNames {
    names: BTreeSet<String>,
    /// Whether these are all: a component for an interface before 0.1.2 need not ask for its
    /// settings while it describes itself.
    is_complete: bool,
}

/// A setting of the operator's that a pipeline does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownSetting {
    /// Its key.
    pub key: String,
    /// The known setting whose key is most like it, if any is alike.
    pub nearest: Option<String>,
}

/// Why a configured pipeline does not serve: settings that it does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct UnknownSettings {
    unknown: Vec<UnknownSetting>,
    known: BTreeSet<String>,
}

impl SettingNames {
    /// No settings, all of them known: what halves are added to.
    pub fn none() -> Self {
        Self {
            names: BTreeSet::new(),
            is_complete: true,
        }
    }

    /// Adds the keys that a half asked for, which are all that it knows if `is_complete`.
    pub(crate) fn add(&mut self, asked: BTreeSet<String>, is_complete: bool) {
        self.names.extend(asked);
        self.is_complete &= is_complete;
    }

    /// The known keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The operator's settings that are not known; none if it cannot be known which are.
    pub fn unknown(&self, own: &BTreeMap<String, String>) -> Vec<UnknownSetting> {
        if !self.is_complete {
            return Vec::new();
        }
        let unknown = own.keys().filter(|key| !self.names.contains(*key));
        unknown
            .map(|key| UnknownSetting {
                key: key.clone(),
                nearest: self.nearest(key),
            })
            .collect()
    }

    /// Fails if there are settings of the operator's that are not known.
    pub fn check(&self, own: &BTreeMap<String, String>) -> Result<(), UnknownSettings> {
        let unknown = self.unknown(own);
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(UnknownSettings {
                unknown,
                known: self.names.clone(),
            })
        }
    }

    fn nearest(&self, key: &str) -> Option<String> {
        // Upper case, and `_` for `-`, are mistakes that are easily made.
        let plain = |key: &str| key.to_lowercase().replace('_', "-");
        let likeness =
            |name: &&String| strsim::normalized_damerau_levenshtein(&plain(key), &plain(name));
        self.names
            .iter()
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
            .filter(|name| likeness(name) >= ALIKE)
            .cloned()
    }
}

impl fmt::Display for UnknownSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", sanitize_name(&self.key))?;
        match &self.nearest {
            Some(nearest) => write!(f, " (did you mean `{}`?)", sanitize_name(nearest)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for UnknownSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the pipeline does not know the {}; it knows {}",
            settings(&self.unknown),
            listed(self.known.iter().map(String::as_str))
        )
    }
}

/// Settings that are not known, in words: `setting `rio` (did you mean `roi`?)`.
pub fn settings(unknown: &[UnknownSetting]) -> String {
    let names: Vec<String> = unknown
        .iter()
        .take(LISTED)
        .map(ToString::to_string)
        .collect();
    format!(
        "{} {}",
        if unknown.len() == 1 {
            "setting"
        } else {
            "settings"
        },
        names.join(", ")
    )
}

/// The keys of settings in words.
pub fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names
        .take(LISTED)
        .map(|name| format!("`{}`", sanitize_name(name)))
        .collect();
    if names.is_empty() {
        "no settings".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> SettingNames {
        let mut known = SettingNames::none();
        known.add(names.iter().map(|name| (*name).to_owned()).collect(), true);
        known
    }

    fn own(keys: &[&str]) -> BTreeMap<String, String> {
        keys.iter()
            .map(|key| ((*key).to_owned(), "1".to_owned()))
            .collect()
    }

    #[test]
    fn unknown_setting_names_nearest() {
        let known = names(&["detector-size", "letterbox", "rivals", "roi"]);
        for (key, nearest) in [
            ("rio", Some("roi")),
            ("ROI", Some("roi")),
            ("leterbox", Some("letterbox")),
            ("detector_size", Some("detector-size")),
            ("detectorsize", Some("detector-size")),
            ("rival", Some("rivals")),
            ("quite-another", None),
        ] {
            let unknown = known.unknown(&own(&[key]));
            assert_eq!(
                unknown,
                [UnknownSetting {
                    key: key.to_owned(),
                    nearest: nearest.map(str::to_owned)
                }],
                "{key}"
            );
        }
        known.check(&own(&["roi", "rivals"])).unwrap();
        let error = known
            .check(&own(&["rio", "x\u{1b}[31m", "roi"]))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "the pipeline does not know the settings `rio` (did you mean `roi`?), `x [31m`; it knows `detector-size`, `letterbox`, `rivals`, `roi`"
        );
    }

    /// A half for an earlier interface may know settings that it does not ask for while it
    /// describes itself.
    #[test]
    fn incomplete_half_refuses_no_setting() {
        let mut known = names(&["roi"]);
        known.add(BTreeSet::new(), false);
        assert!(known.unknown(&own(&["rio"])).is_empty());
        assert!(
            names(&[])
                .check(&own(&["rio"]))
                .unwrap_err()
                .to_string()
                .ends_with("; it knows no settings")
        );
    }
}
