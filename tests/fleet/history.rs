//! History of a run: what clients asked of which node, when, and what they learned.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Enroll {
        person: String,
    },
    Delete {
        person: String,
    },
    Join {
        person: String,
        group: String,
    },
    Leave {
        person: String,
        group: String,
    },
    /// Recognition of a person's picture. `names` has every id in the answer, also those of
    /// candidates. `revision` is that of the answer, and `is_stale` whether it was given without a
    /// lease.
    Recognize {
        person: String,
        names: BTreeSet<String>,
        revision: Option<String>,
        is_stale: bool,
    },
    Activate {
        revision: String,
    },
    /// `revision` is active after that, and unknown without an answer.
    RollBack {
        revision: Option<String>,
    },
}

impl Operation {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Enroll { .. } => "enrolment",
            Self::Delete { .. } => "deletion",
            Self::Join { .. } => "addition to a group",
            Self::Leave { .. } => "removal from a group",
            Self::Recognize { .. } => "recognition",
            Self::Activate { .. } => "activation",
            Self::RollBack { .. } => "rollback",
        }
    }

    /// Returns the person that the operation changes.
    pub(crate) fn changed(&self) -> Option<&str> {
        match self {
            Self::Enroll { person }
            | Self::Delete { person }
            | Self::Join { person, .. }
            | Self::Leave { person, .. } => Some(person),
            Self::Recognize { .. } | Self::Activate { .. } | Self::RollBack { .. } => None,
        }
    }
}

/// What the client learned of the effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The operation took effect between its begin and its end.
    Answered,
    /// The operation had no effect, and will have none.
    Refused(String),
    /// The operation may take effect at any time after its begin, or never.
    Unclear(String),
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("200"),
            Self::Refused(answer) | Self::Unclear(answer) => f.write_str(answer),
        }
    }
}

/// Time from before a request was sent until after its answer arrived, since the run's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
}

impl Span {
    /// Returns true if this ended before the other began.
    pub(crate) fn precedes(self, other: Self) -> bool {
        self.end < other.begin
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [begin, end] = [self.begin, self.end].map(|time| time.as_secs_f64());
        write!(f, "{begin:.6} to {end:.6}")
    }
}

/// One operation of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) span: Span,
    pub(crate) node: usize,
    pub(crate) operation: Operation,
    pub(crate) outcome: Outcome,
}

impl Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (span, node, outcome) = (self.span, self.node, &self.outcome);
        write!(f, "{span} node {node}: {:?}: {outcome}", self.operation)
    }
}

/// History that all clients write.
#[derive(Debug)]
pub(crate) struct History {
    origin: Instant,
    entries: Mutex<Vec<Entry>>,
}

impl History {
    /// Returns an empty history. Its times count from now.
    pub(crate) fn begin() -> Self {
        Self {
            origin: Instant::now(),
            entries: Mutex::default(),
        }
    }

    /// Returns the time since the run's start.
    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Runs a request at a node and records it. Returns its outcome.
    pub(crate) fn record(
        &self,
        node: usize,
        request: impl FnOnce() -> (Operation, Outcome),
    ) -> Outcome {
        let begin = self.now();
        let (operation, outcome) = request();
        let span = Span {
            begin,
            end: self.now(),
        };
        self.entries.lock().unwrap().push(Entry {
            span,
            node,
            operation,
            outcome: outcome.clone(),
        });
        outcome
    }

    /// Returns the operations in the order of their ends.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }
}

/// Counts the answers without a lease.
pub(crate) fn stale_answers(entries: &[Entry]) -> usize {
    let is_stale = |entry: &&Entry| {
        matches!(entry.operation, Operation::Recognize { is_stale: true, .. })
            && entry.outcome == Outcome::Answered
    };
    entries.iter().filter(is_stale).count()
}

/// Counts operations by kind and outcome.
pub(crate) fn counts(entries: &[Entry]) -> BTreeMap<(&'static str, String), usize> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        let key = (entry.operation.kind(), entry.outcome.to_string());
        *counts.entry(key).or_default() += 1;
    }
    counts
}
