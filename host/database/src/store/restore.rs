//! What follows the restore of a backup: another epoch, and the deletions that the backup lacks.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use rostro_common::digest::Sha256Digest;
use rostro_gallery::ledger::{ArchiveOrigin, Mac, Tombstones, check_step};
use uuid::Uuid;

use super::{signed, tombstones, unsigned};
use crate::connection::{Database, DatabaseError};
use crate::sessions::remove_mentions;

/// Begins another epoch. The time makes it differ from the epochs of earlier restores of the same
/// backup.
const RAISE: &str = "UPDATE gallery SET generation = greatest(generation + 1, \
                     (extract(epoch FROM clock_timestamp()) * 1000)::bigint) \
                     RETURNING id, counter";

/// Deletions that were repeated, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Ids of the deleted people.
    pub deleted: Vec<String>,
    /// Reasons for tombstones that were omitted.
    pub omitted: Vec<&'static str>,
}

/// Begins another epoch, in which every node loads anew. With the tombstones of an archive also
/// repeats the deletions that were made after the backup. All or nothing.
///
/// # Errors
///
/// [`DatabaseError::OtherGallery`] for the archive of another gallery. Or if a statement fails.
pub fn begin_epoch(
    database: &Database,
    archive: Option<(ArchiveOrigin, &Tombstones)>,
) -> Result<Restored, DatabaseError> {
    database.wait(async {
        let mut client = database.client().await?;
        let transaction = client.transaction().await?;
        let row = transaction.query_opt(RAISE, &[]).await?;
        let row = row.ok_or(DatabaseError::Damaged("the row of the gallery"))?;
        let (gallery, counter): (Uuid, i64) = (row.get(0), row.get(1));
        let restored = match archive {
            None => Restored::default(),
            Some((origin, _)) if origin.gallery != Some(gallery) => {
                return Err(DatabaseError::OtherGallery);
            }
            Some((origin, tombstones)) => {
                let latest = unsigned(counter).max(
                    origin
                        .number
                        .filter(|number| check_step(unsigned(counter), *number).is_ok())
                        .unwrap_or_default(),
                );
                repeat_deletions(&transaction, gallery, latest, tombstones).await?
            }
        };
        transaction
            .execute(
                "SELECT pg_notify('rostro_change', counter::text) FROM gallery",
                &[],
            )
            .await?;
        transaction.commit().await?;
        Ok(restored)
    })
}

/// Adopts tombstones, and deletes the people who were written before theirs. `latest` is the number
/// above which later changes are numbered.
async fn repeat_deletions(
    transaction: &Transaction<'_>,
    gallery: Uuid,
    latest: u64,
    others: &Tombstones,
) -> Result<Restored, DatabaseError> {
    let known = tombstones::load(transaction).await?;
    let adopted = known.adopt(others, gallery, latest);
    tombstones::write_adopted(transaction, &adopted).await?;
    transaction
        .execute(
            "UPDATE gallery SET counter = greatest(counter, $1)",
            &[&signed(adopted.highest)],
        )
        .await?;
    let key = tombstones::key_of(transaction, gallery).await?;
    let own = adopted.tombstones.iter().filter(|(of, ..)| *of == gallery);
    let deletions: HashMap<Mac, u64> = own
        .map(|(_, mac, tombstone)| (*mac, tombstone.number))
        .collect();
    // Groups may name people who are not stored.
    let rows = transaction
        .query(
            "SELECT id, person.person, coalesce(person.number, 0) FROM person \
             FULL JOIN (SELECT DISTINCT id FROM member) AS named USING (id) ORDER BY id",
            &[],
        )
        .await?;
    let (mut ids, mut people, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let (id, person): (String, Option<i64>) = (row.get(0), row.get(1));
        let Sha256Digest(mac) = key.hash(&id);
        let written = unsigned(row.get(2));
        if deletions.get(&mac).is_some_and(|number| *number > written) {
            if let Some(person) = person {
                people.push(person);
                deleted.push(id.clone());
            }
            ids.push(id);
        }
    }
    for id in deleted.iter().filter_map(|id: &String| id.parse().ok()) {
        remove_mentions(transaction, &id).await?;
    }
    transaction
        .execute("DELETE FROM member WHERE id = ANY ($1)", &[&ids])
        .await?;
    transaction
        .execute("DELETE FROM person WHERE person = ANY ($1)", &[&people])
        .await?;
    Ok(Restored {
        deleted,
        omitted: adopted.reasons,
    })
}
