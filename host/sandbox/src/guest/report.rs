//! Reports of a guest in addition to its answers: warnings for the caller, raw samples, and settings
//! that it refuses or asks for.
//!
//! Reports are untrusted. Every list and text has a bound, and texts are sanitised before they are
//! kept.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use utoipa::ToSchema;

use rostro_common::text::sanitize;

use crate::validate::identifiers::is_code;

/// Warnings that are kept of one call.
const WARNINGS: usize = 8;

/// Longest message of a warning, in characters.
const WARNING_MESSAGE: usize = 300;

/// Longest message about a refused setting, in characters.
const REFUSAL_MESSAGE: usize = 500;

/// Longest log line that is kept, in characters.
const LINE: usize = 500;

/// Longest key of a setting that is kept, in characters.
const KEY: usize = 120;

/// Keys that are kept of those that a guest asks for.
const KEYS: usize = 128;

/// Faces of which raw samples are kept: as many as an analysis may have.
const RAW_FACES: usize = 1024;

/// Numbers of all raw samples together: 16 MiB.
const RAW_NUMBERS: usize = 4 << 20;

/// Something that the caller of a request should know although it succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Warning {
    /// For programs: stable, lower-case letters, digits and `_`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Severity of a guest's log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
}

/// Setting with a value that a guest cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedSetting {
    pub key: String,
    /// Reason in the guest's words.
    pub message: String,
}

/// Raw samples by the index of their face.
pub(crate) type RawSamples = BTreeMap<u32, Vec<f32>>;

/// Collects the reports of one guest, call by call.
#[derive(Debug, Default)]
pub(crate) struct GuestReport {
    warnings: Vec<Warning>,
    refused: Option<RefusedSetting>,
    requested: BTreeSet<String>,
    is_requested_truncated: bool,
    /// Last log line of the level `warn`.
    last_warning: String,
    /// Whether the call enrols, because only enrolment uses raw samples.
    keeps_raw: bool,
    raw: RawSamples,
    raw_numbers: usize,
    is_raw_too_large: bool,
}

impl GuestReport {
    /// Begins a call, and drops the reports of the previous one.
    pub(crate) fn begin(&mut self, keeps_raw: bool) {
        *self = Self {
            keeps_raw,
            ..Self::default()
        };
    }

    /// Adds a warning, unless its code is invalid, it is a duplicate, or the list is full.
    pub(crate) fn add_warning(&mut self, code: String, message: &str) {
        if self.warnings.len() >= WARNINGS || !is_code(&code) {
            return;
        }
        let warning = Warning {
            code,
            message: truncate(message, WARNING_MESSAGE),
        };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Keeps the beginning of a log line, which may explain a failure of the call.
    pub(crate) fn set_last_warning(&mut self, line: &str) {
        self.last_warning = truncate(line, LINE);
    }

    /// Returns the last log line of the level `warn`.
    pub(crate) fn last_warning(&self) -> &str {
        &self.last_warning
    }

    /// Keeps the first refused setting of a call.
    pub(crate) fn refuse_setting(&mut self, key: &str, message: &str) {
        if self.refused.is_none() {
            self.refused = Some(RefusedSetting {
                key: truncate(key, KEY),
                message: truncate(message, REFUSAL_MESSAGE),
            });
        }
    }

    /// Adds the key of a requested setting.
    pub(crate) fn add_requested(&mut self, key: &str) {
        // Keys of operators are shorter.
        if key.len() > KEY || self.requested.contains(key) {
            return;
        }
        match self.requested.len() < KEYS {
            true => drop(self.requested.insert(key.to_owned())),
            false => self.is_requested_truncated = true,
        }
    }

    /// Adds a raw sample, within bounds. [`Self::take_raw`] reports exceeded bounds.
    pub(crate) fn add_raw_sample(&mut self, face: u32, embedding: Vec<f32>) {
        if !self.keeps_raw {
            return;
        }
        let replaced = self.raw.get(&face).map(Vec::len);
        let numbers = self.raw_numbers - replaced.unwrap_or(0) + embedding.len();
        if numbers > RAW_NUMBERS || (replaced.is_none() && self.raw.len() >= RAW_FACES) {
            self.is_raw_too_large = true;
            return;
        }
        self.raw_numbers = numbers;
        self.raw.insert(face, embedding);
    }

    /// Takes the warnings of the call.
    pub(crate) fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// Takes the raw samples of the call. Returns `None` if they exceeded the bounds.
    pub(crate) fn take_raw(&mut self) -> Option<RawSamples> {
        let raw = std::mem::take(&mut self.raw);
        self.raw_numbers = 0;
        (!self.is_raw_too_large).then_some(raw)
    }

    /// Returns the setting that the call refused.
    pub(crate) fn refused(&self) -> Option<&RefusedSetting> {
        self.refused.as_ref()
    }

    /// Returns the keys that the call asked for.
    pub(crate) fn requested(&self) -> &BTreeSet<String> {
        &self.requested
    }

    /// Returns true if the call asked for more keys than are kept.
    pub(crate) fn is_requested_truncated(&self) -> bool {
        self.is_requested_truncated
    }
}

/// Returns a guest's text on one line, truncated to a number of characters.
fn truncate(text: &str, limit: usize) -> String {
    sanitize(&text.chars().take(limit).collect::<String>())
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_bounded_and_sanitised() {
        let mut report = GuestReport::default();
        report.add_warning("Not a code".to_owned(), "ignored");
        report.add_warning(
            "cut_off".to_owned(),
            &format!("a\x1b[31m\n{}", "m".repeat(10_000)),
        );
        report.add_warning(
            "cut_off".to_owned(),
            &format!("a\x1b[31m\n{}", "m".repeat(10_000)),
        );
        let warnings = report.take_warnings();
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].message.starts_with("a [31m mm")
                && warnings[0].message.chars().count() == WARNING_MESSAGE
        );
        (0..1000).for_each(|index| report.add_warning(format!("code_{index}"), "w"));
        assert_eq!(report.take_warnings().len(), WARNINGS);
        assert!(report.take_warnings().is_empty());
    }

    #[test]
    fn raw_samples_beyond_bounds_are_refused() {
        let mut report = GuestReport::default();
        report.add_raw_sample(0, vec![1.0]);
        assert_eq!(
            report.take_raw(),
            Some(RawSamples::new()),
            "not an enrolment"
        );
        report.begin(true);
        report.add_raw_sample(3, vec![1.0]);
        report.add_raw_sample(3, vec![2.0, 3.0]);
        assert_eq!(
            report.take_raw(),
            Some(RawSamples::from([(3, vec![2.0, 3.0])]))
        );
        report.begin(true);
        report.add_raw_sample(0, vec![0.0; RAW_NUMBERS]);
        report.add_raw_sample(0, vec![0.0; RAW_NUMBERS]);
        report.add_raw_sample(1, vec![0.0]);
        assert_eq!(report.take_raw(), None);
        report.begin(true);
        (0..=1024).for_each(|face| report.add_raw_sample(face, vec![0.0]));
        assert_eq!(report.take_raw(), None);
    }

    #[test]
    fn refusal_and_keys_last_one_call() {
        let mut report = GuestReport::default();
        report.refuse_setting("roi", "it must be\na box");
        report.refuse_setting("other", "later");
        assert_eq!(
            report.refused(),
            Some(&RefusedSetting {
                key: "roi".to_owned(),
                message: "it must be a box".to_owned()
            })
        );
        (0..1000).for_each(|index| report.add_requested(&format!("key-{index}")));
        report.add_requested(&"k".repeat(1000));
        assert_eq!(report.requested().len(), KEYS);
        report.begin(false);
        assert_eq!((report.refused(), report.requested().len()), (None, 0));
    }
}
