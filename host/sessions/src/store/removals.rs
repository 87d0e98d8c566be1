//! Recent removals of people. A frame that was recognised before a removal must not bring the person
//! back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rostro_common::ids::PersonId;

use crate::session::ObservedFrame;

/// Time for which a removal is remembered, longer than any request runs.
const MEMORY: Duration = Duration::from_secs(600);

/// State of the removals when a request began, before it looked at people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemovalMark(u64);

/// Removals in memory, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct RecentRemovals {
    next: u64,
    /// Removals with a smaller number were forgotten.
    forgotten: u64,
    recent: VecDeque<RecentRemoval>,
}

#[derive(Debug)]
struct RecentRemoval {
    number: u64,
    at: Instant,
    person: PersonId,
}

impl RecentRemovals {
    /// Returns the present state.
    pub(super) fn mark(&self) -> RemovalMark {
        RemovalMark(self.next)
    }

    /// Forgets old removals.
    pub(super) fn forget_old(&mut self, now: Instant) {
        let is_old = |removal: &RecentRemoval| now.saturating_duration_since(removal.at) > MEMORY;
        while self.recent.front().is_some_and(is_old) {
            self.forgotten = self.recent.pop_front().map_or(0, |removal| removal.number) + 1;
        }
    }

    /// Records a removal, and forgets old ones.
    pub(super) fn add(&mut self, person: PersonId, now: Instant) {
        self.forget_old(now);
        self.recent.push_back(RecentRemoval {
            number: self.next,
            at: now,
            person,
        });
        self.next += 1;
    }

    /// Returns true if the person may have been removed since the mark.
    pub(super) fn is_removed(&self, since: RemovalMark, person: &PersonId) -> bool {
        since.0 < self.forgotten || self.since(since).any(|removed| removed == person)
    }

    /// Drops what a frame says about people that were removed since the mark.
    pub(super) fn strip(&self, since: RemovalMark, frame: &mut ObservedFrame) {
        if since.0 < self.forgotten {
            frame.people.clear();
            frame.policy_events.clear();
        }
        for removed in self.since(since) {
            frame.people.retain(|named| named.id != *removed);
            frame.policy_events.retain(|event| !event.mentions(removed));
        }
    }

    fn since(&self, mark: RemovalMark) -> impl Iterator<Item = &PersonId> {
        let first = self
            .recent
            .partition_point(|removal| removal.number < mark.0);
        self.recent.range(first..).map(|removal| &removal.person)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{frame, person, policy_event};

    fn names(frame: &ObservedFrame) -> Vec<&str> {
        frame.people.iter().map(|named| named.id.as_str()).collect()
    }

    #[test]
    fn frame_loses_removed_people() {
        let mut removals = RecentRemovals::default();
        let now = Instant::now();
        let before = removals.mark();
        removals.add(person("a"), now);
        let after = removals.mark();
        let frame = || {
            let mut frame = frame(1, &["a", "b"]);
            frame.policy_events = vec![policy_event(None, "a waved"), policy_event(None, "")];
            frame
        };
        let mut stripped = frame();
        removals.strip(before, &mut stripped);
        assert_eq!(
            (names(&stripped), stripped.policy_events.len()),
            (vec!["b"], 1)
        );
        let mut later = frame();
        removals.strip(after, &mut later);
        assert_eq!(later, frame());
        assert!(removals.is_removed(before, &person("a")));
        assert!(!removals.is_removed(before, &person("b")));
        assert!(!removals.is_removed(after, &person("a")));
    }

    #[test]
    fn forgotten_removal_concerns_everyone() {
        let mut removals = RecentRemovals::default();
        let (before, start) = (removals.mark(), Instant::now());
        removals.add(person("a"), start);
        let between = removals.mark();
        removals.add(person("b"), start + MEMORY + Duration::from_secs(1));
        assert_eq!(removals.recent.len(), 1);
        let mut old = frame(1, &["c"]);
        removals.strip(before, &mut old);
        assert!(old.people.is_empty() && removals.is_removed(before, &person("c")));
        let mut new = frame(1, &["b", "c"]);
        removals.strip(between, &mut new);
        assert_eq!(names(&new), ["c"]);
    }
}
