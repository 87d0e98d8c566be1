//! Fleet hammer: several nodes on one PostgreSQL, under load and faults, with a checked history.
#![allow(
    dead_code,
    unused_imports,
    reason = "each program that includes this module uses a part of it, and one runs no unit tests"
)]

pub(crate) mod checker;
mod cluster;
mod database;
mod faces;
pub(crate) mod faults;
pub(crate) mod history;
mod load;
mod operator;
pub(crate) mod outage;
pub(crate) mod people;
pub(crate) mod planted;
pub(crate) mod proxy;
mod stale;
mod view;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::checker::routes::{self, Routes};
use self::checker::{Changes, View, Violation};
use self::cluster::{Cluster, Leases};
use self::faults::{Fault, FaultKind, Schedule};
use self::history::{Entry, History, Span};
use self::load::Load;
use self::operator::Operator;
use crate::harness::holds_within;

/// Longest time for all nodes to agree after all faults are healed.
const SETTLE: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) lease: Duration,
    /// Clients of each node.
    pub(crate) clients: usize,
    /// People at a time.
    pub(crate) people: usize,
    /// Longest healthy time before a fault.
    pub(crate) calm: Duration,
    /// Sequences of faults that run concurrently.
    pub(crate) sequences: usize,
    pub(crate) length: Length,
    /// Folder of the nodes, with their logs.
    pub(crate) folder: PathBuf,
}

/// When faults and load end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    /// After this number of faults in each sequence.
    Faults(usize),
    Time(Duration),
}

/// Result of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) entries: Vec<Entry>,
    pub(crate) faults: Vec<(Span, Fault)>,
    /// Times in which nodes could answer without a lease.
    stale: Vec<Span>,
    views: Vec<View>,
    /// Time until all nodes agreed.
    settled: Duration,
    violations: Vec<Violation>,
}

/// Runs the hammer.
pub(crate) fn run(plan: &Plan) -> Report {
    clear(&plan.folder);
    let cluster = Cluster::start(plan.nodes, Leases::Checked(plan.lease), &plan.folder);
    let history = History::begin();
    let mut rng = Rng::with_seed(plan.seed);
    let mut operator = Operator::prepare(&cluster, &history);
    let (faults, stale) = under_load(plan, &cluster, &history, &mut rng, &mut operator);
    cluster.heal();
    let healed = Instant::now();
    operator.finish(&mut rng, SETTLE);
    // The checker reports what still differs after that.
    holds_within(SETTLE, || {
        let lists = view::lists(&cluster, &history);
        lists.is_some_and(|lists| lists.windows(2).all(|pair| pair[0] == pair[1]))
    });
    let settled = healed.elapsed();
    let views = view::read(&cluster, &history);
    let entries = history.entries();
    write(&plan.folder.join("history"), &entries, &faults);
    let views = views.unwrap_or_else(|| panic!("nodes do not answer after {settled:?}"));
    let violations = checker::check(&entries, &views);
    Report {
        entries,
        faults,
        stale,
        views,
        settled,
        violations,
    }
}

fn clear(folder: &Path) {
    if folder.exists() {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

/// Writes operations and faults in the order of their begin.
fn write(file: &Path, entries: &[Entry], faults: &[(Span, Fault)]) {
    let entries = entries.iter().map(|entry| (entry.span, entry.to_string()));
    let faults = faults
        .iter()
        .map(|(span, fault)| (*span, format!("{span} {fault:?}")));
    let mut lines: Vec<_> = entries.chain(faults).collect();
    lines.sort_by_key(|(span, _)| span.begin);
    let text: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
    std::fs::write(file, text).unwrap();
}

/// Causes faults while clients send requests. Returns the faults, and the times of stale reads.
fn under_load(
    plan: &Plan,
    cluster: &Cluster,
    history: &History,
    seeds: &mut Rng,
    operator: &mut Operator<'_>,
) -> (Vec<(Span, Fault)>, Vec<Span>) {
    let (load, watchers) = Load::new(cluster, history, plan.people);
    let sequences: Vec<_> = (0..plan.sequences)
        .map(|_| Schedule::new(seeds.u64(..), plan.nodes, plan.lease, plan.calm))
        .collect();
    let running = AtomicUsize::new(plan.sequences);
    let goes_on = || running.load(Ordering::Relaxed) > 0;
    std::thread::scope(|scope| {
        for node in (0..plan.nodes).cycle().take(plan.nodes * plan.clients) {
            let (mut rng, load) = (seeds.fork(), &load);
            scope.spawn(move || load.send(node, &mut rng, goes_on));
        }
        let mut rng = seeds.fork();
        scope.spawn(move || operator.change(&mut rng, goes_on));
        let mut rng = seeds.fork();
        let stale = scope.spawn(move || stale::switch(cluster, history, &mut rng, goes_on));
        for watcher in watchers {
            let load = &load;
            scope.spawn(move || load.watch(&watcher, goes_on));
        }
        let threads: Vec<_> = sequences
            .into_iter()
            .map(|sequence| {
                let running = &running;
                scope.spawn(move || {
                    // Also if this thread panics, because the clients would go on for ever.
                    let _end = scopeguard::guard((), |()| {
                        running.fetch_sub(1, Ordering::Relaxed);
                    });
                    cause(plan.length, sequence, cluster, history)
                })
            })
            .collect();
        let faults = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        (faults, stale.join().unwrap())
    })
}

fn cause(
    length: Length,
    sequence: Schedule,
    cluster: &Cluster,
    history: &History,
) -> Vec<(Span, Fault)> {
    let count = match length {
        Length::Faults(count) => count,
        Length::Time(_) => usize::MAX,
    };
    let is_over = || matches!(length, Length::Time(time) if history.now() >= time);
    sequence
        .take(count)
        .take_while(|_| !is_over())
        .map(|fault| {
            let begin = history.now();
            fault.cause(cluster);
            let end = history.now();
            (Span { begin, end }, fault)
        })
        .collect()
}

impl Report {
    /// Returns true if no promise was broken.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Returns the number of answered operations of a kind.
    pub(crate) fn answered(&self, kind: &str) -> usize {
        let counts = history::counts(&self.entries);
        counts.get(&(kind, "200".to_owned())).copied().unwrap_or(0)
    }

    /// Returns the number of answered changes of routes under load.
    pub(crate) fn answered_changes(&self) -> usize {
        let changes = ["activation", "rollback"].map(|kind| self.answered(kind));
        changes.iter().sum::<usize>() - operator::OUTSIDE_LOAD
    }

    /// Returns the number of answers that an old revision could have given.
    pub(crate) fn answers_after_changes(&self) -> usize {
        Routes::of(&self.entries).answers_after_changes(&self.entries)
    }

    /// Returns the number of answered recognitions by each revision.
    pub(crate) fn answers_by_revision(&self) -> BTreeMap<&str, usize> {
        routes::answers_by_revision(&self.entries)
    }

    /// Returns the number of answers that could have named a deleted person.
    pub(crate) fn answers_after_deletions(&self) -> usize {
        checker::answers_after_deletions(&self.entries)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| operation | outcome | count |\n|---|---|---|")?;
        for ((kind, outcome), count) in history::counts(&self.entries) {
            writeln!(f, "| {kind} | {outcome} | {count} |")?;
        }
        writeln!(f, "\n| fault | count |\n|---|---|")?;
        for kind in FaultKind::ALL {
            let faults = self.faults.iter();
            let count = faults.filter(|(_, fault)| fault.kind == kind).count();
            writeln!(f, "| {kind:?} | {count} |")?;
        }
        writeln!(f, "\n| recognitions by revision | count |\n|---|---|")?;
        for (revision, count) in self.answers_by_revision() {
            writeln!(f, "| {revision:.12} | {count} |")?;
        }
        let changes = Changes::of(&self.entries);
        let all = changes.facts();
        let certain = all.iter().filter(|fact| changes.must_hold(fact)).count();
        let ruled_out = self.views.first().map_or(0, |view| {
            let is_ruled_out = |fact: &&checker::Fact| !changes.may_hold(fact, view.span);
            all.iter().filter(is_ruled_out).count()
        });
        writeln!(
            f,
            "\nat the end: {certain} facts must hold, {ruled_out} must not, {} may; \
             nodes agreed after {:.1} s",
            all.len() - certain - ruled_out,
            self.settled.as_secs_f64()
        )?;
        writeln!(
            f,
            "stale reads were on {} times, {} answers without a lease",
            self.stale.len(),
            history::stale_answers(&self.entries)
        )?;
        writeln!(
            f,
            "{} answers to pictures of deleted people, {} answers that an old revision could have \
             given, {} violations",
            self.answers_after_deletions(),
            self.answers_after_changes(),
            self.violations.len()
        )?;
        let mut text = String::new();
        for violation in self.violations.iter().take(10) {
            writeln!(text, "- {}", violation.explain(&self.entries))?;
        }
        f.write_str(&text)
    }
}
