//! The rule by which a person is present.

use std::ops::RangeInclusive;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Allowed values of `seen`.
const SEEN: RangeInclusive<u32> = 1..=1000;

/// Allowed values of `within_s`: up to a day.
const WITHIN_S: RangeInclusive<u64> = 1..=86_400;

/// Rule of a session. A person is present when they were named in `seen` frames within `within_s`
/// seconds, and late if that came after `late_after`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "RuleFields", into = "RuleFields")]
pub struct PresenceRule {
    /// Frames that must name a person.
    #[schema(minimum = 1, maximum = 1000, default = 2, required = false)]
    seen: u32,
    /// Longest time between the first and the last of them, in seconds.
    #[schema(minimum = 1, maximum = 86_400, default = 60, required = false)]
    within_s: u64,
    /// Time after which an arrival is late.
    #[schema(value_type = Option<String>, format = DateTime)]
    late_after: Option<Timestamp>,
}

/// Field of a rule that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// The number of frames.
    #[error("`seen` is {0}; {start} to {end} are allowed", start = SEEN.start(), end = SEEN.end())]
    Seen(u32),
    /// The number of seconds.
    #[error(
        "`within_s` is {0}; {start} to {end} are allowed",
        start = WITHIN_S.start(),
        end = WITHIN_S.end()
    )]
    WithinS(u64),
}

/// Unchecked fields of a rule.
#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct RuleFields {
    seen: u32,
    within_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    late_after: Option<Timestamp>,
}

impl PresenceRule {
    /// Creates a rule.
    ///
    /// # Errors
    ///
    /// If a number is out of its range.
    pub fn new(
        seen: u32,
        within_s: u64,
        late_after: Option<Timestamp>,
    ) -> Result<Self, InvalidRule> {
        if !SEEN.contains(&seen) {
            return Err(InvalidRule::Seen(seen));
        }
        if !WITHIN_S.contains(&within_s) {
            return Err(InvalidRule::WithinS(within_s));
        }
        Ok(Self {
            seen,
            within_s,
            late_after,
        })
    }

    /// Returns the number of frames that must name a person.
    #[must_use]
    pub fn seen(&self) -> u32 {
        self.seen
    }

    /// Returns the longest time between the first and the last of these frames.
    #[must_use]
    pub fn within(&self) -> SignedDuration {
        SignedDuration::from_secs(self.within_s.try_into().unwrap_or(i64::MAX))
    }

    /// Returns the time after which an arrival is late.
    #[must_use]
    pub fn late_after(&self) -> Option<Timestamp> {
        self.late_after
    }

    /// Returns true if an arrival at this time is late.
    #[must_use]
    pub fn is_late(&self, arrived: Timestamp) -> bool {
        self.late_after.is_some_and(|limit| arrived > limit)
    }
}

impl Default for PresenceRule {
    fn default() -> Self {
        Self {
            seen: 2,
            within_s: 60,
            late_after: None,
        }
    }
}

impl Default for RuleFields {
    fn default() -> Self {
        PresenceRule::default().into()
    }
}

impl TryFrom<RuleFields> for PresenceRule {
    type Error = InvalidRule;

    fn try_from(fields: RuleFields) -> Result<Self, InvalidRule> {
        Self::new(fields.seen, fields.within_s, fields.late_after)
    }
}

impl From<PresenceRule> for RuleFields {
    fn from(rule: PresenceRule) -> Self {
        Self {
            seen: rule.seen,
            within_s: rule.within_s,
            late_after: rule.late_after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<PresenceRule, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn rule_has_defaults() {
        assert_eq!(parse("{}"), Ok(PresenceRule::default()));
        let rule = r#"{"seen":3,"within_s":5,"late_after":"2026-12-02T08:00:00Z"}"#;
        let parsed = parse(rule).unwrap();
        assert_eq!(serde_json::to_string(&parsed).unwrap(), rule);
        assert_eq!(
            (parsed.seen(), parsed.within()),
            (3, SignedDuration::from_secs(5))
        );
        let local = parse(r#"{"late_after":"2026-12-02T09:00:00+01:00"}"#).unwrap();
        assert_eq!(local.late_after(), parsed.late_after());
    }

    #[test]
    fn invalid_rule_names_its_range() {
        for (json, message) in [
            (r#"{"seen":0}"#, "`seen` is 0; 1 to 1000 are allowed"),
            (r#"{"seen":1001}"#, "`seen` is 1001; 1 to 1000 are allowed"),
            (
                r#"{"within_s":0}"#,
                "`within_s` is 0; 1 to 86400 are allowed",
            ),
            (
                r#"{"within_s":86401}"#,
                "`within_s` is 86401; 1 to 86400 are allowed",
            ),
            (r#"{"within":1}"#, "unknown field `within`"),
            (r#"{"seen":-1}"#, "-1"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(message), "{json}: {error}");
        }
        assert!(parse(r#"{"late_after":"08:00"}"#).is_err());
    }
}
