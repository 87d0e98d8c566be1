//! What became of the requests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::client::Answer;

/// Failures that are told one by one; a service that fails always says nothing new with each.
const TOLD: usize = 20;

/// Failures after which the load ends: what follows is noise.
const ENOUGH: u64 = 200;

/// What came of a good request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// What was wanted.
    Done(Value),
    /// The service said that it has no room now: nothing is changed.
    TurnedAway,
    /// Something else, which is noted as a failure.
    Failed,
}

/// Counts and failures, of all threads.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Requests by kind and outcome.
    pub(super) requests: BTreeMap<(&'static str, String), u64>,
    /// What good answers to frames took.
    pub(super) frames: Vec<Duration>,
    pub(super) failed: u64,
    pub(super) failures: Vec<String>,
}

impl Counts {
    /// All requests, and those that were turned away.
    pub(super) fn all(&self) -> (u64, u64) {
        let turned_away = self
            .requests
            .iter()
            .filter(|((_, outcome), _)| outcome == "503")
            .map(|(_, count)| count)
            .sum();
        (self.requests.values().sum(), turned_away)
    }

    /// The time that so many of a hundred frames took at most.
    pub(super) fn percentile(&self, share: usize) -> Duration {
        let mut frames = self.frames.clone();
        frames.sort_unstable();
        frames
            .get(frames.len() * share / 100)
            .copied()
            .unwrap_or_default()
    }
}

impl Tally {
    /// Notes an answer to a good request, to which the statuses `wanted` are right.
    pub(super) fn judge(&self, kind: &'static str, answer: Result<Answer>, wanted: u16) -> Outcome {
        match self.counted(kind, answer) {
            Some(answer) if answer.status == wanted => Outcome::Done(answer.json),
            Some(answer) if answer.status == 503 && answer.retry_after => Outcome::TurnedAway,
            Some(answer) => {
                self.fail(format!(
                    "{kind}: {} instead of {wanted}, request {}: {}",
                    answer.status, answer.request, answer.json
                ));
                Outcome::Failed
            }
            None => Outcome::Failed,
        }
    }

    /// Notes an answer to bad input: it is the caller's fault, and says so as every error does.
    pub(super) fn refused(&self, what: &str, answer: Result<Answer>) {
        let Some(answer) = self.counted("bad input", answer) else {
            return;
        };
        let turned_away = answer.status == 503 && answer.retry_after;
        if !turned_away && !(400..500).contains(&answer.status) {
            self.fail(format!(
                "bad input ({what}): {}, request {}: {}",
                answer.status, answer.request, answer.json
            ));
        } else if ["/error", "/code", "/request_id"].iter().any(|field| {
            answer
                .json
                .pointer(field)
                .is_none_or(|value| !value.is_string())
        }) {
            self.fail(format!(
                "bad input ({what}): {} without an error as documented, request {}",
                answer.status, answer.request
            ));
        }
    }

    /// Counts a request.
    pub(super) fn count(&self, kind: &'static str, outcome: impl Into<String>) {
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

    /// Notes what a good answer to a frame took.
    pub(super) fn took(&self, time: Duration) {
        self.locked().frames.push(time);
    }

    /// Notes a failure.
    pub(super) fn fail(&self, what: String) {
        let mut counts = self.locked();
        counts.failed += 1;
        if counts.failures.len() < TOLD {
            eprintln!("   FAILED {what}");
            counts.failures.push(what);
        }
    }

    /// Whether there is no use in going on.
    pub(super) fn is_hopeless(&self) -> bool {
        self.locked().failed >= ENOUGH
    }

    /// What was counted so far.
    pub(super) fn counts(&self) -> Counts {
        self.locked().clone()
    }

    /// Requests so far, those that were turned away, and failures.
    pub(super) fn sums(&self) -> (u64, u64, u64) {
        let counts = self.locked();
        let (all, turned_away) = counts.all();
        (all, turned_away, counts.failed)
    }

    fn locked(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
