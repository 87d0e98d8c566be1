//! The audit log of all nodes.
//!
//! A line that the database cannot take waits in a file of the node, and is sent once the database
//! is back. The digest of a line is its key, so that a line that is sent twice is stored once.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool_postgres::GenericClient;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use rostro_common::digest::Sha256Digest;
use rostro_common::keyed_hash::HashKey;
use rostro_gallery::{AuditAppend, AuditKey, ChangeNumber, audit};
use tokio_postgres::Row;

use rostro_gallery::Store;

use super::PostgresStore;
use crate::connection::{Database, DatabaseError, StatementKind};

/// Time for a line to be stored, after which it waits in the file. An answer waits for it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Time for a batch of waiting lines to be stored.
const SENDING_TIMEOUT: Duration = Duration::from_secs(60);

/// The year 1 in microseconds since 1970. The server has no times of earlier years that lines have.
const FIRST_TIME: i64 = -62_135_596_800_000_000;

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

    /// Sends the lines that wait in the file, if there are any and the database answers.
    pub(super) fn send_unsent_lines(&self) {
        let Some(node) = self.node.as_ref().filter(|node| node.unsent.has_lines()) else {
            return;
        };
        // While the database is away every attempt would read the file for nothing.
        if self.lease().is_none() {
            return;
        }
        if self.is_sending.swap(true, Ordering::SeqCst) {
            return;
        }
        // On a thread of its own, because changes of other nodes must not wait for many lines.
        let (database, unsent) = (self.database.clone(), Arc::clone(&node.unsent));
        let is_sending = Arc::clone(&self.is_sending);
        let has_failed = Arc::clone(&self.has_failed_to_send);
        let send = move || {
            database.count(StatementKind::Audit);
            let insert = |lines: &[u8]| insert_lines(&database, lines, SENDING_TIMEOUT);
            match unsent.send(|lines| insert(lines).map_err(io::Error::other)) {
                Ok(()) => {
                    has_failed.store(false, Ordering::SeqCst);
                    tracing::info!("sent the waiting lines of the audit log to the database");
                }
                Err(error) if !has_failed.swap(true, Ordering::SeqCst) => tracing::warn!(
                    file = %unsent.path().display(),
                    "cannot send waiting lines of the audit log to the database: {error}; they still wait"
                ),
                Err(_) => {}
            }
            is_sending.store(false, Ordering::SeqCst);
        };
        let thread = std::thread::Builder::new().name("audit".to_owned());
        if let Err(error) = thread.spawn(send) {
            tracing::warn!("cannot start a thread that sends waiting lines: {error}");
            self.is_sending.store(false, Ordering::SeqCst);
        }
    }

    /// Removes lines from before a time. Returns their number of bytes.
    pub(super) fn remove_lines(&self, cutoff: Timestamp) -> Result<u64, DatabaseError> {
        self.database.count(StatementKind::Audit);
        self.database.wait(async {
            let client = self.database.client().await?;
            let row = client
                .query_one(
                    "WITH removed AS (DELETE FROM audit \
                        WHERE time < timestamptz 'epoch' + $1::bigint * interval '1 microsecond' \
                        RETURNING octet_length(line) AS bytes) \
                     SELECT coalesce(sum(bytes), 0)::bigint FROM removed",
                    &[&cutoff.as_microsecond().max(FIRST_TIME)],
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

    /// Writes back keys that are missing or differ. Returns their number.
    pub(super) fn restore_keys(&self, keys: &[AuditKey]) -> Result<u64, DatabaseError> {
        let made: Vec<String> = keys.iter().map(|key| key.made.to_string()).collect();
        let bytes = keys.iter().map(|key| key.key.to_bytes().to_vec());
        let bytes: Vec<Vec<u8>> = bytes.collect();
        self.database.count(StatementKind::Audit);
        self.database.wait(async {
            let client = self.database.client().await?;
            Ok(client
                .execute(
                    "INSERT INTO audit_key (made, key) \
                     SELECT made, key FROM unnest($1::text[], $2::bytea[]) AS known (made, key) \
                     ON CONFLICT (made) DO UPDATE SET key = excluded.key \
                     WHERE audit_key.key <> excluded.key",
                    &[&made, &bytes],
                )
                .await?)
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

/// A line to store.
struct NewLine {
    digest: Sha256Digest,
    /// Time since 1970.
    microseconds: i64,
    text: String,
}

/// Stores whole lines, each batch of them within `timeout`.
fn insert_lines(database: &Database, text: &[u8], timeout: Duration) -> Result<(), DatabaseError> {
    let lines = parse_lines(text);
    database.wait(async {
        for batch in lines.chunks(BATCH) {
            let insert = async { insert_batch(&database.client().await?, batch).await };
            tokio::time::timeout(timeout, insert)
                .await
                .unwrap_or(Err(DatabaseError::Silent(timeout)))?;
        }
        Ok(())
    })
}

/// Makes the audit line of a command's change, given whether it changed anything.
pub type AuditLineOf<'a> = &'a dyn Fn(bool) -> Vec<u8>;

/// Appends whole lines of a command that changed nothing.
///
/// # Errors
///
/// If the database cannot store them.
pub fn append_audit_lines(database: &Database, lines: &[u8]) -> Result<(), DatabaseError> {
    insert_lines(database, lines, TIMEOUT)
}

/// Stores whole lines of a command, in the transaction of its change.
pub(crate) async fn insert_command_lines(
    client: &impl GenericClient,
    text: &[u8],
) -> Result<(), DatabaseError> {
    insert_batch(client, &parse_lines(text)).await
}

/// Splits whole lines, without those that have no time.
fn parse_lines(text: &[u8]) -> Vec<NewLine> {
    let mut damaged = 0;
    let mut lines = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        match audit::file::time(line) {
            Some(time) => lines.push(NewLine {
                digest: Sha256Digest::of(line),
                microseconds: time.as_microsecond().max(FIRST_TIME),
                text: String::from_utf8_lossy(line).into_owned(),
            }),
            None => damaged += u64::from(!line.trim_ascii().is_empty()),
        }
    }
    if damaged > 0 {
        tracing::error!(damaged, "lines of the audit log are damaged and left out");
    }
    lines
}

async fn insert_batch(client: &impl GenericClient, batch: &[NewLine]) -> Result<(), DatabaseError> {
    let statement = client
        .prepare_cached(
            "INSERT INTO audit (digest, time, line) \
             SELECT digest, timestamptz 'epoch' + time * interval '1 microsecond', line \
             FROM unnest($1::bytea[], $2::bigint[], $3::text[]) AS new (digest, time, line) \
             ON CONFLICT (digest) DO NOTHING",
        )
        .await?;
    let digests: Vec<&[u8]> = batch.iter().map(|line| line.digest.0.as_slice()).collect();
    let times: Vec<i64> = batch.iter().map(|line| line.microseconds).collect();
    let texts: Vec<&str> = batch.iter().map(|line| &*line.text).collect();
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
