//! Rule for revisions: no answer by an old revision for a request that began after an answered
//! change of routes.
//!
//! A change takes effect between its begin and its end. An unclear one may do so up to [`LATE`]
//! later. A change is superseded once another one, to another revision, began after that and was
//! answered. A request that begins then is not served by the revision of the superseded change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::history::{Entry, Operation, Outcome, Span};
use super::Violation;

/// Longest time from the end of an unclear change to its effect. A fault holds statements for four
/// seconds at most. A later effect would be reported as a violation.
pub(crate) const LATE: Duration = Duration::from_secs(6);

/// Changes of routes that had or may have an effect.
#[derive(Debug)]
pub(crate) struct Routes<'h>(Vec<Change<'h>>);

#[derive(Debug)]
struct Change<'h> {
    /// From the begin of the request until its effect is certain.
    span: Span,
    /// Unknown after a rollback without an answer.
    revision: Option<&'h str>,
    is_answered: bool,
}

impl Change<'_> {
    fn may_activate(&self, revision: &str) -> bool {
        self.revision.is_none_or(|own| own == revision)
    }

    /// Returns true if this was answered, and another revision than this is active after it.
    fn deactivates(&self, revision: &str) -> bool {
        self.is_answered && !self.may_activate(revision)
    }
}

impl<'h> Routes<'h> {
    /// Collects the changes of a history.
    pub(crate) fn of(entries: &'h [Entry]) -> Self {
        let change = |entry: &'h Entry| {
            let revision = match &entry.operation {
                Operation::Activate { revision } => Some(revision.as_str()),
                Operation::RollBack { revision } => revision.as_deref(),
                _ => return None,
            };
            let (is_answered, late) = match &entry.outcome {
                Outcome::Answered => (true, Duration::ZERO),
                Outcome::Unclear(_) => (false, LATE),
                Outcome::Refused(_) => return None,
            };
            Some(Change {
                span: Span {
                    begin: entry.span.begin,
                    end: entry.span.end + late,
                },
                revision,
                is_answered,
            })
        };
        Self(entries.iter().filter_map(change).collect())
    }

    /// Returns true if a revision may have been active at some moment of a request.
    fn may_serve(&self, revision: &str, request: Span) -> bool {
        let is_superseded = |change: &Change<'_>| {
            self.0.iter().any(|later| {
                later.deactivates(revision)
                    && change.span.precedes(later.span)
                    && later.span.precedes(request)
            })
        };
        self.0.iter().any(|change| {
            change.may_activate(revision)
                && change.span.begin <= request.end
                && !is_superseded(change)
        })
    }

    /// Returns the answers by revisions that cannot have been active.
    pub(super) fn forbidden(&self, entries: &[Entry]) -> Vec<Violation> {
        let forbidden = answers(entries).filter(|(revision, entry)| {
            // Histories of people alone have no revisions.
            !self.0.is_empty() && !self.may_serve(revision, entry.span)
        });
        forbidden
            .map(|(revision, entry)| Violation::Served {
                revision: revision.to_owned(),
                entry: entry.clone(),
            })
            .collect()
    }

    /// Counts the answers that an old revision could have given: requests that began when a
    /// revision that had been active could not be any more.
    pub(crate) fn answers_after_changes(&self, entries: &[Entry]) -> usize {
        let revisions: BTreeSet<&str> =
            self.0.iter().filter_map(|change| change.revision).collect();
        let has_old = |entry: &Entry| {
            revisions.iter().any(|revision| {
                let was_active = self.0.iter().any(|change| {
                    change.revision == Some(revision) && change.span.precedes(entry.span)
                });
                was_active && !self.may_serve(revision, entry.span)
            })
        };
        answers(entries).filter(|(_, entry)| has_old(entry)).count()
    }
}

/// Returns true for a change of routes.
pub(super) fn is_change(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Activate { .. } | Operation::RollBack { .. }
    )
}

/// Counts the answered recognitions by each revision.
pub(crate) fn answers_by_revision(entries: &[Entry]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for (revision, _) in answers(entries) {
        *counts.entry(revision).or_default() += 1;
    }
    counts
}

/// Returns the recognitions that revisions answered.
fn answers(entries: &[Entry]) -> impl Iterator<Item = (&str, &Entry)> {
    entries.iter().filter_map(|entry| match &entry.operation {
        Operation::Recognize {
            revision: Some(revision),
            ..
        } if entry.outcome == Outcome::Answered => Some((revision.as_str(), entry)),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
