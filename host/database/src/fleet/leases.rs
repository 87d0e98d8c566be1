//! Rows of leases, and which of them ended.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use rostro_gallery::NodeHealth;
use tokio_postgres::Row;
use uuid::Uuid;

use super::membership::margin;
use super::position::Epoch;
use crate::connection::DatabaseError;

/// The leases that are not expelled, read in one snapshot.
#[derive(Clone, Debug)]
pub(super) struct LeaseList {
    pub epoch: Epoch,
    /// Whether every lease of an earlier epoch has ended.
    pub is_settled: bool,
    pub leases: Vec<LeaseRow>,
}

/// A lease of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaseRow {
    pub lease: Uuid,
    pub node: String,
    pub length: Duration,
    /// Number of renewals.
    pub renewed: i64,
    /// Every change up to this number is applied.
    pub applied: i64,
    /// What the node reports of its requests.
    pub health: NodeHealth,
}

impl LeaseList {
    pub(super) async fn read(client: &ClientWrapper) -> Result<Self, DatabaseError> {
        let statement = client
            .prepare_cached(
                "SELECT epoch(), coalesce(settled_epoch = epoch(), false), \
                 lease, node, length_ms, renewed, applied, is_serving AND NOT is_draining, health \
                 FROM gallery LEFT JOIN lease ON NOT is_expelled",
            )
            .await?;
        let rows = client.query(&statement, &[]).await?;
        let first = rows
            .first()
            .ok_or(DatabaseError::Damaged("the row of the gallery"))?;
        Ok(Self {
            epoch: first.get::<_, &str>(0).into(),
            is_settled: first.get(1),
            leases: rows.iter().filter_map(LeaseRow::of).collect(),
        })
    }
}

impl LeaseRow {
    fn of(row: &Row) -> Option<Self> {
        Some(Self {
            lease: row.get::<_, Option<Uuid>>(2)?,
            node: row.get(3),
            length: Duration::from_millis(u64::try_from(row.get::<_, i32>(4)).unwrap_or_default()),
            renewed: row.get(5),
            applied: row.get(6),
            health: NodeHealth {
                is_ready: row.get(7),
                report: row.get(8),
            },
        })
    }
}

/// Marks a lease as expelled if it is still as it was watched: its node may have renewed it since.
pub(super) async fn expel(
    client: &ClientWrapper,
    lease: &LeaseRow,
    epoch: &Epoch,
) -> Result<bool, DatabaseError> {
    let statement = client
        .prepare_cached(
            "UPDATE lease SET is_expelled = true \
             WHERE lease = $1 AND renewed = $2 AND NOT is_expelled AND epoch() = $3",
        )
        .await?;
    let expelled = client
        .execute(&statement, &[&lease.lease, &lease.renewed, &&**epoch])
        .await?;
    Ok(expelled > 0)
}

/// Times since which leases are as they are, on this process's clock.
#[derive(Debug, Default)]
pub(super) struct Watch {
    epoch: Option<(Epoch, Duration)>,
    leases: HashMap<Uuid, (i64, Duration)>,
}

impl Watch {
    /// Records leases that were *answered* at a time since the boot. Returns those that did not
    /// change for their length and a margin, so that their node no longer relies on them.
    pub(super) fn observe(&mut self, list: &LeaseList, now: Duration) -> Vec<LeaseRow> {
        if self.epoch.as_ref().map(|(epoch, _)| epoch) != Some(&list.epoch) {
            self.epoch = Some((list.epoch.clone(), now));
            self.leases.clear();
        }
        let watched = std::mem::take(&mut self.leases);
        let mut ended = Vec::new();
        for row in &list.leases {
            let since = match watched.get(&row.lease) {
                Some((renewed, since)) if *renewed == row.renewed => *since,
                _ => now,
            };
            self.leases.insert(row.lease, (row.renewed, since));
            if now.saturating_sub(since) > row.length + margin(row.length) {
                ended.push(row.clone());
            }
        }
        ended
    }

    /// Returns true if leases of this length, which an earlier epoch may have had, have ended,
    /// because this process knows the epoch for long enough.
    pub(super) fn has_outlived(&self, epoch: &Epoch, length: Duration, now: Duration) -> bool {
        self.epoch.as_ref().is_some_and(|(known, since)| {
            known == epoch && now.saturating_sub(*since) > length + margin(length)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    fn list(epoch: &str, renewed: i64) -> LeaseList {
        LeaseList {
            epoch: epoch.into(),
            is_settled: true,
            leases: vec![LeaseRow {
                lease: Uuid::nil(),
                node: "one".to_owned(),
                length: LENGTH,
                renewed,
                applied: 0,
                health: NodeHealth {
                    is_ready: true,
                    report: String::new(),
                },
            }],
        }
    }

    #[test]
    fn unchanged_lease_ends_after_margin() {
        let mut watch = Watch::default();
        assert!(watch.observe(&list("a", 1), at(0)).is_empty());
        assert!(watch.observe(&list("a", 1), at(11)).is_empty());
        assert_eq!(watch.observe(&list("a", 1), at(12)).len(), 1);
    }

    #[test]
    fn renewal_and_epoch_restart_the_time() {
        let mut watch = Watch::default();
        watch.observe(&list("a", 1), at(0));
        assert!(watch.observe(&list("a", 2), at(12)).is_empty());
        assert!(watch.observe(&list("b", 2), at(24)).is_empty());
        assert!(!watch.has_outlived(&"b".into(), LENGTH, at(35)));
        assert!(watch.has_outlived(&"b".into(), LENGTH, at(36)));
        assert!(!watch.has_outlived(&"a".into(), LENGTH, at(36)));
    }
}
