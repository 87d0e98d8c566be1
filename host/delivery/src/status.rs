//! State of a receiver, for metrics and pages, and its lines in the log.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

/// Kind of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiverKind {
    /// Requests of HTTP.
    Webhook,
    /// A broker.
    Mqtt,
}

/// State of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiverState {
    /// No attempt waits for a retry.
    Working,
    /// An attempt failed and is retried.
    Failing,
    /// The receiver answered that it is gone. It gets no events until a restart.
    Disabled,
    /// Its thread ended: the host stops, or the thread panicked.
    Stopped,
}

/// What is known about a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReceiverStatus {
    /// Name of the configuration.
    pub name: String,
    /// Kind.
    pub kind: ReceiverKind,
    /// State.
    pub state: ReceiverState,
    /// Maximum number of waiting events; removed and unwanted ones may count.
    pub waiting: u64,
    /// Number of deliveries since the start.
    pub delivered: u64,
    /// Number of failed attempts since the start.
    pub failed_attempts: u64,
    /// Last error, without secrets.
    pub last_error: Option<String>,
    /// Time of the last error.
    pub last_error_at: Option<Timestamp>,
    /// Time of the last delivery.
    pub last_success: Option<Timestamp>,
}

/// State of a receiver that its thread changes and others read.
#[derive(Debug)]
pub(crate) struct Monitor(Mutex<ReceiverStatus>);

impl Monitor {
    pub(crate) fn new(name: &str, kind: ReceiverKind) -> Self {
        Self(Mutex::new(ReceiverStatus {
            name: name.to_owned(),
            kind,
            state: ReceiverState::Working,
            waiting: 0,
            delivered: 0,
            failed_attempts: 0,
            last_error: None,
            last_error_at: None,
            last_success: None,
        }))
    }

    pub(crate) fn status(&self) -> ReceiverStatus {
        self.lock().clone()
    }

    pub(crate) fn set_waiting(&self, waiting: u64) {
        self.lock().waiting = waiting;
    }

    pub(crate) fn delivered(&self) {
        let mut status = self.lock();
        status.delivered += 1;
        status.waiting = status.waiting.saturating_sub(1);
        status.last_success = Some(Timestamp::now());
    }

    /// Records a failed attempt. The first one of several is logged.
    pub(crate) fn failed(&self, error: &str) {
        let mut status = self.lock();
        status.failed_attempts += 1;
        status.last_error = Some(error.to_owned());
        status.last_error_at = Some(Timestamp::now());
        if status.state == ReceiverState::Working {
            status.state = ReceiverState::Failing;
            tracing::warn!(
                "receiver {}: {error}; its events wait and are retried",
                status.name
            );
        }
    }

    /// Records that no attempt waits for a retry any more.
    pub(crate) fn recovered(&self) {
        let mut status = self.lock();
        if status.state == ReceiverState::Failing {
            status.state = ReceiverState::Working;
            tracing::info!("receiver {} takes events again", status.name);
        }
    }

    /// Records that the receiver is gone.
    pub(crate) fn disable(&self, error: &str) {
        let mut status = self.lock();
        status.failed_attempts += 1;
        status.last_error = Some(error.to_owned());
        status.last_error_at = Some(Timestamp::now());
        status.state = ReceiverState::Disabled;
        tracing::warn!(
            "receiver {}: {error}; it gets no events until the next start",
            status.name
        );
    }

    fn lock(&self) -> MutexGuard<'_, ReceiverStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
