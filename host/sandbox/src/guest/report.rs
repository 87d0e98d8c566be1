//! What a guest reports to the host next to its answers: warnings for the caller, raw samples, and
//! settings that it refuses or asks for.
//!
//! All of it is untrusted: every list and text has a bound, and texts are sanitised before they are
//! kept.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use utoipa::ToSchema;

use rostro_common::text::sanitize;

use crate::validate::is_code;

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

/// A setting whose value a guest cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedSetting {
    pub key: String,
    /// What is wrong with the value.
    pub message: String,
}

/// Raw samples by the index of their face.
pub(crate) type RawSamples = BTreeMap<u32, Vec<f32>>;

/// Collects the reports of one guest, call by call.
#[derive(Debug, Default)]
pub(crate) struct GuestReport {
    warnings: Vec<Warning>,
    refused: Option<RefusedSetting>,
    asked: BTreeSet<String>,
    is_asked_cut: bool,
    /// The last log line of the level `warn`.
    last_warning: String,
    /// Whether this call enrols: only then raw samples are of use.
    keeps_raw: bool,
    raw: RawSamples,
    raw_numbers: usize,
    is_raw_too_large: bool,
}

impl GuestReport {
    /// Begins a call: what the call before it left is dropped.
    pub(crate) fn begin(&mut self, keeps_raw: bool) {
        *self = Self {
            keeps_raw,
            ..Self::default()
        };
    }

    /// Keeps a warning, unless its code is invalid, it is known, or there are too many.
    pub(crate) fn warn(&mut self, code: String, message: &str) {
        if self.warnings.len() >= WARNINGS || !is_code(&code) {
            return;
        }
        let warning = Warning {
            code,
            message: shortened(message, WARNING_MESSAGE),
        };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Keeps the beginning of a log line, which may say why the call fails.
    pub(crate) fn say(&mut self, line: &str) {
        self.last_warning = shortened(line, LINE);
    }

    /// The last line that was kept.
    pub(crate) fn last_warning(&self) -> &str {
        &self.last_warning
    }

    /// Keeps the first refused setting of a call.
    pub(crate) fn refuse(&mut self, key: &str, message: &str) {
        if self.refused.is_none() {
            self.refused = Some(RefusedSetting {
                key: shortened(key, KEY),
                message: shortened(message, REFUSAL_MESSAGE),
            });
        }
    }

    /// Records that a setting was asked for.
    pub(crate) fn ask(&mut self, key: &str) {
        // A longer key cannot be an operator's.
        if key.len() > KEY || self.asked.contains(key) {
            return;
        }
        match self.asked.len() < KEYS {
            true => drop(self.asked.insert(key.to_owned())),
            false => self.is_asked_cut = true,
        }
    }

    /// Keeps a raw sample, within bounds; [`Self::take_raw`] tells if they were broken.
    pub(crate) fn sample(&mut self, face: u32, embedding: Vec<f32>) {
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

    /// The warnings of the call.
    pub(crate) fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// The raw samples of the call; none if they were more than the host keeps.
    pub(crate) fn take_raw(&mut self) -> Option<RawSamples> {
        let raw = std::mem::take(&mut self.raw);
        self.raw_numbers = 0;
        (!self.is_raw_too_large).then_some(raw)
    }

    /// The setting that the call refused.
    pub(crate) fn refused(&self) -> Option<&RefusedSetting> {
        self.refused.as_ref()
    }

    /// The keys that the call asked for.
    pub(crate) fn asked(&self) -> &BTreeSet<String> {
        &self.asked
    }

    /// Returns true if the call asked for more keys than are kept.
    pub(crate) fn is_asked_cut(&self) -> bool {
        self.is_asked_cut
    }
}

/// A guest's text on one line, cut to a number of characters.
fn shortened(text: &str, most: usize) -> String {
    sanitize(&text.chars().take(most).collect::<String>())
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_bounded_and_sanitised() {
        let mut report = GuestReport::default();
        report.warn("Not a code".to_owned(), "ignored");
        report.warn(
            "cut_off".to_owned(),
            &format!("a\x1b[31m\n{}", "m".repeat(10_000)),
        );
        report.warn(
            "cut_off".to_owned(),
            &format!("a\x1b[31m\n{}", "m".repeat(10_000)),
        );
        let warnings = report.take_warnings();
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].message.starts_with("a [31m mm")
                && warnings[0].message.chars().count() == WARNING_MESSAGE
        );
        (0..1000).for_each(|index| report.warn(format!("code_{index}"), "w"));
        assert_eq!(report.take_warnings().len(), WARNINGS);
        assert!(report.take_warnings().is_empty());
    }

    #[test]
    fn raw_samples_beyond_bounds_are_refused() {
        let mut report = GuestReport::default();
        report.sample(0, vec![1.0]);
        assert_eq!(
            report.take_raw(),
            Some(RawSamples::new()),
            "not an enrolment"
        );
        report.begin(true);
        report.sample(3, vec![1.0]);
        report.sample(3, vec![2.0, 3.0]);
        assert_eq!(
            report.take_raw(),
            Some(RawSamples::from([(3, vec![2.0, 3.0])]))
        );
        report.begin(true);
        report.sample(0, vec![0.0; RAW_NUMBERS]);
        report.sample(0, vec![0.0; RAW_NUMBERS]);
        report.sample(1, vec![0.0]);
        assert_eq!(report.take_raw(), None);
        report.begin(true);
        (0..=1024).for_each(|face| report.sample(face, vec![0.0]));
        assert_eq!(report.take_raw(), None);
    }

    #[test]
    fn refusal_and_keys_last_one_call() {
        let mut report = GuestReport::default();
        report.refuse("roi", "it must be\na box");
        report.refuse("other", "later");
        assert_eq!(
            report.refused(),
            Some(&RefusedSetting {
                key: "roi".to_owned(),
                message: "it must be a box".to_owned()
            })
        );
        (0..1000).for_each(|index| report.ask(&format!("key-{index}")));
        report.ask(&"k".repeat(1000));
        assert_eq!(report.asked().len(), KEYS);
        report.begin(false);
        assert_eq!((report.refused(), report.asked().len()), (None, 0));
    }
}
