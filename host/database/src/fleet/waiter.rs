//! Waiting until every node applied a change.

use std::time::{Duration, Instant};

use rostro_gallery::{PendingCause, PendingChange, SharedChange};
use tokio::time::{sleep, timeout_at};

use super::clock::since_boot;
use super::leases::{LeaseList, LeaseRow};
use super::stale::StaleState;
use super::{Epoch, Fleet};
use crate::connection::{DatabaseError, StatementKind};

/// Times between two reads of the leases: short at first, because nodes answer within
/// milliseconds when all is well.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// State of a wait.
enum Progress {
    /// Every node applied the change.
    Applied,
    /// Nodes may answer from before the change.
    Waiting(PendingChange),
    /// They may, and waiting does not help.
    Stale(PendingChange),
    /// Another server replaced the one that made the change.
    Replaced,
}

impl Fleet {
    /// Waits until every node applied a change that is committed.
    pub(crate) fn wait_applied(
        &self,
        change: &SharedChange,
        deadline: Instant,
    ) -> Result<(), PendingChange> {
        let Some(epoch) = &change.epoch else {
            return Ok(());
        };
        self.database
            .wait(self.wait_for_all(epoch, change.number.0, deadline))
    }

    async fn wait_for_all(
        &self,
        epoch: &Epoch,
        number: u64,
        deadline: Instant,
    ) -> Result<(), PendingChange> {
        let mut pause = FIRST_PAUSE;
        let mut pending = PendingChange {
            cause: PendingCause::Deadline,
            reason: "the database did not answer".to_owned(),
            nodes: Vec::new(),
        };
        loop {
            match timeout_at(deadline.into(), self.progress(epoch, number)).await {
                Ok(Ok(Progress::Applied)) => return Ok(()),
                Ok(Ok(Progress::Waiting(waiting))) => pending = waiting,
                Ok(Ok(Progress::Stale(stale))) => return Err(stale),
                Ok(Ok(Progress::Replaced)) => {
                    return Err(PendingChange {
                        cause: PendingCause::Deadline,
                        reason: "another server has replaced the database, and may lack it"
                            .to_owned(),
                        nodes: Vec::new(),
                    });
                }
                Ok(Err(error)) => pending.reason = error.to_string(),
                Err(_) => return Err(pending),
            }
            if Instant::now() + pause >= deadline {
                return Err(pending);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits until the leases of killed nodes have ended, for a command that needs the database
    /// alone.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::InUse`] if a node renews its lease.
    pub(crate) async fn outlast_leases(&self) -> Result<(), DatabaseError> {
        let client = self.database.client().await?;
        let mut first: Option<LeaseList> = None;
        loop {
            let list = LeaseList::read(&client).await?;
            for lease in self.observe(&list, since_boot()) {
                self.expel(&client, &lease, &list.epoch).await?;
            }
            let first = first.get_or_insert_with(|| list.clone());
            if list.leases.is_empty() {
                return Ok(());
            }
            if list
                .leases
                .iter()
                .any(|lease| !first.leases.contains(lease))
            {
                return Err(DatabaseError::InUse);
            }
            sleep(LONGEST_PAUSE).await;
        }
    }

    /// Lists the leases in a new snapshot, and expels those that ended.
    async fn progress(&self, epoch: &Epoch, number: u64) -> Result<Progress, DatabaseError> {
        self.database.count(StatementKind::Lease);
        let client = self.database.client().await?;
        let list = LeaseList::read(&client).await?;
        if list.epoch != *epoch {
            return Ok(Progress::Replaced);
        }
        let ended = self.observe(&list, since_boot());
        for lease in &ended {
            self.expel(&client, lease, epoch).await?;
        }
        let is_behind = |lease: &&LeaseRow| u64::try_from(lease.applied).unwrap_or(0) < number;
        let behind: Vec<String> = list
            .leases
            .iter()
            .filter(is_behind)
            .map(|lease| lease.node.clone())
            .collect();
        let state = list.stale.state;
        if behind.is_empty() && list.is_settled {
            return Ok(match state {
                StaleState::Off => Progress::Applied,
                StaleState::On => Progress::Stale(stale_pending(&list)),
                StaleState::Ending => Progress::Waiting(stale_pending(&list)),
            });
        }
        Ok(Progress::Waiting(PendingChange {
            cause: match state {
                StaleState::Off => PendingCause::Deadline,
                StaleState::On | StaleState::Ending => PendingCause::StaleReaders,
            },
            reason: waiting_reason(&behind),
            nodes: behind,
        }))
    }
}

fn stale_pending(list: &LeaseList) -> PendingChange {
    PendingChange {
        cause: PendingCause::StaleReaders,
        reason: match list.stale.state {
            StaleState::Ending => {
                "stale reads have not ended everywhere; repeat the change".to_owned()
            }
            StaleState::On | StaleState::Off => {
                "stale reads are on; run `rostro nodes stale-reads off` and repeat the change"
                    .to_owned()
            }
        },
        nodes: list.stale_nodes(),
    }
}

fn waiting_reason(nodes: &[String]) -> String {
    match nodes {
        [] => "leases from before a failover may be in force".to_owned(),
        nodes => format!("waited for {}", nodes.join(", ")),
    }
}
