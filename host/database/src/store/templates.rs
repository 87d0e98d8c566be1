//! Templates of people, which nodes make once for all.
//!
//! A template belongs to a person's row and goes with it. When samples are replaced, the templates
//! are deleted in the same transaction. The digest of the samples decides whether a template is used,
//! so that it never matters for other samples.

use std::pin::pin;

use futures_util::TryStreamExt;
use rostro_common::digest::Sha256Digest;
use rostro_gallery::{ChangeNumber, KeptTemplates};
use tokio_postgres::Row;

use super::{PostgresStore, signed};
use crate::connection::{DatabaseError, StatementKind};

/// Number of people that are written by a statement.
const BATCH: usize = 1000;

/// Time after which the templates of a view are deleted that no node has read, because its policy,
/// settings or limits are another now.
const UNUSED_AFTER: &str = "30 days";

impl PostgresStore {
    /// Reads the templates of a view. They are none if they cannot be read.
    pub(super) fn read_templates(&self, key: Sha256Digest) -> KeptTemplates {
        // Before they are read, so that nothing counts as older than it is.
        let as_of = self.fleet.position().get();
        let as_of = as_of.map_or(0, |position| position.number);
        let mut templates = KeptTemplates::new(usize::MAX, ChangeNumber(as_of));
        let read = self.read_with(async |client| {
            let statement = client
                .prepare_cached("SELECT samples, templates FROM template WHERE key = $1")
                .await?;
            let mut rows = pin!(client.query_raw(&statement, [&key.0.as_slice()]).await?);
            while let Some(row) = rows.try_next().await? {
                if let Some((samples, made)) = from_row(&row) {
                    templates.insert(samples, made);
                }
            }
            Ok(())
        });
        if let Err(error) = read {
            tracing::warn!("cannot read templates, which are made again: {error}");
        }
        templates
    }

    /// Adds the templates that were made, and deletes those of views that are no longer in use.
    pub(super) fn write_templates(&self, key: Sha256Digest, templates: &KeptTemplates) {
        let made: Vec<_> = templates.made().collect();
        let as_of = signed(templates.as_of().0);
        self.database.count(StatementKind::Change);
        let written = self.database.wait(async {
            let client = self.database.client().await?;
            let key = key.0.as_slice();
            client
                .execute(
                    "INSERT INTO template_key (key) VALUES ($1) \
                     ON CONFLICT (key) DO UPDATE SET used_at = now()",
                    &[&key],
                )
                .await?;
            for batch in made.chunks(BATCH) {
                let ids: Vec<&str> = batch.iter().map(|(id, _, _)| id.as_str()).collect();
                let samples: Vec<&[u8]> = batch
                    .iter()
                    .map(|(_, samples, _)| samples.0.as_slice())
                    .collect();
                let templates: Vec<Vec<u8>> = batch
                    .iter()
                    .map(|(_, _, templates)| to_bytes(templates))
                    .collect();
                // The lock waits for an enrolment that is about to commit, after which the number
                // is above `as_of`: its person's former samples leave nothing.
                client
                    .execute(
                        "WITH unchanged AS (SELECT person, samples, templates FROM person \
                            JOIN unnest($2::text[], $3::bytea[], $4::bytea[]) \
                            AS new (id, samples, templates) USING (id) \
                            WHERE number <= $5 ORDER BY person FOR SHARE OF person) \
                         INSERT INTO template (key, person, samples, templates) \
                         SELECT $1, person, samples, templates FROM unchanged \
                         ON CONFLICT (key, person) DO UPDATE \
                         SET samples = excluded.samples, templates = excluded.templates",
                        &[&key, &ids, &samples, &templates, &as_of],
                    )
                    .await?;
            }
            let unused = format!(
                "DELETE FROM template_key WHERE used_at < now() - interval '{UNUSED_AFTER}'"
            );
            client.execute(&unused, &[]).await?;
            Ok::<(), DatabaseError>(())
        });
        if let Err(error) = written {
            tracing::warn!("cannot store templates, which the next start makes again: {error}");
        }
    }
}

/// Reads an entry; none if it is damaged.
fn from_row(row: &Row) -> Option<(Sha256Digest, Vec<Vec<f32>>)> {
    let samples: &[u8] = row.try_get(0).ok()?;
    let templates = of_bytes(row.try_get(1).ok()?)?;
    Some((Sha256Digest(samples.try_into().ok()?), templates))
}

/// Writes the length of the templates, and then their numbers.
fn to_bytes(templates: &[Vec<f32>]) -> Vec<u8> {
    let length = templates.first().map_or(0, Vec::len);
    let length = u32::try_from(length).unwrap_or_default().to_le_bytes();
    let numbers = templates.iter().flatten().flat_map(|n| n.to_le_bytes());
    length.into_iter().chain(numbers).collect()
}

/// Reads templates; none if the bytes are not at least one whole template of finite numbers.
fn of_bytes(bytes: &[u8]) -> Option<Vec<Vec<f32>>> {
    let (length, numbers) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let (numbers, rest) = numbers.as_chunks();
    let numbers: Vec<f32> = numbers.iter().copied().map(f32::from_le_bytes).collect();
    let is_whole = length > 0 && numbers.len().is_multiple_of(length) && rest.is_empty();
    let is_valid = is_whole && !numbers.is_empty() && numbers.iter().all(|n| n.is_finite());
    is_valid.then(|| numbers.chunks(length).map(<[f32]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_templates_are_not_used() {
        let templates = vec![vec![0.5, -1.0], vec![2.0, 3.25]];
        let bytes = to_bytes(&templates);
        assert_eq!(of_bytes(&bytes), Some(templates));
        for end in 0..bytes.len() {
            // One whole template of two is as good as a policy that makes one.
            assert_eq!(of_bytes(&bytes[..end]).is_some(), end == 4 + 8, "{end}");
        }
        assert_eq!(of_bytes(&[0, 0, 0, 0, 1, 2, 3, 4]), None);
        assert_eq!(of_bytes(&to_bytes(&[vec![f32::NAN]])), None);
    }
}
