//! Error of a guest that hit a limit.

use super::Limits;

/// Limit that a guest hit.
#[derive(Clone, Debug, thiserror::Error)]
#[error("limit `{name}` of {limit} reached: {asked}")]
pub struct LimitReached {
    /// Name of the limit.
    pub name: &'static str,
    /// Value of the limit, in the unit of its name.
    pub limit: usize,
    /// Current and requested amount.
    pub asked: String,
}

impl LimitReached {
    /// Returns the error of a request for `wanted` in total while `used` was in use.
    pub(crate) fn wanted(name: &'static str, limit: usize, used: usize, wanted: usize) -> Self {
        Self {
            name,
            limit,
            asked: format!("{used} in use, {wanted} wanted"),
        }
    }

    /// Returns the error of an answer with too many items.
    pub(crate) fn returned(name: &'static str, limit: usize, returned: usize) -> Self {
        Self {
            name,
            limit,
            asked: format!("{returned} returned"),
        }
    }

    /// Returns the error of a guest that exceeded its own time limit.
    pub(crate) fn time(limits: &Limits) -> Self {
        Self {
            name: "time-ms",
            limit: limits.time_ms(),
            asked: "it was still at work".to_owned(),
        }
    }

    /// Returns the error of a request for `wanted` bytes in total while `used` were in use.
    pub(crate) fn memory(limit: usize, used: usize, wanted: usize) -> Self {
        Self {
            name: "memory-mib",
            limit: limit >> 20,
            asked: format!("{used} bytes in use, {wanted} wanted"),
        }
    }
}
