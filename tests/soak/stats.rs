//! Counts of requests by outcome, and the failures.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::harness::Answer;

/// Failures that are printed. Later ones rarely add information.
const PRINTED: usize = 20;

/// Failures after which the load ends.
const MAX_FAILURES: u64 = 200;

/// Outcome of a valid request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The expected answer.
    Done(Value),
    /// The server had no capacity and changed nothing.
    Rejected,
    /// Any other answer, or none. It is already recorded as a failure.
    Failed,
}

/// Statistics that all threads share.
#[derive(Debug, Default)]
pub(crate) struct Stats(Mutex<Counts>);

/// Counts of one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Requests by kind and outcome.
    pub(crate) requests: BTreeMap<(&'static str, String), u64>,
    /// Durations of successful recognitions.
    pub(crate) frames: Vec<Duration>,
    pub(crate) failed: u64,
    pub(crate) failures: Vec<String>,
}

impl Counts {
    /// Returns the number of requests, and of those that were rejected.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let rejected = |((_, outcome), count): (&(_, String), &u64)| {
            if outcome == "503" { *count } else { 0 }
        };
        (
            self.requests.values().sum(),
            self.requests.iter().map(rejected).sum(),
        )
    }

    /// Returns a percentile of the recognition times.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut frames = self.frames.clone();
        frames.sort_unstable();
        frames
            .get(frames.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    }
}

impl Stats {
    /// Records the answer to a valid request. `wanted` is its expected status.
    pub(crate) fn record(
        &self,
        kind: &'static str,
        answer: Result<Answer>,
        wanted: u16,
    ) -> Outcome {
        match self.counted(kind, answer) {
            Some(answer) if answer.status == wanted => Outcome::Done(answer.json),
            Some(answer) if is_rejection(&answer) => Outcome::Rejected,
            Some(answer) => {
                self.fail(format!(
                    "{kind}: {}, expected {wanted}: {answer:?}",
                    answer.status
                ));
                Outcome::Failed
            }
            None => Outcome::Failed,
        }
    }

    /// Records the answer to bad input, which must be a documented error of the client.
    pub(crate) fn record_bad_input(&self, what: &str, answer: Result<Answer>) {
        let Some(answer) = self.counted("bad input", answer) else {
            return;
        };
        let has_text = |field: &&str| answer.json.pointer(field).is_some_and(Value::is_string);
        if !is_rejection(&answer) && !(400..500).contains(&answer.status) {
            self.fail(format!("bad input ({what}): {answer:?}"));
        } else if !["/error", "/code", "/request_id"].iter().all(has_text) {
            self.fail(format!(
                "bad input ({what}): undocumented error body: {answer:?}"
            ));
        }
    }

    /// Counts a request.
    pub(crate) fn count(&self, kind: &'static str, outcome: impl Into<String>) {
        *self
            .locked()
            .requests
            .entry((kind, outcome.into()))
            .or_default() += 1;
    }

    fn counted(&self, kind: &'static str, answer: Result<Answer>) -> Option<Answer> {
        match answer {
            Ok(answer) => {
                self.count(kind, answer.status.to_string());
                Some(answer)
            }
            Err(error) => {
                self.count(kind, "no answer");
                self.fail(format!("{kind}: no answer: {error:#}"));
                None
            }
        }
    }

    /// Records the duration of a successful recognition.
    pub(crate) fn record_time(&self, time: Duration) {
        self.locked().frames.push(time);
    }

    /// Records a failure.
    pub(crate) fn fail(&self, failure: String) {
        let mut counts = self.locked();
        counts.failed += 1;
        if counts.failures.len() < PRINTED {
            eprintln!("   FAILED {failure}");
            counts.failures.push(failure);
        }
    }

    /// Returns true if there were so many failures that the load must end.
    pub(crate) fn must_stop(&self) -> bool {
        self.locked().failed >= MAX_FAILURES
    }

    /// Returns the counts up to now.
    pub(crate) fn counts(&self) -> Counts {
        self.locked().clone()
    }

    /// Returns the numbers of requests, rejections and failures up to now.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let counts = self.locked();
        let (requests, rejected) = counts.totals();
        (requests, rejected, counts.failed)
    }

    fn locked(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_rejection(answer: &Answer) -> bool {
    answer.status == 503 && answer.headers.contains_key("retry-after")
}
