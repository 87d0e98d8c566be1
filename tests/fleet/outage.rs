//! The database away for some seconds, while clients send requests to all nodes.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;

use super::checker::{self, Violation};
use super::cluster::{Cluster, Leases};
use super::history::{Entry, History, Operation, Outcome, Span};
use super::load::Load;
use super::operator::caller;
use super::people::Person;
use crate::harness::eventually;

/// Time of load before the outage, and after it.
const CALM: Duration = Duration::from_secs(3);

/// Pause of a client between two recognitions.
const PAUSE: Duration = Duration::from_millis(5);

/// Longest time from the database's return until all nodes answer.
const RECOVERY: Duration = Duration::from_secs(2);

/// Delay of a renewal on a busy machine.
const SLACK: Duration = Duration::from_millis(500);

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) lease: Duration,
    /// Time from the end of the database's sessions until its start.
    pub(crate) outage: Duration,
    /// Whether nodes may answer without a lease.
    pub(crate) stale_reads: bool,
    /// Folder of the nodes, with their logs.
    pub(crate) folder: PathBuf,
}

/// Result of a run. Times are since the run's start.
#[derive(Debug)]
pub(crate) struct Report {
    nodes: usize,
    lease: Duration,
    entries: Vec<Entry>,
    /// From the order to stop the database until it accepted connections.
    outage: Span,
    /// Part of that in which the database certainly was not running.
    down: Duration,
    pub(crate) violations: Vec<Violation>,
}

/// Recognitions of one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) answered: usize,
    pub(crate) refused: usize,
}

/// Takes the database away under load.
pub(crate) fn run(plan: &Plan) -> Report {
    super::clear(&plan.folder);
    let cluster = Cluster::start(plan.nodes, Leases::Checked(plan.lease), &plan.folder);
    let history = History::begin();
    let person = Person::new("probe".to_owned());
    let callers: Vec<_> = (0..plan.nodes)
        .map(|node| caller(&cluster, &history, node).unwrap())
        .collect();
    assert_eq!(callers[0].enroll(&person), Outcome::Answered);
    eventually("all nodes know the person", || {
        callers.iter().all(|caller| caller.recognizes(&person))
    });
    if plan.stale_reads {
        cluster.allow_stale_reads();
    }
    let (load, _watchers) = Load::new(&cluster, &history, 8);
    let is_over = AtomicBool::new(false);
    let goes_on = || !is_over.load(Ordering::Relaxed);
    let mut seeds = Rng::with_seed(plan.seed);
    let outage = std::thread::scope(|scope| {
        for caller in &callers {
            let (mut rng, load, person) = (seeds.fork(), &load, &person);
            scope.spawn(move || load.send(caller.node, &mut rng, goes_on));
            scope.spawn(move || {
                while goes_on() {
                    caller.recognize(person, None);
                    std::thread::sleep(PAUSE);
                }
            });
        }
        // Also if this thread panics, because the clients would go on for ever.
        let _end = scopeguard::guard((), |()| is_over.store(true, Ordering::Relaxed));
        std::thread::sleep(CALM);
        let begin = history.now();
        cluster.take_database_away(plan.outage);
        let end = history.now();
        std::thread::sleep(CALM);
        Span { begin, end }
    });
    let entries = history.entries();
    super::write(&plan.folder.join("history"), &entries, &[]);
    Report {
        nodes: plan.nodes,
        lease: plan.lease,
        violations: checker::check(&entries, &[]),
        entries,
        outage,
        down: plan.outage,
    }
}

impl Report {
    /// Returns the recognitions that were answered or refused.
    fn recognitions(&self) -> impl Iterator<Item = (&Entry, bool)> {
        self.entries.iter().filter_map(|entry| {
            let is_recognition = matches!(entry.operation, Operation::Recognize { .. });
            // A group without members is unknown.
            let is_known = !matches!(entry.outcome, Outcome::Refused(_));
            (is_recognition && is_known).then(|| (entry, entry.outcome == Outcome::Answered))
        })
    }

    /// Counts the recognitions that began and ended in a phase.
    pub(crate) fn count(&self, phase: Span) -> Count {
        let mut count = Count::default();
        for (entry, is_answered) in self.recognitions() {
            if phase.begin <= entry.span.begin && entry.span.end < phase.end {
                match is_answered {
                    true => count.answered += 1,
                    false => count.refused += 1,
                }
            }
        }
        count
    }

    /// Returns the time from the outage until the first recognition was refused.
    pub(crate) fn first_refusal(&self) -> Option<Duration> {
        let refused = self.recognitions().filter(|(_, is_answered)| !is_answered);
        let ends = refused.map(|(entry, _)| entry.span.end.saturating_sub(self.outage.begin));
        ends.min()
    }

    /// Returns the time from the database's return until a node answered a recognition.
    fn return_of(&self, node: usize) -> Option<Duration> {
        let answered = self.recognitions().filter(|(entry, is_answered)| {
            *is_answered && entry.node == node && entry.span.begin >= self.lease_end()
        });
        let ends = answered.map(|(entry, _)| entry.span.end.saturating_sub(self.outage.end));
        ends.min()
    }

    /// Returns the time from the database's return until the first node answered.
    pub(crate) fn first_answer(&self) -> Option<Duration> {
        (0..self.nodes)
            .filter_map(|node| self.return_of(node))
            .min()
    }

    /// Returns the time from the database's return until all nodes answered.
    pub(crate) fn all_answer(&self) -> Option<Duration> {
        let times: Option<Vec<_>> = (0..self.nodes).map(|node| self.return_of(node)).collect();
        times?.into_iter().max()
    }

    /// Returns the latest end of a lease that was renewed before the outage.
    fn lease_end(&self) -> Duration {
        self.outage.begin + self.lease
    }

    /// Asserts that nodes answered while they had leases, and refused requests only without one.
    pub(crate) fn assert_recovered(&self) {
        assert_eq!(self.violations, [], "{self}");
        let [before, leased, unleased, _, after] =
            self.phases().map(|(_, phase)| self.count(phase));
        for phase in [before, leased, after] {
            assert!(phase.refused == 0 && phase.answered > 0, "{self}");
        }
        assert!(unleased.answered == 0 && unleased.refused > 0, "{self}");
        // A lease counts from its last renewal, which began at most a second before the outage.
        let renewal = (self.lease / 5).min(Duration::from_secs(1));
        let shortest = self.lease.mul_f64(0.9) - renewal - SLACK;
        assert!(self.first_refusal() >= Some(shortest), "{self}");
        assert!(
            self.all_answer().is_some_and(|time| time <= RECOVERY),
            "{self}"
        );
    }

    /// Asserts that no recognition was refused, because nodes answered without leases as well.
    pub(crate) fn assert_uninterrupted(&self) {
        assert_eq!(self.violations, [], "{self}");
        let counts = self.phases().map(|(_, phase)| self.count(phase));
        assert!(counts.iter().all(|count| count.refused == 0), "{self}");
        let [before, _, unleased, _, after] = counts;
        for phase in [before, unleased, after] {
            assert!(phase.answered > 0, "{self}");
        }
    }

    /// Returns the phases: before the outage, under the lease, without a lease, until all nodes
    /// answered, and after that.
    pub(crate) fn phases(&self) -> [(&'static str, Span); 5] {
        let [gone, back] = [self.outage.begin, self.outage.end];
        let refused = gone + self.first_refusal().unwrap_or(self.lease);
        // Nodes may reconnect before the harness does.
        let start = back.min(gone + self.down);
        let all = back + self.all_answer().unwrap_or_default();
        let span = |begin, end| Span { begin, end };
        [
            ("before the outage", span(Duration::ZERO, gone)),
            ("until the first refusal", span(gone, refused)),
            ("without a lease", span(self.lease_end(), start)),
            ("until all nodes answered", span(back, all)),
            ("after that", span(all, Duration::MAX)),
        ]
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| phase | answered | refused | share refused |\n|---|---|---|---|"
        )?;
        for (name, phase) in self.phases() {
            let Count { answered, refused } = self.count(phase);
            let share = refused as f64 / (answered + refused).max(1) as f64;
            writeln!(f, "| {name} | {answered} | {refused} | {share:.3} |")?;
        }
        let seconds = |time: Option<Duration>| match time {
            Some(time) => format!("{:.2} s", time.as_secs_f64()),
            None => "never".to_owned(),
        };
        let away = self.outage.end.saturating_sub(self.outage.begin);
        writeln!(
            f,
            "\nlease {:?}, database away for {:.1} s: first refusal after {}; after its return, \
             first answer after {}, answers of all nodes after {}; {} violations",
            self.lease,
            away.as_secs_f64(),
            seconds(self.first_refusal()),
            seconds(self.first_answer()),
            seconds(self.all_answer()),
            self.violations.len()
        )
    }
}
