//! The nodes of a database, for operators.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::connection::{Database, DatabaseError};
use crate::fleet::milliseconds;
use crate::fleet::settings::PIPELINE_SETTING;
use crate::fleet::stale::{StaleReads, StaleState};
use crate::store::{AuditLineOf, insert_command_lines};

/// The nodes with the number of the latest change.
#[derive(Clone, Debug)]
pub struct NodeList {
    /// Number of the latest change.
    pub changes: u64,
    /// Each lease, ordered by the name of its node. Expelled ones stay for an hour, and while their
    /// node may answer without a lease.
    pub nodes: Vec<NodeRow>,
    /// Whether nodes may answer without a lease.
    pub stale_reads: StaleReads,
}

/// A node under one lease.
#[derive(Clone, Debug)]
pub struct NodeRow {
    /// Name of the node.
    pub name: String,
    /// Its lease.
    pub lease: Uuid,
    /// Version of its program.
    pub version: String,
    /// State at its last renewal.
    pub state: NodeState,
    /// Whether it was ready then.
    pub is_ready: bool,
    /// Number up to which it applied the changes.
    pub applied: u64,
    /// When the lease was written, by the server's clock.
    pub joined_at: Timestamp,
    /// Time since the last renewal, by the server's clock.
    pub renewed: Duration,
    /// Settings that change answers.
    pub settings: BTreeMap<String, String>,
    /// For how long it may answer without the lease; zero if it may not.
    pub stale_limit: Duration,
}

/// State of a node at its last renewal. A node that stopped keeps its state until another one expels
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It applies what it missed, or compares its settings, and does not answer yet.
    Joining,
    /// It answers requests.
    Serving,
    /// It answers requests and is not ready, because an operator drains it.
    Draining,
    /// It stopped renewing its lease.
    Expelled,
}

impl NodeState {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Expelled => "expelled",
        }
    }
}

impl NodeList {
    /// Returns the number of changes that a node has not applied.
    pub fn lag(&self, node: &NodeRow) -> u64 {
        self.changes.saturating_sub(node.applied)
    }

    /// Returns the keys with different values among the nodes that are not expelled. A key that a
    /// program does not know is not compared, as at the join.
    pub fn different_keys(&self) -> BTreeSet<&str> {
        let live = || {
            let nodes = self.nodes.iter();
            nodes.filter(|node| node.state != NodeState::Expelled)
        };
        let keys: BTreeSet<&str> = live()
            .flat_map(|node| node.settings.keys().map(String::as_str))
            .collect();
        let values = |key: &str| -> BTreeSet<Option<&String>> {
            live()
                .map(|node| node.settings.get(key))
                .filter(|value| value.is_some() || key.starts_with(PIPELINE_SETTING))
                .collect()
        };
        keys.into_iter()
            .filter(|key| values(key).len() > 1)
            .collect()
    }
}

impl NodeRow {
    fn of(row: &Row) -> Result<Self, DatabaseError> {
        // A row of another program may have something else.
        let settings = row.try_get(9).map(|Json(settings)| settings);
        let settings = settings.unwrap_or_default();
        let state = match (row.get(4), row.get(5), row.get(6)) {
            (true, ..) => NodeState::Expelled,
            (_, false, _) => NodeState::Joining,
            (_, true, true) => NodeState::Draining,
            (_, true, false) => NodeState::Serving,
        };
        Ok(Self {
            lease: row.get(1),
            name: row.get(2),
            version: row.get(3),
            state,
            is_ready: state == NodeState::Serving && row.get(14),
            applied: u64::try_from(row.get::<_, i64>(7)).unwrap_or_default(),
            joined_at: row.get(8),
            renewed: Duration::try_from_secs_f64(row.get(10)).unwrap_or_default(),
            settings,
            stale_limit: milliseconds(row.get(11)),
        })
    }
}

/// Lists the nodes.
///
/// # Errors
///
/// If a statement fails.
pub fn list(database: &Database) -> Result<NodeList, DatabaseError> {
    database.wait(async {
        let client = database.client().await?;
        let rows = client
            .query(
                "SELECT counter, lease, node, version, is_expelled, is_serving, is_draining, \
                 applied, joined_at, settings, \
                 greatest(0, extract(epoch FROM clock_timestamp() - renewed_at))::float8, \
                 lease.stale_ms, stale_reads, gallery.stale_ms, is_ready \
                 FROM gallery LEFT JOIN lease ON true ORDER BY node, joined_at",
                &[],
            )
            .await?;
        let first = rows
            .first()
            .ok_or(DatabaseError::Damaged("the row of the gallery"))?;
        let nodes = rows
            .iter()
            .filter(|row| row.get::<_, Option<Uuid>>(1).is_some())
            .map(NodeRow::of)
            .collect::<Result<_, _>>()?;
        Ok(NodeList {
            changes: u64::try_from(first.get::<_, i64>(0)).unwrap_or_default(),
            nodes,
            stale_reads: StaleReads {
                state: StaleState::of(first.get(12)),
                limit: milliseconds(first.get(13)),
                ..StaleReads::default()
            },
        })
    })
}

/// Returns the role of a command's connection.
///
/// # Errors
///
/// If the statement fails.
pub fn role(database: &Database) -> Result<String, DatabaseError> {
    database.wait(async {
        let client = database.client().await?;
        let row = client.query_one("SELECT session_user::text", &[]).await?;
        Ok(row.get(0))
    })
}

/// Drains a node, or ends that, and stores the audit line with it. The node notices when it renews
/// its lease.
///
/// # Errors
///
/// [`DatabaseError::UnknownNode`] with the names of the nodes. Or if a statement fails.
pub fn set_draining(
    database: &Database,
    name: &str,
    is_draining: bool,
    audit: AuditLineOf<'_>,
) -> Result<(), DatabaseError> {
    database.wait(async {
        let mut client = database.client().await?;
        let transaction = client.transaction().await?;
        let row = transaction
            .query_one(
                "WITH live AS (SELECT lease, is_draining FROM lease \
                    WHERE node = $1 AND NOT is_expelled FOR UPDATE), \
                 changed AS (UPDATE lease SET is_draining = $2 FROM live \
                    WHERE lease.lease = live.lease AND live.is_draining <> $2 RETURNING 1) \
                 SELECT (SELECT count(*) FROM live), (SELECT count(*) FROM changed)",
                &[&name, &is_draining],
            )
            .await?;
        let (live, changed): (i64, i64) = (row.get(0), row.get(1));
        if live > 0 {
            insert_command_lines(&transaction, &audit(changed > 0)).await?;
            return Ok(transaction.commit().await?);
        }
        let known = transaction
            .query(
                "SELECT DISTINCT node FROM lease WHERE NOT is_expelled ORDER BY node",
                &[],
            )
            .await?;
        Err(DatabaseError::UnknownNode {
            name: name.to_owned(),
            known: known.iter().map(|row| row.get(0)).collect(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, state: NodeState, settings: &[(&str, &str)]) -> NodeRow {
        let settings = settings.iter();
        NodeRow {
            name: name.to_owned(),
            lease: Uuid::nil(),
            version: "1".to_owned(),
            state,
            is_ready: state == NodeState::Serving,
            applied: 3,
            joined_at: Timestamp::UNIX_EPOCH,
            renewed: Duration::ZERO,
            settings: settings
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            stale_limit: Duration::ZERO,
        }
    }

    #[test]
    fn differences_ignore_expelled_nodes() {
        let list = NodeList {
            changes: 5,
            nodes: vec![
                node("one", NodeState::Serving, &[("pack", "a"), ("new", "1")]),
                node(
                    "two",
                    NodeState::Joining,
                    &[("pack", "a"), ("setting.b", "1")],
                ),
                node("three", NodeState::Expelled, &[("pack", "b")]),
            ],
            stale_reads: StaleReads::default(),
        };
        assert_eq!(list.different_keys(), BTreeSet::from(["setting.b"]));
        assert_eq!(list.lag(&list.nodes[0]), 2);
    }
}
