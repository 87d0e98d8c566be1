//! Turning stale reads on and off.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use uuid::Uuid;

use super::super::leases::LeaseList;
use super::super::position::Epoch;
use super::{StaleReads, StaleState};
use crate::connection::{Database, DatabaseError};
use crate::store::{AuditLineOf, insert_command_lines};

/// Time between two looks whether stale reads have ended.
const PAUSE: Duration = Duration::from_millis(50);

/// Allows nodes to answer without a lease, and stores the audit line with that. Returns the setting: a
/// limit that is shorter than the present one counts only after stale reads have ended.
///
/// # Errors
///
/// If a statement fails.
pub fn turn_on(
    database: &Database,
    limit: Duration,
    audit: AuditLineOf<'_>,
) -> Result<StaleReads, DatabaseError> {
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    database.wait(async {
        let mut client = database.client().await?;
        let transaction = client.transaction().await?;
        transaction
            .execute(
                "UPDATE gallery SET stale_reads = 'on', stale_number = stale_number + 1, \
                 stale_ms = CASE stale_reads WHEN 'off' THEN $1 ELSE greatest(stale_ms, $1) END, \
                 stale_epoch = CASE stale_reads WHEN 'off' THEN epoch() ELSE stale_epoch END",
                &[&limit],
            )
            .await?;
        insert_command_lines(&transaction, &audit(true)).await?;
        transaction.commit().await?;
        Ok(LeaseList::read(&client).await?.stale)
    })
}

/// Ends stale reads, stores the audit line with that, and waits until each node knows it. Returns the
/// setting, and the nodes that may not know it after `patience`.
///
/// # Errors
///
/// If a statement fails.
pub fn turn_off(
    database: &Database,
    patience: Duration,
    audit: AuditLineOf<'_>,
) -> Result<(StaleReads, Vec<String>), DatabaseError> {
    database.wait(async {
        let mut client = database.client().await?;
        let transaction = client.transaction().await?;
        let changed = transaction
            .execute(
                "UPDATE gallery SET stale_reads = 'ending', stale_number = stale_number + 1 \
                 WHERE stale_reads = 'on'",
                &[],
            )
            .await?;
        insert_command_lines(&transaction, &audit(changed > 0)).await?;
        transaction.commit().await?;
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
pub(in crate::fleet) async fn end(
    client: &ClientWrapper,
    list: &LeaseList,
) -> Result<(), DatabaseError> {
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
pub(in crate::fleet) async fn forget(
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
