//! When the circuit breaker takes a revision out: too many failures in a row, or too large a share
//! of failures.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::executor::Client;

/// How long a request counts for the share, in seconds.
const WINDOW: u64 = 60;

/// The fewest requests of which a share is taken.
const FEWEST: u64 = 20;

/// From this many failures in a row on an operator wants no breaker: the share takes nothing out
/// either.
pub(crate) const OFF: u32 = 10_000;

/// Which rule takes a revision out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// So many requests failed one after another.
    InARow(u32),
    /// More than half of the requests of the last minute failed.
    Share(FailureShare),
}

/// Requests of the last minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailureShare {
    pub failures: u64,
    pub requests: u64,
}

/// How often each rule fired since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TripCounts {
    /// Revisions that were taken out after failures in a row.
    pub in_a_row: u64,
    /// Revisions that were taken out by the share of failures.
    pub share: u64,
    /// Times that failures in a row would have taken out the active one, and no other could serve.
    pub in_a_row_stuck: u64,
    /// Times that the share would have, and no other could serve.
    pub share_stuck: u64,
}

impl TripCounts {
    /// Counts a rule that fired.
    pub(crate) fn count(&mut self, rule: Rule, is_stuck: bool) {
        let count = match (rule, is_stuck) {
            (Rule::InARow(_), false) => &mut self.in_a_row,
            (Rule::Share(_), false) => &mut self.share,
            (Rule::InARow(_), true) => &mut self.in_a_row_stuck,
            (Rule::Share(_), true) => &mut self.share_stuck,
        };
        *count += 1;
    }

    /// Returns the counts with the rule's name and whether the revision was `broken` or `stuck`.
    pub fn counts(self) -> [(&'static str, &'static str, u64); 4] {
        [
            ("in_a_row", "broken", self.in_a_row),
            ("in_a_row", "stuck", self.in_a_row_stuck),
            ("share", "broken", self.share),
            ("share", "stuck", self.share_stuck),
        ]
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InARow(failures) => write!(f, "after {failures} failures in a row"),
            Self::Share(FailureShare { failures, requests }) => {
                write!(
                    f,
                    "after {failures} failures in {requests} requests within {WINDOW} s, more than half"
                )
            }
        }
    }
}

/// Too large a share of failures, and of whose requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    pub share: FailureShare,
    /// The client, if all requests are one client's.
    pub only: Option<u64>,
}

impl Excess {
    /// Returns true if the revision is to be taken out. Requests of one client do that only if
    /// `has_others` says that there is no other, so that none alone takes out what serves the
    /// others.
    pub(crate) fn is_enough(&self, has_others: impl FnOnce(u64) -> bool) -> bool {
        self.only.is_none_or(|client| !has_others(client))
    }
}

/// A client as a number that tells no other process who it was.
pub(crate) fn client_number(client: &Client) -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEYS.hash_one(client)
}

/// Whose requests a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    /// Nobody's.
    None,
    /// One client's.
    One(u64),
    /// Several clients'.
    Several,
}

impl Clients {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (clients, Self::None) | (Self::None, clients) => clients,
            (Self::One(one), Self::One(other)) if one == other => self,
            _ => Self::Several,
        }
    }
}

/// The requests of one second.
#[derive(Clone, Copy, Debug)]
struct Second {
    /// Which, since the window's beginning.
    second: u64,
    requests: u64,
    failures: u64,
    clients: Clients,
}

/// Requests of the last minute that say something of a revision, by the second.
#[derive(Debug)]
pub(crate) struct Window {
    begun: Instant,
    seconds: VecDeque<Second>,
}

impl Window {
    /// Returns an empty window.
    pub(crate) fn new(begun: Instant) -> Self {
        Self {
            begun,
            seconds: VecDeque::new(),
        }
    }

    /// Counts a request.
    pub(crate) fn count(&mut self, now: Instant, client: u64, failed: bool) {
        let second = self.forget(now);
        if self.seconds.back().is_none_or(|last| last.second < second) {
            self.seconds.push_back(Second {
                second,
                requests: 0,
                failures: 0,
                clients: Clients::None,
            });
        }
        if let Some(last) = self.seconds.back_mut() {
            last.requests += 1;
            last.failures += u64::from(failed);
            last.clients = last.clients.and(Clients::One(client));
        }
    }

    /// Returns the share of failures if it is too large: more than half of at least twenty
    /// requests.
    pub(crate) fn excess(&mut self, now: Instant) -> Option<Excess> {
        self.forget(now);
        let requests = self.seconds.iter().map(|second| second.requests).sum();
        let failures = self
            .seconds
            .iter()
            .map(|second| second.failures)
            .sum::<u64>();
        let only = match self.clients() {
            Clients::One(client) => Some(client),
            Clients::None | Clients::Several => None,
        };
        (requests >= FEWEST && failures * 2 > requests).then_some(Excess {
            share: FailureShare { failures, requests },
            only,
        })
    }

    /// Returns true if another client than this asked within the last minute.
    pub(crate) fn has_other(&mut self, now: Instant, client: u64) -> bool {
        self.forget(now);
        self.clients().and(Clients::One(client)) == Clients::Several
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.seconds.clear();
    }

    fn clients(&self) -> Clients {
        self.seconds
            .iter()
            .fold(Clients::None, |clients, second| clients.and(second.clients))
    }

    /// Forgets what is too old; returns which second it is.
    fn forget(&mut self, now: Instant) -> u64 {
        // A request that was noted by another thread meanwhile may be later.
        let last = self.seconds.back().map_or(0, |last| last.second);
        let second = now
            .saturating_duration_since(self.begun)
            .as_secs()
            .max(last);
        while self
            .seconds
            .front()
            .is_some_and(|first| first.second + WINDOW <= second)
        {
            self.seconds.pop_front();
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Requests one after another: how many, of which client, whether they fail, and the seconds
    /// before each.
    type Requests = (u64, u64, bool, f64);

    /// Returns after how many requests the window is in excess for the first time.
    fn tripped_after(requests: &[Requests], has_others: bool) -> Option<u64> {
        let begun = Instant::now();
        let (mut window, mut now, mut count) = (Window::new(begun), begun, 0);
        for (number, client, failed, pause) in requests {
            for _ in 0..*number {
                now += Duration::from_secs_f64(*pause);
                count += 1;
                window.count(now, *client, *failed);
                if *failed
                    && window
                        .excess(now)
                        .is_some_and(|excess| excess.is_enough(|_| has_others))
                {
                    return Some(count);
                }
            }
        }
        None
    }

    #[test]
    fn excess_needs_share_requests_and_clients() {
        let nine_and_one = |client| [(9, client, true, 0.1), (1, client, false, 0.1)];
        let repeated: Vec<Requests> = (0..5).flat_map(|_| nine_and_one(1)).collect();
        let by_two: Vec<Requests> = (0..5).flat_map(|round| nine_and_one(round % 2)).collect();
        let halves: Vec<Requests> = (0..50)
            .flat_map(|_| [(1, 1, false, 0.1), (1, 2, true, 0.1)])
            .collect();
        for (what, requests, has_others, wanted) in [
            (
                "the only client, failures never in a row",
                repeated.clone(),
                false,
                Some(21),
            ),
            ("one client of several", repeated, true, None),
            ("two clients", by_two, true, Some(21)),
            (
                "nineteen requests",
                vec![(18, 1, true, 0.1), (1, 2, true, 0.1)],
                true,
                None,
            ),
            (
                "twenty requests",
                vec![(18, 1, true, 0.1), (2, 2, true, 0.1)],
                true,
                Some(20),
            ),
            ("exactly half", halves, true, None),
            (
                "half and one",
                vec![(10, 1, false, 0.1), (11, 2, true, 0.1)],
                true,
                Some(21),
            ),
            // A request each three seconds: a minute holds exactly twenty.
            ("twenty a minute", vec![(40, 1, true, 3.0)], false, Some(20)),
            (
                "fewer than twenty a minute",
                vec![(400, 1, true, 3.25)],
                false,
                None,
            ),
            (
                "good ones that are over a minute old",
                vec![
                    (50, 1, false, 0.1),
                    (19, 1, true, 0.0),
                    (1, 1, true, 61.0),
                    (18, 1, true, 0.0),
                ],
                false,
                None,
            ),
            (
                "bad ones after good ones that are over a minute old",
                vec![(50, 1, false, 0.1), (1, 1, true, 61.0), (19, 1, true, 0.0)],
                false,
                Some(70),
            ),
        ] {
            assert_eq!(tripped_after(&requests, has_others), wanted, "{what}");
        }
    }

    #[test]
    fn cleared_window_begins_anew() {
        let now = Instant::now();
        let mut window = Window::new(now);
        (0..40).for_each(|_| window.count(now, 1, true));
        assert_eq!(
            window.excess(now),
            Some(Excess {
                share: FailureShare {
                    failures: 40,
                    requests: 40
                },
                only: Some(1)
            })
        );
        window.clear();
        assert_eq!(window.excess(now), None);
        assert!(!window.has_other(now, 2));
    }

    #[test]
    fn others_are_clients_of_last_minute() {
        let now = Instant::now();
        let mut window = Window::new(now);
        window.count(now, 1, false);
        assert_eq!(
            [window.has_other(now, 1), window.has_other(now, 2)],
            [false, true]
        );
        assert!(!window.has_other(now + Duration::from_secs(60), 2));
    }
}
