//! Which node delivers events, and what receivers got.

use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::{GenericClient, Transaction};
use rostro_sessions::shared::SessionTerm;
use rostro_sessions::{SessionId, SessionStoreError};
use uuid::Uuid;

use super::Failure;
use super::rows::number;

/// Makes the node with the lease the one that delivers, unless another node with a lease does.
/// Returns true if it delivers.
pub(super) async fn take(client: &impl GenericClient, term: SessionTerm) -> Result<bool, Failure> {
    let statement = client
        .prepare_cached(
            "SELECT deliverer.lease, lease.lease IS NOT NULL FROM deliverer \
             LEFT JOIN lease ON lease.lease = deliverer.lease AND NOT is_expelled",
        )
        .await?;
    let row = client.query_opt(&statement, &[]).await?;
    if let Some(row) = row {
        let (lease, is_live): (Uuid, bool) = (row.get(0), row.get(1));
        if is_live {
            return Ok(lease == term.0);
        }
    }
    let taken = client
        .execute(
            "INSERT INTO deliverer (lease) \
             SELECT lease FROM lease WHERE lease = $1 AND NOT is_expelled \
             ON CONFLICT (only_row) DO UPDATE SET lease = excluded.lease WHERE NOT EXISTS \
             (SELECT FROM lease WHERE lease.lease = deliverer.lease AND NOT is_expelled)",
            &[&term.0],
        )
        .await?;
    Ok(taken > 0)
}

/// Reads the numbers of the events that a receiver got last.
pub(super) async fn cursors(
    client: &impl GenericClient,
    receiver: &str,
) -> Result<Option<HashMap<SessionId, u64>>, Failure> {
    let rows = client
        .query(
            "SELECT session::text, delivered FROM receiver \
             LEFT JOIN delivery ON receiver = name WHERE name = $1",
            &[&receiver],
        )
        .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let cursors = rows.iter().filter_map(|row| {
        let session = row.get::<_, Option<&str>>(0)?.parse().ok()?;
        Some((session, u64::try_from(row.get::<_, i64>(1)).ok()?))
    });
    Ok(Some(cursors.collect()))
}

/// Writes the numbers of the events that a receiver got last, unless another node delivers now.
/// Sessions that were deleted are left out, and no number falls.
pub(super) async fn set_cursors(
    transaction: &Transaction<'_>,
    term: SessionTerm,
    receiver: &str,
    cursors: &HashMap<SessionId, u64>,
) -> Result<(), Failure> {
    let statement = transaction
        .prepare_cached("SELECT FROM deliverer WHERE lease = $1 FOR SHARE")
        .await?;
    if transaction
        .query_opt(&statement, &[&term.0])
        .await?
        .is_none()
    {
        return Err(SessionStoreError::NoLease.into());
    }
    let statement = transaction
        .prepare_cached("INSERT INTO receiver (name) VALUES ($1) ON CONFLICT DO NOTHING")
        .await?;
    transaction.execute(&statement, &[&receiver]).await?;
    let sessions: Vec<Uuid> = cursors.keys().map(SessionId::as_uuid).collect();
    let delivered: Vec<i64> = cursors.values().map(|last| number(*last)).collect();
    let statement = transaction
        .prepare_cached(
            "WITH present AS (SELECT session.id, delivered FROM session \
                JOIN unnest($2::uuid[], $3::bigint[]) AS new (id, delivered) USING (id) \
                ORDER BY session.id FOR KEY SHARE OF session) \
             INSERT INTO delivery (receiver, session, delivered) \
             SELECT $1, id, delivered FROM present \
             ON CONFLICT (receiver, session) DO UPDATE \
             SET delivered = greatest(delivery.delivered, excluded.delivered)",
        )
        .await?;
    transaction
        .execute(&statement, &[&receiver, &sessions, &delivered])
        .await?;
    Ok(())
}

/// Reads the topics that a broker may retain.
pub(super) async fn topics(
    client: &impl GenericClient,
    receiver: &str,
) -> Result<BTreeSet<String>, Failure> {
    let row = client
        .query_opt("SELECT topics FROM receiver WHERE name = $1", &[&receiver])
        .await?;
    // A text that cannot be read leaves topics at the broker, which the next change replaces.
    Ok(row
        .and_then(|row| serde_json::from_str(row.get(0)).ok())
        .unwrap_or_default())
}

/// Replaces the topics that a broker may retain, unless another node delivers now.
pub(super) async fn set_topics(
    client: &impl GenericClient,
    term: SessionTerm,
    receiver: &str,
    topics: &BTreeSet<String>,
) -> Result<(), Failure> {
    let text = serde_json::to_string(topics).unwrap_or_default();
    client
        .execute(
            "INSERT INTO receiver (name, topics) \
             SELECT $1, $2 FROM deliverer WHERE lease = $3 \
             ON CONFLICT (name) DO UPDATE SET topics = excluded.topics",
            &[&receiver, &text, &term.0],
        )
        .await?;
    Ok(())
}
