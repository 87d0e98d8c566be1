//! Deletions, for imports of archives.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

use deadpool_postgres::{GenericClient, Transaction};
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::PersonId;
use rostro_common::keyed_hash::HashKey;
use rostro_gallery::ledger::{
    Adoption, ArchiveNumber, ArchiveOrigin, DeletionReason, ImportWatch, Mac, Tombstone,
    Tombstones, now,
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::numbers::take_numbers;
use super::{PostgresStore, signed, unsigned};
use crate::connection::DatabaseError;
use crate::fleet::Epoch;

/// Reads the key of a gallery's tombstones.
pub(super) async fn key_of(
    client: &impl GenericClient,
    gallery: Uuid,
) -> Result<HashKey, DatabaseError> {
    let row = client
        .query_opt(
            "SELECT key FROM tombstone_key WHERE gallery = $1",
            &[&gallery],
        )
        .await?;
    row.and_then(|row| hash_key(row.get(0)))
        .ok_or(DatabaseError::Damaged("the key of the tombstones"))
}

fn hash_key(bytes: &[u8]) -> Option<HashKey> {
    Some(HashKey::from_bytes(bytes.try_into().ok()?))
}

fn from_row(row: &Row) -> Option<(Mac, Tombstone)> {
    let mac: &[u8] = row.get(1);
    let tombstone = Tombstone {
        number: unsigned(row.get(2)),
        deleted_at: row.get(3),
    };
    Some((mac.try_into().ok()?, tombstone))
}

/// Reads every tombstone that has not expired.
pub(super) async fn load(client: &impl GenericClient) -> Result<Tombstones, DatabaseError> {
    let mut all = Tombstones::default();
    for row in client
        .query("SELECT gallery, key FROM tombstone_key", &[])
        .await?
    {
        let key = hash_key(row.get(1)).ok_or(DatabaseError::Damaged("a key of tombstones"))?;
        all.add_gallery(row.get(0), key);
    }
    for row in client
        .query(
            "SELECT gallery, mac, number, deleted_at FROM tombstone",
            &[],
        )
        .await?
    {
        let (mac, tombstone) = from_row(&row).ok_or(DatabaseError::Damaged("a tombstone"))?;
        all.insert(row.get(0), mac, tombstone);
    }
    all.expire_now();
    Ok(all)
}

/// Writes tombstones of other stores, with the keys of their galleries.
pub(super) async fn write_adopted(
    transaction: &Transaction<'_>,
    adopted: &Adoption,
) -> Result<(), DatabaseError> {
    for (gallery, key) in &adopted.galleries {
        let key = key.to_bytes();
        transaction
            .execute(
                "INSERT INTO tombstone_key (gallery, key) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                &[gallery, &key.as_slice()],
            )
            .await?;
    }
    let mut by_gallery: HashMap<Uuid, Vec<(Mac, Tombstone)>> = HashMap::new();
    for (gallery, mac, tombstone) in &adopted.tombstones {
        by_gallery
            .entry(*gallery)
            .or_default()
            .push((*mac, *tombstone));
    }
    for (gallery, tombstones) in by_gallery {
        let macs: Vec<&[u8]> = tombstones.iter().map(|(mac, _)| mac.as_slice()).collect();
        let numbers: Vec<i64> = tombstones
            .iter()
            .map(|(_, tombstone)| signed(tombstone.number))
            .collect();
        let times: Vec<i64> = tombstones
            .iter()
            .map(|(_, tombstone)| tombstone.deleted_at)
            .collect();
        transaction
            .execute(
                "INSERT INTO tombstone (gallery, mac, number, deleted_at) \
                 SELECT $1, * FROM unnest($2::bytea[], $3::bigint[], $4::bigint[]) \
                 ON CONFLICT (gallery, mac) \
                 DO UPDATE SET number = excluded.number, deleted_at = excluded.deleted_at \
                 WHERE tombstone.number < excluded.number",
                &[&gallery, &macs, &numbers, &times],
            )
            .await?;
    }
    Ok(())
}

impl PostgresStore {
    pub(super) async fn write_tombstone(
        &self,
        transaction: &Transaction<'_>,
        id: &PersonId,
        number: u64,
    ) -> Result<(), DatabaseError> {
        let Sha256Digest(mac) = self.tombstone_key.hash(id.as_str());
        transaction
            .execute(
                "INSERT INTO tombstone (gallery, mac, number, deleted_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (gallery, mac) \
                 DO UPDATE SET number = excluded.number, deleted_at = excluded.deleted_at",
                &[
                    &self.gallery,
                    &mac.as_slice(),
                    &signed(number),
                    &now().max(0),
                ],
            )
            .await?;
        Ok(())
    }

    /// Reads every tombstone that has not expired.
    pub(super) fn read_tombstones(&self) -> Result<Tombstones, DatabaseError> {
        self.read_with(async |client| load(client).await)
    }

    /// Reads the number of the latest change.
    pub(super) fn latest_number(&self) -> Result<u64, DatabaseError> {
        self.read_with(async |client| {
            let row = client.query_one("SELECT counter FROM gallery", &[]).await?;
            Ok(unsigned(row.get(0)))
        })
    }

    /// Returns the number of the latest change, which every finished deletion is at or below.
    pub(super) fn number_of_archive(&self) -> Option<ArchiveNumber> {
        let number = self.latest_number();
        let number = number.inspect_err(|error| tracing::warn!("an export has no number: {error}"));
        Some(ArchiveNumber {
            gallery: self.gallery,
            number: number.ok(),
        })
    }

    pub(super) fn adopt_tombstones(&self, others: &Tombstones) -> io::Result<Vec<&'static str>> {
        let known = self.read_tombstones().map_err(io::Error::other)?;
        let highest = self
            .number_of_archive()
            .and_then(|archive| archive.number)
            .unwrap_or_default();
        let adopted = known.adopt(others, self.gallery, highest);
        self.change(async |transaction, epoch| {
            write_adopted(transaction, &adopted).await?;
            raise(transaction, epoch, adopted.highest).await
        })
        .map_err(io::Error::other)?;
        Ok(adopted.reasons)
    }

    pub(super) fn check_number(
        &self,
        origin: ArchiveOrigin,
        adopts: bool,
    ) -> (ArchiveOrigin, Result<(), &'static str>) {
        let latest = self.number_of_archive().and_then(|archive| archive.number);
        let Some((latest, number)) = latest
            .zip(origin.number)
            .filter(|(latest, number)| origin.gallery == Some(self.gallery) && number > latest)
        else {
            return (origin, Ok(()));
        };
        let origin = ArchiveOrigin {
            number: None,
            ..origin
        };
        if let Err(reason) = rostro_gallery::ledger::check_step(latest, number) {
            return (origin, Err(reason));
        }
        if adopts
            && let Err(error) =
                self.change(async |transaction, epoch| raise(transaction, epoch, number).await)
        {
            tracing::warn!("cannot raise the change number of the database: {error}");
        }
        (origin, Ok(()))
    }

    pub(super) fn begin_import(&self) -> ImportWatch {
        let number = self
            .number_of_archive()
            .and_then(|archive| archive.number)
            .unwrap_or(u64::MAX);
        *self.import() = Some(number);
        let import = Arc::clone(&self.import);
        ImportWatch::new(move || *import.lock().unwrap_or_else(PoisonError::into_inner) = None)
    }

    fn import(&self) -> MutexGuard<'_, Option<u64>> {
        self.import.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if a person was written since the running import began. If the database does not
    /// answer, the person counts as written, which an import then leaves alone.
    pub(super) fn is_written_since_import(&self, id: &PersonId) -> bool {
        let Some(began) = *self.import() else {
            return false;
        };
        self.read_with(async |client| {
            let rows = client
                .query(
                    "SELECT 1 FROM person WHERE id = $1 AND number > $2",
                    &[&id.as_str(), &signed(began)],
                )
                .await?;
            Ok(!rows.is_empty())
        })
        .unwrap_or(true)
    }

    /// Returns the reason to omit a person from an import. If the database does not answer, the
    /// person counts as deleted, because an import must not bring a deleted person back.
    pub(super) fn deletion_since(
        &self,
        id: &PersonId,
        origin: &ArchiveOrigin,
    ) -> Option<DeletionReason> {
        let began = *self.import();
        let tombstones = self.read_with(async |client| {
            let mut found = Tombstones::default();
            let keys = client
                .query("SELECT gallery, key FROM tombstone_key", &[])
                .await?;
            for row in keys {
                let gallery: Uuid = row.get(0);
                let key =
                    hash_key(row.get(1)).ok_or(DatabaseError::Damaged("a key of tombstones"))?;
                let Sha256Digest(mac) = key.hash(id.as_str());
                found.add_gallery(gallery, key);
                let row = client
                    .query_opt(
                        "SELECT gallery, mac, number, deleted_at FROM tombstone \
                         WHERE gallery = $1 AND mac = $2",
                        &[&gallery, &mac.as_slice()],
                    )
                    .await?;
                if let Some((mac, tombstone)) = row.as_ref().and_then(from_row) {
                    found.insert(gallery, mac, tombstone);
                }
            }
            found.expire_now();
            Ok(found)
        });
        let Ok(tombstones) = tombstones else {
            return Some(DeletionReason::SinceImport);
        };
        let is_running = began.is_some_and(|began| {
            tombstones
                .in_gallery(self.gallery)
                .any(|(_, tombstone)| tombstone.number > began)
        });
        if is_running {
            return Some(DeletionReason::SinceImport);
        }
        tombstones
            .is_deleted_since(id, origin)
            .then_some(DeletionReason::SinceArchive)
    }
}

/// Raises the counter to at least a number.
async fn raise(
    transaction: &Transaction<'_>,
    epoch: &Epoch,
    number: u64,
) -> Result<(), DatabaseError> {
    take_numbers(transaction, &[], epoch).await?;
    transaction
        .execute(
            "UPDATE gallery SET counter = greatest(counter, $1)",
            &[&signed(number)],
        )
        .await?;
    Ok(())
}
