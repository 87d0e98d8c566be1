//! Failures of a run.

use std::time::Duration;

use crate::guest::report::RefusedSetting;
use crate::limits::{LimitReached, OutOfCapacity};
use crate::validate::InvalidOutput;

/// Failure of a run of a pipeline.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The image is damaged or in an unknown format.
    #[error("{0}")]
    Undecodable(String),
    /// The image has too many pixels.
    #[error("the image has {width}×{height} pixels; at most {max_pixels} are decoded")]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Largest image that is decoded, in pixels.
        max_pixels: u64,
    },
    /// A model failed, as the guest reports.
    #[error("the pipeline's model failed: {0}")]
    Model(String),
    /// The pipeline cannot use the value of a setting.
    #[error("{}", refusal(.key, .message))]
    Setting {
        /// Key of the setting.
        key: String,
        /// Reason in the guest's words.
        message: String,
    },
    /// The request's deadline passed.
    #[error("the pipeline did not finish before the deadline: it had {} ms", .had.as_millis())]
    Deadline {
        /// Time from the start of the guest to the deadline.
        had: Duration,
    },
    /// The request was cancelled.
    #[error("the request was cancelled")]
    Cancelled,
    /// Other guests use the capacity that this one needs.
    #[error(transparent)]
    OutOfCapacity(#[from] OutOfCapacity),
    /// The guest hit a limit of the sandbox.
    #[error("the pipeline hit the {0}")]
    Limit(#[from] LimitReached),
    /// The guest trapped, or exited.
    #[error("the pipeline failed: {cause}{}", stderr_clause(.stderr))]
    Trap {
        /// Kind of the trap.
        kind: TrapKind,
        /// Description of the trap, with the functions that it passed.
        cause: String,
        /// Bounded text that the guest wrote to standard error.
        stderr: String,
    },
    /// The guest's answer breaks a rule of the interface.
    #[error("the pipeline's answer is refused: {0}")]
    Output(#[from] InvalidOutput),
}

/// Kind of a trap, for advice to authors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapKind {
    /// Ran into an `unreachable` instruction, as a panic does.
    Unreachable,
    /// Exhausted its stack.
    StackOverflow,
    /// Waited or slept, which pipelines cannot do.
    Wait,
    /// Exited.
    Exit,
    /// Any other trap.
    Other,
}

impl RunError {
    /// Returns true if a retry of the same request may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Deadline { .. } | Self::Cancelled | Self::OutOfCapacity(_)
        )
    }
}

impl From<RefusedSetting> for RunError {
    fn from(RefusedSetting { key, message }: RefusedSetting) -> Self {
        Self::Setting { key, message }
    }
}

/// Returns the guest's sentence about a refused setting, with the key if the sentence lacks it.
fn refusal(key: &str, message: &str) -> String {
    if message.contains(key) {
        format!("a setting is refused: {message}")
    } else {
        format!("the setting {key} is refused: {message}")
    }
}

fn stderr_clause(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!("; it wrote: {stderr}")
    }
}
