//! Checker of a history: finds answers that the fleet's promises forbid.
//!
//! A client knows of an operation only when it began and when its answer arrived. The checker
//! reports a violation only if no order of the effects within these times explains the answer:
//!
//! - An answered change took effect between its begin and its end.
//! - An unclear change may take effect at any time after its begin. A statement can be held by the
//!   network or by a paused node for longer than any timeout, so no later moment rules it out, and
//!   no later deletion either.
//! - A refused change has no effect.
//!
//! [`routes`] has the rule for revisions.

pub(crate) mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use self::routes::Routes;
use super::history::{Entry, Operation, Outcome, Span};

/// What changes make true or false.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fact {
    Enrolled { person: String },
    Member { person: String, group: String },
}

impl Fact {
    fn person(&self) -> &str {
        match self {
            Self::Enrolled { person } | Self::Member { person, .. } => person,
        }
    }

    fn is_set_by(&self, operation: &Operation) -> bool {
        match (self, operation) {
            (Self::Enrolled { person }, Operation::Enroll { person: enrolled }) => {
                person == enrolled
            }
            (
                Self::Member { person, group },
                Operation::Join {
                    person: joined,
                    group: of,
                },
            ) => person == joined && group == of,
            _ => false,
        }
    }

    fn is_cleared_by(&self, operation: &Operation) -> bool {
        match (self, operation) {
            (_, Operation::Delete { person }) => self.person() == person,
            (
                Self::Member { person, group },
                Operation::Leave {
                    person: left,
                    group: of,
                },
            ) => person == left && group == of,
            _ => false,
        }
    }
}

/// What one node says after all faults are healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) node: usize,
    pub(crate) span: Span,
    /// Lists of people and groups.
    pub(crate) facts: BTreeSet<Fact>,
    /// Listed people who were recognised in a picture of theirs.
    pub(crate) recognized: BTreeSet<String>,
}

/// Broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A recognition named a person who cannot have been enrolled at that time.
    Named { person: String, entry: Entry },
    /// A recognition was answered by a revision that cannot have been active at that time.
    Served { revision: String, entry: Entry },
    /// At the end, a node has a fact that cannot be true.
    Leftover { node: usize, fact: Fact },
    /// At the end, a node lacks a fact that must be true.
    Lost { node: usize, fact: Fact },
    /// At the end, a node lists a person and does not recognise them.
    Unrecognized { node: usize, person: String },
    /// At the end, two nodes differ in a fact.
    Different { nodes: [usize; 2], fact: Fact },
}

impl Violation {
    /// Returns true if the violation depends on an operation.
    fn is_about(&self, operation: &Operation) -> bool {
        let person = match self {
            Self::Named { person, .. } | Self::Unrecognized { person, .. } => person,
            Self::Leftover { fact, .. }
            | Self::Lost { fact, .. }
            | Self::Different { fact, .. } => fact.person(),
            Self::Served { .. } => return routes::is_change(operation),
        };
        operation.changed() == Some(person)
    }

    /// Describes the violation, with the changes of the person or the routes.
    pub(crate) fn explain(&self, entries: &[Entry]) -> String {
        let changes = entries
            .iter()
            .filter(|entry| self.is_about(&entry.operation));
        changes.fold(self.to_string(), |text, entry| {
            format!("{text}\n    {entry}")
        })
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { person, entry } => write!(f, "{person} was named: {entry}"),
            Self::Served { revision, entry } => write!(f, "{revision} served: {entry}"),
            Self::Leftover { node, fact } => write!(f, "node {node} still has {fact:?}"),
            Self::Lost { node, fact } => write!(f, "node {node} lost {fact:?}"),
            Self::Unrecognized { node, person } => {
                write!(f, "node {node} lists {person} and does not recognise them")
            }
            Self::Different { nodes, fact } => write!(f, "nodes {nodes:?} differ in {fact:?}"),
        }
    }
}

/// Changes of a history, by person.
#[derive(Debug)]
pub(crate) struct Changes<'h>(BTreeMap<&'h str, Vec<&'h Entry>>);

impl<'h> Changes<'h> {
    /// Collects the changes that had or may have an effect.
    pub(crate) fn of(entries: &'h [Entry]) -> Self {
        let mut changes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for entry in entries {
            if let Some(person) = entry.operation.changed()
                && !matches!(entry.outcome, Outcome::Refused(_))
            {
                changes.entry(person).or_default().push(entry);
            }
        }
        Self(changes)
    }

    fn setting<'a>(&'a self, fact: &'a Fact) -> impl Iterator<Item = &'h Entry> + 'a {
        self.about(fact)
            .filter(|entry| fact.is_set_by(&entry.operation))
    }

    fn clearing<'a>(&'a self, fact: &'a Fact) -> impl Iterator<Item = &'h Entry> + 'a {
        self.about(fact)
            .filter(|entry| fact.is_cleared_by(&entry.operation))
    }

    fn about(&self, fact: &Fact) -> impl Iterator<Item = &'h Entry> + use<'h, '_> {
        self.0.get(fact.person()).into_iter().flatten().copied()
    }

    /// Returns true if a fact may have been seen in this time: a change that began before its end
    /// may have set it, and was not certainly undone before its begin.
    pub(crate) fn may_hold(&self, fact: &Fact, seen: Span) -> bool {
        let is_undone = |set: &Entry| {
            set.outcome == Outcome::Answered
                && self.clearing(fact).any(|clear| {
                    clear.outcome == Outcome::Answered
                        && set.span.precedes(clear.span)
                        && clear.span.precedes(seen)
                })
        };
        self.setting(fact)
            .any(|set| set.span.begin <= seen.end && !is_undone(set))
    }

    /// Returns true if a fact must be true at the end: an answered change set it after every change
    /// that cleared or may clear it.
    pub(crate) fn must_hold(&self, fact: &Fact) -> bool {
        let is_last = |set: &Entry| {
            self.clearing(fact)
                .all(|clear| clear.outcome == Outcome::Answered && clear.span.precedes(set.span))
        };
        self.setting(fact)
            .any(|set| set.outcome == Outcome::Answered && is_last(set))
    }

    /// Returns every fact that a change may have set.
    pub(crate) fn facts(&self) -> BTreeSet<Fact> {
        let operations = self.0.values().flatten().map(|entry| &entry.operation);
        let fact = |operation: &Operation| match operation {
            Operation::Enroll { person } => Some(Fact::Enrolled {
                person: person.clone(),
            }),
            Operation::Join { person, group } => Some(Fact::Member {
                person: person.clone(),
                group: group.clone(),
            }),
            _ => None,
        };
        operations.filter_map(fact).collect()
    }
}

/// Counts the answers that could have named a deleted person: those to pictures of people who were
/// enrolled and cannot be any more.
pub(crate) fn answers_after_deletions(entries: &[Entry]) -> usize {
    let changes = Changes::of(entries);
    let is_after_deletion = |entry: &&Entry| {
        let Operation::Recognize { person, .. } = &entry.operation else {
            return false;
        };
        let person = person.clone();
        let fact = Fact::Enrolled { person };
        let mut enrolments = changes.setting(&fact);
        entry.outcome == Outcome::Answered
            && enrolments.any(|enrolment| enrolment.span.precedes(entry.span))
            && !changes.may_hold(&fact, entry.span)
    };
    entries.iter().filter(is_after_deletion).count()
}

/// Checks a history and what each node says at the end.
pub(crate) fn check(entries: &[Entry], views: &[View]) -> Vec<Violation> {
    let changes = Changes::of(entries);
    let mut violations: Vec<_> = entries
        .iter()
        .flat_map(|entry| forbidden_names(&changes, entry))
        .collect();
    violations.extend(Routes::of(entries).forbidden(entries));
    for view in views {
        violations.extend(check_view(&changes, view));
    }
    for (first, second) in views.iter().zip(views.iter().skip(1)) {
        let differences = first.facts.symmetric_difference(&second.facts);
        violations.extend(differences.map(|fact| Violation::Different {
            nodes: [first.node, second.node],
            fact: fact.clone(),
        }));
    }
    violations
}

fn forbidden_names<'a>(
    changes: &'a Changes<'_>,
    entry: &'a Entry,
) -> impl Iterator<Item = Violation> + 'a {
    let names = match &entry.operation {
        Operation::Recognize { names, .. } => Some(names),
        _ => None,
    };
    let names = names.into_iter().flatten().cloned();
    names.filter_map(|person| {
        let fact = Fact::Enrolled { person };
        let may_hold = changes.may_hold(&fact, entry.span);
        (!may_hold).then(|| Violation::Named {
            person: fact.person().to_owned(),
            entry: entry.clone(),
        })
    })
}

fn check_view(changes: &Changes<'_>, view: &View) -> Vec<Violation> {
    let node = view.node;
    let leftovers = view
        .facts
        .iter()
        .filter(|fact| !changes.may_hold(fact, view.span))
        .map(|fact| Violation::Leftover {
            node,
            fact: fact.clone(),
        });
    let lost = changes
        .facts()
        .into_iter()
        .filter(|fact| changes.must_hold(fact) && !view.facts.contains(fact))
        .map(|fact| Violation::Lost { node, fact });
    let unrecognized = view.facts.iter().filter_map(|fact| match fact {
        Fact::Enrolled { person } if !view.recognized.contains(person) => {
            Some(Violation::Unrecognized {
                node,
                person: person.clone(),
            })
        }
        _ => None,
    });
    leftovers.chain(lost).chain(unrecognized).collect()
}

#[cfg(test)]
mod tests;
