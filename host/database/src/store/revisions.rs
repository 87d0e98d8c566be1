//! The record of revisions, and their components.

use std::collections::BTreeMap;
use std::io;

use deadpool_postgres::Transaction;
use rostro_common::digest::Sha256Digest;
use rostro_gallery::{GalleryError, NodeRevisions, RevisionsError, RevisionsWrite, SharedChange};
use tokio_postgres::Row;

use super::numbers::{Subject, take_numbers};
use super::{PostgresStore, database_failure, failure, signed, unsigned};
use crate::connection::{Database, DatabaseError};
use crate::fleet::Epoch;

/// Value of a revision that is staged, in the row of a node.
const STAGED: &str = "staged";

impl PostgresStore {
    pub(super) fn read_record(&self) -> io::Result<Option<Vec<u8>>> {
        let epoch = self.epoch().map_err(io_error)?;
        let row = self
            .read_with(async |client| {
                let statement = "SELECT number, record FROM revisions";
                Ok(client.query_opt(statement, &[]).await?)
            })
            .map_err(io_error)?;
        let number = row.as_ref().map_or(0, |row| unsigned(row.get(0)));
        self.set_record_change(number, &epoch);
        Ok(row.map(|row| row.get(1)))
    }

    pub(super) fn write_record(
        &self,
        write: &RevisionsWrite<'_>,
    ) -> Result<SharedChange, RevisionsError> {
        let known = self.record_change().number.0;
        let written = self.change(async |transaction, epoch| {
            let Some(number) = replace_record(transaction, write, known, epoch).await? else {
                return Ok(None);
            };
            remove_components(transaction, write.components).await?;
            Ok(Some((number, epoch.clone())))
        });
        match written.map_err(|error| RevisionsError::Io(io_error(error)))? {
            None => Err(RevisionsError::Conflict),
            Some((number, epoch)) => {
                self.set_record_change(number, &epoch);
                Ok(self.record_change())
            }
        }
    }

    fn set_record_change(&self, number: u64, epoch: &Epoch) {
        *self.lock_record() = SharedChange {
            number: rostro_gallery::ChangeNumber(number),
            epoch: Some(epoch.clone()),
        };
    }

    /// Returns the change that made the record as this node knows it.
    pub(super) fn record_change(&self) -> SharedChange {
        self.lock_record().clone()
    }

    pub(super) fn read_component_row(&self, digest: Sha256Digest) -> io::Result<Option<Vec<u8>>> {
        let row = self
            .read_with(async |client| {
                let statement = "SELECT bytes FROM component WHERE digest = $1";
                Ok(client.query_opt(statement, &[&digest.0.as_slice()]).await?)
            })
            .map_err(io_error)?;
        let Some(bytes) = row.map(|row| row.get::<_, Vec<u8>>(0)) else {
            return Ok(None);
        };
        match Sha256Digest::of(&bytes) == digest {
            true => Ok(Some(bytes)),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its bytes in the database do not have its digest",
            )),
        }
    }

    pub(super) fn keep_component_row(&self, digest: Sha256Digest, bytes: &[u8]) -> io::Result<()> {
        self.read_with(async |client| {
            client
                .execute(
                    "INSERT INTO component (digest, bytes) VALUES ($1, $2) \
                     ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes, kept_at = now()",
                    &[&digest.0.as_slice(), &bytes],
                )
                .await?;
            Ok(())
        })
        .map_err(io_error)
    }

    pub(super) fn read_nodes(&self) -> Result<Vec<NodeRevisions>, GalleryError> {
        let rows = self.read_with(async |client| {
            let statement = "SELECT node, revisions::text, lease FROM lease \
                             WHERE NOT is_expelled ORDER BY node, lease";
            Ok(client.query(statement, &[]).await?)
        });
        let rows = rows.map_err(failure)?;
        Ok(rows
            .iter()
            .map(|row| NodeRevisions {
                node: row.get(0),
                is_own: self.fleet.is_own(row.get(2)),
                revisions: parse_revisions(row.get(1)),
            })
            .collect())
    }
}

/// What a database has of revisions.
#[derive(Clone, Debug, Default)]
pub struct StoredRevisions {
    /// The record; none before the first revision.
    pub record: Option<Vec<u8>>,
    /// Components, and whether the bytes of each have its digest.
    pub components: BTreeMap<Sha256Digest, bool>,
}

/// Reads the record of revisions, and compares the components with their digests.
///
/// # Errors
///
/// If a statement fails.
pub fn find_components(database: &Database) -> Result<StoredRevisions, DatabaseError> {
    database.wait(async {
        let client = database.client().await?;
        // First, because a push stores its component before the record.
        let record = client
            .query_opt("SELECT record FROM revisions", &[])
            .await?;
        let statement = "SELECT digest, sha256(bytes) = digest FROM component";
        let rows = client.query(statement, &[]).await?;
        let component = |row: &Row| {
            let digest = row.get::<_, &[u8]>(0).try_into().ok()?;
            Some((Sha256Digest(digest), row.get(1)))
        };
        Ok(StoredRevisions {
            record: record.map(|row| row.get(0)),
            components: rows.iter().filter_map(component).collect(),
        })
    })
}

/// Converts an error for callers that know files as well. They find the cause in it.
fn io_error(error: DatabaseError) -> io::Error {
    io::Error::other(database_failure(error))
}

/// Reads what a node wrote about its revisions. Ids and values that are unknown here are left out.
fn parse_revisions(text: &str) -> BTreeMap<Sha256Digest, Result<(), String>> {
    let states: BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
    let mut revisions = BTreeMap::new();
    for (id, state) in states {
        if let Ok(id) = id.parse::<Sha256Digest>() {
            let state = match state.as_str() {
                STAGED => Ok(()),
                reason => Err(reason.to_owned()),
            };
            revisions.insert(id, state);
        }
    }
    revisions
}

/// Writes what this node has staged, for its row.
pub(super) fn revisions_text(revisions: &BTreeMap<Sha256Digest, Result<(), String>>) -> String {
    let states: BTreeMap<String, &str> = revisions
        .iter()
        .map(|(id, state)| {
            let state = state.as_ref().map_or_else(String::as_str, |()| STAGED);
            (id.to_string(), state)
        })
        .collect();
    serde_json::to_string(&states).unwrap_or_else(|_| "{}".to_owned())
}

/// Replaces the record unless another node wrote it since. Returns the number of the change.
async fn replace_record(
    transaction: &Transaction<'_>,
    write: &RevisionsWrite<'_>,
    known: u64,
    epoch: &Epoch,
) -> Result<Option<u64>, DatabaseError> {
    // The first row has the number 0 until the end of this transaction.
    let replaced = match known {
        0 => {
            let statement = "INSERT INTO revisions (number, record) VALUES (0, $1) \
                             ON CONFLICT DO NOTHING";
            transaction.execute(statement, &[&write.record]).await?
        }
        known => {
            let statement = "UPDATE revisions SET record = $1 WHERE number = $2";
            let parameters = (&write.record, &signed(known));
            transaction
                .execute(statement, &[parameters.0, parameters.1])
                .await?
        }
    };
    if replaced == 0 {
        return Ok(None);
    }
    let number = take_numbers(transaction, &[Subject::Revisions], epoch)
        .await?
        .number;
    transaction
        .execute("UPDATE revisions SET number = $1", &[&signed(number)])
        .await?;
    Ok(Some(number))
}

/// Removes components that the record does not need, a day after they arrived, because a push keeps
/// its component before it writes the record.
async fn remove_components(
    transaction: &Transaction<'_>,
    needed: &[Sha256Digest],
) -> Result<(), DatabaseError> {
    let needed: Vec<&[u8]> = needed.iter().map(|digest| digest.0.as_slice()).collect();
    transaction
        .execute(
            "DELETE FROM component \
             WHERE digest <> ALL ($1) AND kept_at < now() - interval '1 day'",
            &[&needed],
        )
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_revisions_survive_text() {
        let id = |name: &str| Sha256Digest::of(name.as_bytes());
        let revisions = BTreeMap::from([
            (id("good"), Ok(())),
            (id("bad"), Err("the self-test failed".to_owned())),
        ]);
        assert_eq!(parse_revisions(&revisions_text(&revisions)), revisions);
        assert!(parse_revisions(r#"{"x": "staged"}"#).is_empty());
    }
}
