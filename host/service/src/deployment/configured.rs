//! What the configuration asks for, and what becomes of it at a start.

use serde::{Deserialize, Serialize};

use rostro_common::digest::Sha256Digest;

use super::record::Record;

/// What the command line and the configuration ask for.
#[derive(Debug)]
pub struct Configured {
    /// The pipeline's component.
    pub vision: Vec<u8>,
    /// The policy's, if it is another.
    pub policy: Option<Vec<u8>>,
    /// The pack.
    pub pack: String,
    /// How they were asked for.
    pub texts: ConfiguredTexts,
    /// Whether it may serve although it does not know a setting of the configuration.
    pub may_lack_settings: bool,
}

/// What an operator wrote for the pipeline; none where the default holds. Files of the same name
/// may change with an upgrade, which no operator decided; a changed text is a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredTexts {
    /// `--pipeline`.
    pub pipeline: Option<String>,
    /// `--policy`.
    pub policy: Option<String>,
    /// `--pack`.
    pub pack: Option<String>,
}

/// What serves after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartChoice {
    /// What was active.
    Remembered,
    /// What was active; what the configuration makes now is staged next to it.
    RememberedAndStaged,
    /// What the configuration makes now.
    Configured,
}

/// Returns what serves after a start at which the configuration makes the revision `wanted`.
///
/// A record of a program before configured texts has none. Its texts count as unchanged: its first
/// start with a later program is an upgrade most likely, and what an operator activated is retired
/// by no upgrade.
pub(super) fn choose(
    record: &Record,
    wanted: Sha256Digest,
    texts: &ConfiguredTexts,
) -> StartChoice {
    let has_other_texts = record
        .configured_texts
        .as_ref()
        .is_some_and(|before| before != texts);
    if record.active.is_none() {
        StartChoice::Configured
    } else if record.active == Some(wanted) {
        StartChoice::Remembered
    } else if has_other_texts {
        StartChoice::Configured
    } else if record.configured == Some(wanted) {
        StartChoice::Remembered
    } else if record.configured == record.active {
        StartChoice::Configured
    } else {
        StartChoice::RememberedAndStaged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pipeline: &str) -> ConfiguredTexts {
        ConfiguredTexts {
            pipeline: Some(pipeline.to_owned()),
            ..ConfiguredTexts::default()
        }
    }

    /// Revisions: `a` is what the configuration made at the last start, `b` what it makes now, `x`
    /// one that an operator pushed.
    #[test]
    fn choose_keeps_what_operators_activated() {
        use StartChoice::{Configured, Remembered, RememberedAndStaged};
        let id = |name: &str| Sha256Digest::of(name.as_bytes());
        for (configured, active, wanted, before, now, choice) in [
            (None, None, "a", None, "p", Configured),
            // Nothing changed.
            (Some("a"), Some("a"), "a", Some("p"), "p", Remembered),
            (Some("a"), Some("x"), "a", Some("p"), "p", Remembered),
            // Another file under the same name.
            (Some("a"), Some("a"), "b", Some("p"), "p", Configured),
            (
                Some("a"),
                Some("x"),
                "b",
                Some("p"),
                "p",
                RememberedAndStaged,
            ),
            (Some("a"), Some("b"), "b", Some("p"), "p", Remembered),
            // Another text, for another revision or the same.
            (Some("a"), Some("x"), "b", Some("p"), "q", Configured),
            (Some("a"), Some("x"), "a", Some("p"), "q", Configured),
            (Some("a"), Some("x"), "x", Some("p"), "q", Remembered),
            // A record of before.
            (Some("a"), Some("a"), "b", None, "p", Configured),
            (Some("a"), Some("x"), "b", None, "p", RememberedAndStaged),
            (Some("a"), Some("x"), "a", None, "p", Remembered),
        ] {
            let mut record = Record::default();
            record.configured = configured.map(id);
            record.active = active.map(id);
            record.configured_texts = before.map(texts);
            let case = format!("{configured:?} {active:?} {wanted} {before:?} {now}");
            assert_eq!(choose(&record, id(wanted), &texts(now)), choice, "{case}");
        }
    }
}
