//! How the last reload went, for monitoring.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

/// The last reload; before there was one, the start, which read everything. Clones share it.
#[derive(Clone, Debug)]
pub struct ReloadStatus(Arc<Mutex<LastReload>>);

/// One reload.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// When it ended.
    pub time: Timestamp,
    /// What could not be used, and stayed as it was.
    pub failures: Vec<String>,
}

/// The same as it is answered.
#[derive(Debug, Serialize)]
pub struct ReloadAnswer {
    time: String,
    success: bool,
    failures: Vec<String>,
}

impl ReloadStatus {
    /// Begins with a start that read everything.
    pub fn started() -> Self {
        Self(Arc::new(Mutex::new(LastReload {
            time: Timestamp::now(),
            failures: Vec::new(),
        })))
    }

    /// Records the end of a reload.
    pub fn record(&self, failures: Vec<String>) {
        *self.locked() = LastReload {
            time: Timestamp::now(),
            failures,
        };
    }

    /// Returns the last one.
    pub(crate) fn last(&self) -> LastReload {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, LastReload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LastReload {
    /// Whether everything could be used.
    pub(crate) fn is_success(&self) -> bool {
        self.failures.is_empty()
    }

    /// Returns it as it is answered.
    pub(crate) fn answer(self) -> ReloadAnswer {
        ReloadAnswer {
            time: self.time.to_string(),
            success: self.is_success(),
            failures: self.failures,
        }
    }
}
