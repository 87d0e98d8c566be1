//! Highest usage of the guests of a request.

use std::fmt;

use serde::Serialize;

use super::Limits;

/// Highest usage of the guests of a request, by limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Linear memory and tensors together.
    pub memory_bytes: usize,
    /// Tensors at a time.
    pub tensors: usize,
    /// Elements of a table.
    pub table_elements: usize,
    /// Bytes of log lines.
    pub log_bytes: usize,
    /// Time from the start of a guest until its last answer.
    pub milliseconds: u64,
}

impl Usage {
    /// Returns the higher value of each field.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            tensors: self.tensors.max(other.tensors),
            table_elements: self.table_elements.max(other.table_elements),
            log_bytes: self.log_bytes.max(other.log_bytes),
            milliseconds: self.milliseconds.max(other.milliseconds),
        }
    }

    /// Returns usage and limit of each resource, as text.
    #[must_use]
    pub fn with_limits(&self, limits: &Limits) -> String {
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        format!(
            "{} of {} MiB of memory, {} of {} tensors, {} of {} table elements, \
             {} of {} bytes of log, {} ms at the longest",
            mib(self.memory_bytes),
            mib(limits.memory_bytes),
            self.tensors,
            limits.tensors,
            self.table_elements,
            limits.table_elements,
            self.log_bytes,
            limits.log_bytes,
            self.milliseconds
        )
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MiB, {} tensors",
            self.memory_bytes.div_ceil(1 << 20),
            self.tensors
        )
    }
}
