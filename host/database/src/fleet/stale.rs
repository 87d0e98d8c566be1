//! Stale reads: answers without a lease, which an operator allows for outages of the database.
//!
//! A renewal tells the node whether it may. The row of its lease then says so, and keeps to say it
//! until the node reported that it knows otherwise. No deletion is answered with success meanwhile.
//! Stale reads that were turned off are `ending` until each live node reported that, and no expelled
//! lease is left of a node that may answer without it. At the latest they end after the limit by
//! which each node ends them on its own clock.

use std::collections::BTreeSet;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use uuid::Uuid;

use super::leases::LeaseList;
use super::position::Epoch;
use crate::connection::{Database, DatabaseError};

/// Time between two looks whether stale reads have ended.
const PAUSE: Duration = Duration::from_millis(50);

/// Setting of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaleReads {
    /// Whether nodes may answer without a lease.
    pub state: StaleState,
    /// For how long they may at most, from the last renewal on.
    pub limit: Duration,
    /// Number of changes of the setting.
    pub(crate) number: i64,
    /// Epoch since which every node that may has a row.
    pub(crate) epoch: Option<Epoch>,
}

/// State of [`StaleReads`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StaleState {
    /// No node answers without a lease.
    #[default]
    Off,
    /// Nodes may.
    On,
    /// They were turned off, and some node may not know it.
    Ending,
}

impl StaleState {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Ending => "ending",
        }
    }

    pub(crate) fn of(name: &str) -> Self {
        match name {
            "on" => Self::On,
            "ending" => Self::Ending,
            _ => Self::Off,
        }
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

/// Allows nodes to answer without a lease. Returns the setting: a limit that is shorter than the
/// present one counts only after stale reads have ended.
///
/// # Errors
///
/// If a statement fails.
pub fn turn_on(database: &Database, limit: Duration) -> Result<StaleReads, DatabaseError> {
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    database.wait(async {
        let client = database.client().await?;
        client
            .execute(
                "UPDATE gallery SET stale_reads = 'on', stale_number = stale_number + 1, \
                 stale_ms = CASE stale_reads WHEN 'off' THEN $1 ELSE greatest(stale_ms, $1) END, \
                 stale_epoch = CASE stale_reads WHEN 'off' THEN epoch() ELSE stale_epoch END",
                &[&limit],
            )
            .await?;
        Ok(LeaseList::read(&client).await?.stale)
    })
}

/// Ends stale reads, and waits until each node knows it. Returns the setting, and the nodes that
/// may not know it after `patience`.
///
/// # Errors
///
/// If a statement fails.
pub fn turn_off(
    database: &Database,
    patience: Duration,
) -> Result<(StaleReads, Vec<String>), DatabaseError> {
    database.wait(async {
        let client = database.client().await?;
        client
            .execute(
                "UPDATE gallery SET stale_reads = 'ending', stale_number = stale_number + 1 \
                 WHERE stale_reads = 'on'",
                &[],
            )
            .await?;
        let begun = tokio::time::Instant::now();
        loop {
            let mut list = LeaseList::read(&client).await?;
            if list.can_end_stale_reads() {
                end(&client, &list).await?;
                list = LeaseList::read(&client).await?;
            }
            if list.stale.state != StaleState::Ending || begun.elapsed() > patience {
                let nodes = list.stale_nodes();
                return Ok((list.stale, nodes));
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// Marks stale reads as off, unless they were turned on since.
pub(super) async fn end(client: &ClientWrapper, list: &LeaseList) -> Result<(), DatabaseError> {
    client
        .execute(
            "UPDATE gallery SET stale_reads = 'off' \
             WHERE stale_reads = 'ending' AND stale_number = $1 AND epoch() = $2",
            &[&list.stale.number, &&*list.epoch],
        )
        .await?;
    Ok(())
}

/// Records that no node answers without these leases any more.
pub(super) async fn forget(
    client: &ClientWrapper,
    leases: &[Uuid],
    epoch: &Epoch,
) -> Result<(), DatabaseError> {
    client
        .execute(
            "UPDATE lease SET stale_ms = 0 WHERE lease = ANY ($1) AND epoch() = $2",
            &[&leases, &&**epoch],
        )
        .await?;
    Ok(())
}
