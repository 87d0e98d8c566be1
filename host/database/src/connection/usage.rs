//! Counts of how a database is used.

use std::sync::atomic::{AtomicU64, Ordering};

use rostro_gallery::DatabaseUsage;

use super::Database;

/// Kind of a statement. The statements of a transaction count once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementKind {
    /// A read of people, groups or the feed.
    Read,
    /// A change of what is stored.
    Change,
    /// A join, a renewal, or a read of the leases.
    Lease,
    /// A read or a change of the audit log.
    Audit,
    /// A read or a change of sessions and deliveries.
    Session,
}

/// Kinds in the order of their counts, with their words for metrics.
const KINDS: [(StatementKind, &str); 5] = [
    (StatementKind::Read, "read"),
    (StatementKind::Change, "change"),
    (StatementKind::Lease, "lease"),
    (StatementKind::Audit, "audit"),
    (StatementKind::Session, "session"),
];

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct UsageCounts {
    pool_waits: AtomicU64,
    statements: [AtomicU64; KINDS.len()],
}

impl UsageCounts {
    pub(super) fn count_pool_wait(&self) {
        self.pool_waits.fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, kind: StatementKind) -> &AtomicU64 {
        let [read, change, lease, audit, session] = &self.statements;
        match kind {
            StatementKind::Read => read,
            StatementKind::Change => change,
            StatementKind::Lease => lease,
            StatementKind::Audit => audit,
            StatementKind::Session => session,
        }
    }
}

impl Database {
    /// Counts a statement.
    pub(crate) fn count(&self, kind: StatementKind) {
        self.counts.of(kind).fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the use of the connections.
    pub(crate) fn usage(&self) -> DatabaseUsage {
        let status = self.pool.status();
        DatabaseUsage {
            idle: status.available,
            used: status.size.saturating_sub(status.available),
            pool_waits: self.counts.pool_waits.load(Ordering::Relaxed),
            statements: KINDS
                .map(|(kind, word)| (word, self.counts.of(kind).load(Ordering::Relaxed))),
        }
    }
}
