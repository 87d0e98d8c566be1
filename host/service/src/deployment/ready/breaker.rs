//! Rules of the circuit breaker: too many failures in a row, or too large a share of failures.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rostro_common::digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::executor::Client;

/// Time for which a request counts for the share, in seconds.
const WINDOW: u64 = 60;

/// Time for which a node of a fleet is not ready after a trip.
pub(super) const TRIP_TIME: Duration = Duration::from_secs(WINDOW);

/// The fewest requests that make a share.
const FEWEST: u64 = 20;

/// Limit of failures in a row from which on the breaker is off, the rule of the share included.
pub(crate) const OFF: u32 = 10_000;

/// The rule that takes a revision out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// This many requests failed in a row.
    InARow(u32),
    /// More than half of the requests of the last minute failed.
    Share(FailureShare),
}

/// Failures and requests of the last minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailureShare {
    pub failures: u64,
    pub requests: u64,
}

/// Number of times that each rule fired since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TripCounts {
    /// Revisions taken out after failures in a row.
    pub in_a_row: u64,
    /// Revisions taken out by the share of failures.
    pub share: u64,
    /// Failures in a row of an active revision that stayed, because no other could serve.
    pub in_a_row_stuck: u64,
    /// Shares of failures of an active revision that stayed, because no other could serve.
    pub share_stuck: u64,
    /// Failures in a row of an active revision that serves on other nodes.
    #[serde(default)]
    pub in_a_row_local: u64,
    /// Shares of failures of an active revision that serves on other nodes.
    #[serde(default)]
    pub share_local: u64,
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

    /// Counts a rule that fired on this node alone.
    pub(crate) fn count_local(&mut self, rule: Rule) {
        let count = match rule {
            Rule::InARow(_) => &mut self.in_a_row_local,
            Rule::Share(_) => &mut self.share_local,
        };
        *count += 1;
    }

    /// Returns the counts with the rule's name and whether the revision was `broken` or `stuck`, or
    /// this node alone was not ready (`local`).
    pub fn counts(self) -> [(&'static str, &'static str, u64); 6] {
        [
            ("in_a_row", "broken", self.in_a_row),
            ("in_a_row", "stuck", self.in_a_row_stuck),
            ("share", "broken", self.share),
            ("share", "stuck", self.share_stuck),
            ("in_a_row", "local", self.in_a_row_local),
            ("share", "local", self.share_local),
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

/// Too large a share of failures, and the client if there is only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    pub share: FailureShare,
    /// The client, if all requests are from one.
    pub only: Option<u64>,
}

impl Excess {
    /// Returns true if the breaker trips. Requests of one client trip it only if `has_others`
    /// returns false, so that one client cannot take out a revision that serves others.
    pub(crate) fn is_enough(&self, has_others: impl FnOnce(u64) -> bool) -> bool {
        self.only.is_none_or(|client| !has_others(client))
    }
}

/// Numbers of clients, which mean nothing outside this process, or the fleet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientNumbers {
    salt: Uuid,
}

impl ClientNumbers {
    /// Creates the numbers of a gallery that nodes share, or random ones.
    pub(crate) fn new(gallery: Option<Uuid>) -> Self {
        Self {
            salt: gallery.unwrap_or_else(Uuid::now_v7),
        }
    }

    /// Returns the number of a client.
    pub(crate) fn number(self, client: &Client) -> u64 {
        // The same on all nodes.
        let digest = Sha256Digest::of(format!("{} {client:?}", self.salt).as_bytes());
        let [first, ..] = digest.0.as_chunks::<8>().0 else {
            return 0;
        };
        u64::from_le_bytes(*first)
    }
}

/// The clients of a window's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Clients {
    /// No request.
    #[default]
    None,
    /// One client.
    One(u64),
    /// Several clients.
    Several,
}

impl Clients {
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (clients, Self::None) | (Self::None, clients) => clients,
            (Self::One(one), Self::One(other)) if one == other => self,
            _ => Self::Several,
        }
    }
}

/// Requests of a revision within the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecentRequests {
    pub requests: u64,
    pub failures: u64,
    pub clients: Clients,
}

impl RecentRequests {
    /// Returns the requests of two nodes.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            failures: self.failures.saturating_add(other.failures),
            clients: self.clients.and(other.clients),
        }
    }

    /// Returns the share of failures if it is too large: more than half of at least twenty
    /// requests.
    pub(crate) fn excess(self) -> Option<Excess> {
        let Self {
            requests,
            failures,
            clients,
        } = self;
        let only = match clients {
            Clients::One(client) => Some(client),
            Clients::None | Clients::Several => None,
        };
        (requests >= FEWEST && failures > requests / 2).then_some(Excess {
            share: FailureShare { failures, requests },
            only,
        })
    }
}

/// The requests of one second.
#[derive(Clone, Copy, Debug)]
struct Second {
    /// Its number, counted from the window's beginning.
    second: u64,
    requests: u64,
    failures: u64,
    clients: Clients,
}

/// Successes and failures of the last minute, by the second.
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
        let second = self.expire(now);
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
        self.recent(now).excess()
    }

    /// Returns the requests of the last minute.
    pub(crate) fn recent(&mut self, now: Instant) -> RecentRequests {
        self.expire(now);
        let seconds = self.seconds.iter();
        seconds.fold(RecentRequests::default(), |recent, second| RecentRequests {
            requests: recent.requests + second.requests,
            failures: recent.failures + second.failures,
            clients: recent.clients.and(second.clients),
        })
    }

    /// Returns true if another client than this asked within the last minute.
    pub(crate) fn has_other(&mut self, now: Instant, client: u64) -> bool {
        self.recent(now).clients.and(Clients::One(client)) == Clients::Several
    }

    /// Removes all requests.
    pub(crate) fn clear(&mut self) {
        self.seconds.clear();
    }

    /// Removes expired requests. Returns the number of the current second.
    fn expire(&mut self, now: Instant) -> u64 {
        // Another thread may have counted a later request.
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

    /// Consecutive requests: their number, client, whether they fail, and the seconds before each.
    type Requests = (u64, u64, bool, f64);

    /// Returns the number of requests after which the breaker first trips.
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
        for (case, requests, has_others, expected) in [
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
            // One request every three seconds: a minute holds exactly twenty.
            ("twenty a minute", vec![(40, 1, true, 3.0)], false, Some(20)),
            (
                "fewer than twenty a minute",
                vec![(400, 1, true, 3.25)],
                false,
                None,
            ),
            (
                "expired successes",
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
                "failures after expired successes",
                vec![(50, 1, false, 0.1), (1, 1, true, 61.0), (19, 1, true, 0.0)],
                false,
                Some(70),
            ),
        ] {
            assert_eq!(tripped_after(&requests, has_others), expected, "{case}");
        }
    }

    #[test]
    fn cleared_window_is_empty() {
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
