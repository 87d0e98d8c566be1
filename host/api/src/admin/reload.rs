//! Result of the last reload, for monitoring.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

/// Result of the last reload, or of the start, which also reads all files. Clones share it.
#[derive(Clone, Debug)]
pub struct ReloadStatus(Arc<Mutex<LastReload>>);

/// Result of one reload.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// End of the reload.
    pub time: Timestamp,
    /// Files that could not be used. Their previous content stays in use.
    pub failures: Vec<String>,
}

/// JSON form of [`LastReload`].
#[derive(Debug, Serialize)]
pub struct ReloadAnswer {
    time: String,
    success: bool,
    failures: Vec<String>,
}

impl ReloadStatus {
    /// Returns the status after a start.
    pub fn started() -> Self {
        Self(Arc::new(Mutex::new(LastReload {
            time: Timestamp::now(),
            failures: Vec::new(),
        })))
    }

    /// Records a reload that ends now.
    pub fn record(&self, failures: Vec<String>) {
        *self.lock() = LastReload {
            time: Timestamp::now(),
            failures,
        };
    }

    /// Returns the last reload.
    pub(crate) fn last(&self) -> LastReload {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, LastReload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LastReload {
    /// Returns true if all files could be used.
    pub(crate) fn is_success(&self) -> bool {
        self.failures.is_empty()
    }

    /// Converts to the JSON form.
    pub(crate) fn into_answer(self) -> ReloadAnswer {
        ReloadAnswer {
            time: self.time.to_string(),
            success: self.is_success(),
            failures: self.failures,
        }
    }
}
