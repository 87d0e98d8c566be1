//! Rows of leases, and which of them ended.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use rostro_gallery::NodeHealth;
use tokio_postgres::Row;
use uuid::Uuid;

use super::membership::margin;
use super::position::Epoch;
use super::stale::{StaleReads, StaleState};
use crate::connection::DatabaseError;

/// The leases and the setting of stale reads, read in one snapshot.
#[derive(Clone, Debug)]
pub(crate) struct LeaseList {
    pub epoch: Epoch,
    /// Whether every lease of an earlier epoch has ended.
    pub is_settled: bool,
    /// Leases that are not expelled.
    pub leases: Vec<LeaseRow>,
    pub stale: StaleReads,
    /// Expelled leases of nodes that may answer without one.
    pub stale_readers: Vec<LeaseRow>,
}

/// A lease of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub lease: Uuid,
    pub node: String,
    pub length: Duration,
    /// Number of renewals.
    pub renewed: i64,
    /// Every change up to this number is applied.
    pub applied: i64,
    /// What the node reports of its requests.
    pub health: NodeHealth,
    /// For how long the node may answer without the lease.
    pub stale_limit: Duration,
    /// Change of the setting of stale reads that the node knows.
    pub stale_number: i64,
    is_expelled: bool,
}

impl LeaseList {
    pub(crate) async fn read(client: &ClientWrapper) -> Result<Self, DatabaseError> {
        let statement = client
            .prepare_cached(
                "SELECT epoch(), coalesce(settled_epoch = epoch(), false), \
                 lease, node, length_ms, renewed, applied, \
                 is_serving AND NOT is_draining AND is_ready, health, \
                 lease.stale_ms, lease.stale_number, is_expelled, \
                 stale_reads, gallery.stale_ms, gallery.stale_number, stale_epoch \
                 FROM gallery LEFT JOIN lease ON NOT is_expelled OR lease.stale_ms > 0",
            )
            .await?;
        let rows = client.query(&statement, &[]).await?;
        let first = rows
            .first()
            .ok_or(DatabaseError::Damaged("the row of the gallery"))?;
        let rows_of_leases = rows.iter().filter_map(LeaseRow::of);
        let (stale_readers, leases) = rows_of_leases.partition(|lease| lease.is_expelled);
        Ok(Self {
            epoch: first.get::<_, &str>(0).into(),
            is_settled: first.get(1),
            leases,
            stale: StaleReads {
                state: StaleState::of(first.get(12)),
                limit: milliseconds(first.get(13)),
                number: first.get(14),
                epoch: first.get::<_, Option<&str>>(15).map(Into::into),
            },
            stale_readers,
        })
    }
}

impl LeaseList {
    /// Returns true if every node has reported that it knows that stale reads were turned off.
    /// Leases that a failover lost have no row.
    pub(super) fn can_end_stale_reads(&self) -> bool {
        self.stale.state == StaleState::Ending
            && self.stale.epoch.as_ref() == Some(&self.epoch)
            && self.stale_readers.is_empty()
            && self
                .leases
                .iter()
                .all(|lease| lease.stale_number >= self.stale.number)
    }

    /// Returns the names of the nodes without a lease that may answer. While stale reads end, also
    /// those that may not know it.
    pub(crate) fn stale_nodes(&self) -> Vec<String> {
        let is_ending = self.stale.state == StaleState::Ending;
        let uninformed = self
            .leases
            .iter()
            .filter(|lease| is_ending && lease.stale_number < self.stale.number);
        let nodes = self.stale_readers.iter().chain(uninformed);
        let names: BTreeSet<&String> = nodes.map(|lease| &lease.node).collect();
        names.into_iter().cloned().collect()
    }
}

impl LeaseRow {
    fn of(row: &Row) -> Option<Self> {
        Some(Self {
            lease: row.get::<_, Option<Uuid>>(2)?,
            node: row.get(3),
            length: milliseconds(row.get(4)),
            renewed: row.get(5),
            applied: row.get(6),
            health: NodeHealth {
                is_ready: row.get(7),
                report: row.get(8),
            },
            stale_limit: milliseconds(row.get(9)),
            stale_number: row.get(10),
            is_expelled: row.get(11),
        })
    }
}

/// Converts a number of the database, which is never negative.
pub(crate) fn milliseconds(number: i32) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or_default())
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
    /// Expelled leases of nodes that may answer without one.
    stale_readers: HashMap<Uuid, Duration>,
    /// Number of the change that began to end stale reads.
    ending: Option<(i64, Duration)>,
}

/// What became of stale reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EndedStaleReads {
    /// Expelled leases under which no node answers any more.
    pub leases: Vec<Uuid>,
    /// Whether no node can believe any more that it may answer without a lease.
    pub has_ended: bool,
}

impl Watch {
    /// Records leases that were *answered* at a time since the boot. Returns those that did not
    /// change for their length and a margin, so that their node no longer relies on them.
    pub(super) fn observe(&mut self, list: &LeaseList, now: Duration) -> Vec<LeaseRow> {
        if self.epoch.as_ref().map(|(epoch, _)| epoch) != Some(&list.epoch) {
            self.epoch = Some((list.epoch.clone(), now));
            self.leases.clear();
            self.stale_readers.clear();
            self.ending = None;
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

    /// Records stale readers after [`Self::observe`]. A node counts the time from its last renewal,
    /// which was before its lease was seen as expelled, and before stale reads were seen to end.
    pub(super) fn observe_stale_reads(
        &mut self,
        list: &LeaseList,
        now: Duration,
    ) -> EndedStaleReads {
        let watched = std::mem::take(&mut self.stale_readers);
        let mut ended = EndedStaleReads {
            has_ended: list.can_end_stale_reads(),
            leases: Vec::new(),
        };
        for row in &list.stale_readers {
            let since = watched.get(&row.lease).copied().unwrap_or(now);
            self.stale_readers.insert(row.lease, since);
            if now.saturating_sub(since) > row.stale_limit + margin(row.stale_limit) {
                ended.leases.push(row.lease);
            }
        }
        if list.stale.state != StaleState::Ending {
            self.ending = None;
            return ended;
        }
        let since = match self.ending {
            Some((number, since)) if number == list.stale.number => since,
            _ => now,
        };
        self.ending = Some((list.stale.number, since));
        let limit = list.stale.limit;
        ended.has_ended |= now.saturating_sub(since) > limit + margin(limit);
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

    fn row(renewed: i64) -> LeaseRow {
        LeaseRow {
            lease: Uuid::nil(),
            node: "one".to_owned(),
            length: LENGTH,
            renewed,
            applied: 0,
            health: NodeHealth {
                is_ready: true,
                report: String::new(),
            },
            stale_limit: Duration::ZERO,
            stale_number: 0,
            is_expelled: false,
        }
    }

    fn list(epoch: &str, renewed: i64) -> LeaseList {
        LeaseList {
            epoch: epoch.into(),
            is_settled: true,
            leases: vec![row(renewed)],
            stale: StaleReads::default(),
            stale_readers: Vec::new(),
        }
    }

    /// Returns a list after stale reads were turned off, with one live node.
    fn ending(number: i64) -> LeaseList {
        LeaseList {
            stale: StaleReads {
                state: StaleState::Ending,
                limit: LENGTH,
                number,
                epoch: Some("a".into()),
            },
            ..list("a", 1)
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

    #[test]
    fn stale_reads_end_when_all_know() {
        let mut list = ending(2);
        assert!(!list.can_end_stale_reads());
        list.leases[0].stale_number = 2;
        assert!(list.can_end_stale_reads());
        list.stale_readers.push(row(1));
        assert!(!list.can_end_stale_reads());
        list.stale_readers.clear();
        list.epoch = "b".into();
        assert!(!list.can_end_stale_reads());
    }

    #[test]
    fn stale_reads_end_after_limit() {
        let mut watch = Watch::default();
        let mut end = |list: &LeaseList, seconds| watch.observe_stale_reads(list, at(seconds));
        assert!(!end(&ending(2), 0).has_ended);
        assert!(!end(&ending(2), 11).has_ended);
        assert!(!end(&ending(4), 12).has_ended);
        assert!(!end(&ending(4), 23).has_ended);
        assert!(end(&ending(4), 24).has_ended);
    }

    #[test]
    fn expelled_reader_ends_after_limit() {
        let mut watch = Watch::default();
        let mut list = list("a", 1);
        list.stale.state = StaleState::On;
        list.stale_readers.push(LeaseRow {
            stale_limit: LENGTH,
            is_expelled: true,
            ..row(1)
        });
        let mut end = |seconds| watch.observe_stale_reads(&list, at(seconds)).leases;
        assert!(end(0).is_empty() && end(11).is_empty());
        assert_eq!(end(12), [Uuid::nil()]);
    }
}
