//! Names of the settings that a pipeline knows, collected while it describes itself, and settings
//! of the operator that it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use rostro_common::text::sanitize_name;

/// Lowest similarity of a suggested key, 0 to 1.
const SUGGESTED: f64 = 0.5;

/// Settings that a message lists at most.
const LISTED: usize = 20;

/// Names of the settings that a pipeline knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingNames {
    names: BTreeSet<String>,
    /// Whether these are all. A component for an interface before 0.1.2 may ask for settings only
    /// after it described itself.
    is_complete: bool,
}

/// Setting of the operator that a pipeline does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownSetting {
    /// Key of the setting.
    pub key: String,
    /// Most similar known key, if any is similar enough.
    pub nearest: Option<String>,
}

/// Error of settings that a pipeline does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct UnknownSettings {
    unknown: Vec<UnknownSetting>,
    known: BTreeSet<String>,
}

impl SettingNames {
    /// Returns a complete and empty set, to which halves are added.
    pub fn empty() -> Self {
        Self {
            names: BTreeSet::new(),
            is_complete: true,
        }
    }

    /// Returns the keys that a half asked for. `is_complete` says that it knows no others.
    pub(crate) fn new(names: BTreeSet<String>, is_complete: bool) -> Self {
        Self { names, is_complete }
    }

    /// Adds the settings of another half.
    pub fn extend(&mut self, other: Self) {
        self.names.extend(other.names);
        self.is_complete &= other.is_complete;
    }

    /// Returns the known keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Returns the operator's unknown settings. Returns none if the known names are incomplete.
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

    /// Fails if the operator has unknown settings.
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
        // Upper case and `_` for `-` are common mistakes.
        let plain = |key: &str| key.to_lowercase().replace('_', "-");
        let similarity =
            |name: &&String| strsim::normalized_damerau_levenshtein(&plain(key), &plain(name));
        self.names
            .iter()
            .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
            .filter(|name| similarity(name) >= SUGGESTED)
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
            format_unknown(&self.unknown),
            format_names(self.known.iter().map(String::as_str))
        )
    }
}

/// Formats unknown settings: `setting `rio` (did you mean `roi`?)`.
pub fn format_unknown(unknown: &[UnknownSetting]) -> String {
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

/// Formats the keys of settings.
pub fn format_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
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
        SettingNames::new(names.iter().map(|name| (*name).to_owned()).collect(), true)
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
            "the pipeline does not know the settings `rio` (did you mean `roi`?), `x [31m`; it \
             knows `detector-size`, `letterbox`, `rivals`, `roi`"
        );
    }

    /// A half for an earlier interface may know settings that it does not ask for in `describe`.
    #[test]
    fn incomplete_half_refuses_no_setting() {
        let mut known = names(&["roi"]);
        known.extend(SettingNames::new(BTreeSet::new(), false));
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
