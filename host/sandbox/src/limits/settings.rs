//! Table of the limits by the names and units in which operators set them.

use std::time::Duration;

use super::Limits;

/// Limit that an operator sets.
pub(super) struct LimitSetting {
    pub name: &'static str,
    /// Range of valid values.
    pub least: usize,
    pub most: usize,
    /// Reads and writes the limit, in the unit of its name.
    pub get: fn(&Limits) -> usize,
    pub set: fn(&mut Limits, usize),
}

/// All limits.
pub(super) const SETTINGS: [LimitSetting; 11] = [
    setting(
        "memory-mib",
        16,
        4095,
        |limits| limits.memory_bytes >> 20,
        |limits, value| limits.memory_bytes = value << 20,
    ),
    setting(
        "table-elements",
        100,
        1_000_000,
        |limits| limits.table_elements,
        |limits, value| limits.table_elements = value,
    ),
    setting(
        "instances",
        1,
        1000,
        |limits| limits.instances,
        |limits, value| limits.instances = value,
    ),
    setting(
        "transfer-mib",
        1,
        1024,
        |limits| limits.transfer_bytes >> 20,
        |limits, value| limits.transfer_bytes = value << 20,
    ),
    setting(
        "handles",
        8,
        1000,
        |limits| limits.handles,
        |limits, value| limits.handles = value,
    ),
    setting(
        "tensors",
        2,
        1000,
        |limits| limits.tensors,
        |limits, value| limits.tensors = value,
    ),
    setting(
        "log-kib",
        0,
        1024,
        |limits| limits.log_bytes >> 10,
        |limits, value| limits.log_bytes = value << 10,
    ),
    setting(
        "faces",
        1,
        1024,
        |limits| limits.faces,
        |limits, value| limits.faces = value,
    ),
    setting(
        "templates",
        1,
        16,
        |limits| limits.templates,
        |limits, value| limits.templates = value,
    ),
    setting(
        "state-kib",
        0,
        16_384,
        |limits| limits.state_bytes >> 10,
        |limits, value| limits.state_bytes = value << 10,
    ),
    setting(
        "time-ms",
        10,
        3_600_000,
        Limits::time_ms,
        |limits, value| limits.time = Duration::from_millis(value as u64),
    ),
];

const fn setting(
    name: &'static str,
    least: usize,
    most: usize,
    get: fn(&Limits) -> usize,
    set: fn(&mut Limits, usize),
) -> LimitSetting {
    LimitSetting {
        name,
        least,
        most,
        get,
        set,
    }
}

impl LimitSetting {
    /// Finds a limit by its name.
    pub(super) fn find(name: &str) -> Result<&'static Self, LimitError> {
        let unknown = || LimitError::Unknown {
            name: name.chars().take(64).collect(),
        };
        SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .ok_or_else(unknown)
    }

    /// Parses a value in the limit's range.
    pub(super) fn parse(&self, text: &str) -> Result<usize, LimitError> {
        let Self {
            name, least, most, ..
        } = *self;
        let value = text
            .parse()
            .ok()
            .filter(|value| (least..=most).contains(value));
        value.ok_or_else(|| LimitError::Range {
            name: name.to_owned(),
            value: text.chars().take(64).collect(),
            least,
            most,
        })
    }
}

/// Invalid name or value of a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No limit has this name.
    #[error(
        "there is no limit `{name}`; there are {}",
        SETTINGS.map(|setting| setting.name).join(", ")
    )]
    Unknown {
        /// Unknown name.
        name: String,
    },
    /// The value is not a number in the limit's range.
    #[error("the limit {name} is `{value}`; it must be a number from {least} to {most}")]
    Range {
        /// Name of the limit.
        name: String,
        /// Rejected value.
        value: String,
        /// Smallest valid value.
        least: usize,
        /// Largest valid value.
        most: usize,
    },
    /// A revision's limit is above the service's.
    #[error(
        "the limit {name} of a revision is `{value}`; the service's own is {most}, which no \
         revision exceeds: raise that with --limit"
    )]
    Above {
        /// Name of the limit.
        name: String,
        /// Rejected value.
        value: String,
        /// Limit of the service.
        most: usize,
    },
}
