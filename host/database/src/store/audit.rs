//! The audit log of all nodes.
//!
//! A line that the database cannot take waits in a file of the node, and is sent once the database is
//! back. The digest of a line is its key, so that a line that is sent twice is stored once.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use rostro_common::digest::Sha256Digest;
use rostro_common::keyed_hash::HashKey;
use rostro_gallery::{AuditAppend, AuditKey, ChangeNumber, audit};
use tokio_postgres::Row;

use super::PostgresStore;
use crate::connection::{Database, DatabaseError, StatementKind};

/// Time for a line to be stored, after which it waits in the file. An answer waits for it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Time for a batch of waiting lines to be stored.
const SENDING_TIMEOUT: Duration = Duration::from_secs(60);

/// Number of lines that are sent by a statement.
const BATCH: usize = 1000;

impl PostgresStore {
    /// Appends whole lines, which are durable after the wait: in the database, or else in the file.
    pub(super) fn append_lines(&self, number: ChangeNumber, lines: &[u8]) -> AuditAppend<'_> {
        let lines = lines.to_vec();
        AuditAppend::new(number, move || {
            self.database.count(StatementKind::Audit);
            let Err(error) = insert_lines(&self.database, &lines, TIMEOUT) else {
                return Ok(());
            };
            let Some(node) = &self.node else {
                return Err(io::Error::other(error));
            };
            if !node.unsent.has_lines() {
                tracing::warn!(
                    file = %node.unsent.path().display(),
                    "the database cannot store lines of the audit log, which wait in a file until it can: {error}"
                );
            }
            node.unsent.append(&lines)
        })
    }

    /// Sends the lines that wait in the file, if there are any.
    pub(super) fn send_unsent_lines(&self) {
        let Some(node) = self.node.as_ref().filter(|node| node.unsent.has_lines()) else {
            return;
        };
        if self.is_sending.swap(true, Ordering::SeqCst) {
            return;
        }
        // On a thread of its own, because changes of other nodes must not wait for many lines.
        let (database, unsent) = (self.database.clone(), Arc::clone(&node.unsent));
        let is_sending = Arc::clone(&self.is_sending);
        std::thread::spawn(move || {
            database.count(StatementKind::Audit);
            let insert = |lines: &[u8]| insert_lines(&database, lines, SENDING_TIMEOUT);
            match unsent.send(|lines| insert(lines).map_err(io::Error::other)) {
                Ok(()) => tracing::info!("sent the waiting lines of the audit log to the database"),
                Err(error) => tracing::debug!("lines of the audit log still wait: {error}"),
            }
            is_sending.store(false, Ordering::SeqCst);
        });
    }

    /// Removes lines from before a time. Returns their number of bytes.
    pub(super) fn remove_lines(&self, cutoff: Timestamp) -> Result<u64, DatabaseError> {
        self.database.count(StatementKind::Audit);
        self.database.wait(async {
            let client = self.database.client().await?;
            let row = client
                .query_one(
                    "WITH removed AS (DELETE FROM audit WHERE time < $1::text::timestamptz \
                        RETURNING octet_length(line) AS bytes) \
                     SELECT coalesce(sum(bytes), 0)::bigint FROM removed",
                    &[&cutoff.to_string()],
                )
                .await?;
            Ok(super::unsigned(row.get(0)))
        })
    }

    /// Reads the keys of people, oldest first.
    pub(super) fn read_keys(&self) -> Result<Vec<AuditKey>, DatabaseError> {
        self.database.count(StatementKind::Audit);
        read_audit_keys(&self.database)
    }

    /// Adds a key, unless the newest one is another than `newest`.
    pub(super) fn add_key(
        &self,
        key: &AuditKey,
        newest: Option<Timestamp>,
    ) -> Result<(), DatabaseError> {
        self.database.count(StatementKind::Audit);
        self.database.wait(async {
            let mut client = self.database.client().await?;
            let transaction = client.transaction().await?;
            // Two nodes that add a key at once would each use their own for a year.
            transaction
                .execute(
                    "SELECT pg_advisory_xact_lock(hashtextextended('rostro audit key', 0))",
                    &[],
                )
                .await?;
            let rows = transaction
                .query("SELECT made, key FROM audit_key", &[])
                .await?;
            let stored = rows.iter().filter_map(key_of_row).map(|key| key.made).max();
            if stored == newest {
                transaction
                    .execute(
                        "INSERT INTO audit_key (made, key) VALUES ($1, $2)",
                        &[&key.made.to_string(), &key.key.to_bytes().as_slice()],
                    )
                    .await?;
            }
            Ok(transaction.commit().await?)
        })
    }

    /// Removes the keys that were made at these times.
    pub(super) fn remove_keys(&self, made: &[Timestamp]) -> Result<(), DatabaseError> {
        let made: Vec<String> = made.iter().map(Timestamp::to_string).collect();
        self.database.count(StatementKind::Audit);
        self.database.wait(async {
            let client = self.database.client().await?;
            client
                .execute("DELETE FROM audit_key WHERE made = ANY ($1)", &[&made])
                .await?;
            Ok(())
        })
    }
}

/// Stores whole lines, each batch of them within `timeout`.
fn insert_lines(database: &Database, text: &[u8], timeout: Duration) -> Result<(), DatabaseError> {
    let lines: Vec<(Sha256Digest, String, String)> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            // A torn line has no time.
            let time = audit::file::time(line)?.to_string();
            let text = String::from_utf8_lossy(line).into_owned();
            Some((Sha256Digest::of(line), time, text))
        })
        .collect();
    database.wait(async {
        for batch in lines.chunks(BATCH) {
            tokio::time::timeout(timeout, insert_batch(database, batch))
                .await
                .unwrap_or(Err(DatabaseError::Slow))?;
        }
        Ok(())
    })
}

async fn insert_batch(
    database: &Database,
    batch: &[(Sha256Digest, String, String)],
) -> Result<(), DatabaseError> {
    let client = database.client().await?;
    let statement = client
        .prepare_cached(
            "INSERT INTO audit (digest, time, line) SELECT digest, time::timestamptz, line \
             FROM unnest($1::bytea[], $2::text[], $3::text[]) AS new (digest, time, line) \
             ON CONFLICT (digest) DO NOTHING",
        )
        .await?;
    let digests: Vec<&[u8]> = batch
        .iter()
        .map(|(digest, _, _)| digest.0.as_slice())
        .collect();
    let times: Vec<&str> = batch.iter().map(|(_, time, _)| &**time).collect();
    let texts: Vec<&str> = batch.iter().map(|(_, _, text)| &**text).collect();
    client
        .execute(&statement, &[&digests, &times, &texts])
        .await?;
    Ok(())
}

/// Reads a key; none if the row is damaged.
fn key_of_row(row: &Row) -> Option<AuditKey> {
    let key: &[u8] = row.try_get(1).ok()?;
    Some(AuditKey {
        made: row.try_get::<_, &str>(0).ok()?.parse().ok()?,
        key: HashKey::from_bytes(key.try_into().ok()?),
    })
}

/// Reads the keys of people in the audit log, oldest first.
///
/// # Errors
///
/// If they cannot be read.
pub fn read_audit_keys(database: &Database) -> Result<Vec<AuditKey>, DatabaseError> {
    database.wait(async {
        let client = database.client().await?;
        let rows = client.query("SELECT made, key FROM audit_key", &[]).await?;
        let mut keys: Vec<AuditKey> = rows.iter().filter_map(key_of_row).collect();
        keys.sort_by_key(|key| key.made);
        Ok(keys)
    })
}

/// Reads every line of the audit log, in the order of their times.
///
/// # Errors
///
/// If a statement fails.
pub fn read_audit_lines(
    database: &Database,
    mut visit: impl FnMut(&[u8]),
) -> Result<(), DatabaseError> {
    database.wait(async {
        let client = database.client().await?;
        let parameters: [&str; 0] = [];
        let query = "SELECT line FROM audit ORDER BY time, number";
        let mut rows = pin!(client.query_raw(query, parameters).await?);
        while let Some(row) = rows.try_next().await? {
            visit(row.get::<_, &str>(0).as_bytes());
        }
        Ok(())
    })
}
