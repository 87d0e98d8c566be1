//! Templates of people, which nodes make once for all.
//!
//! A template belongs to a person's row and goes with it. A trigger deletes the templates of a person
//! with the change of a sample, in its transaction, so that stored templates are of stored samples.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rostro_common::digest::Sha256Digest;
use rostro_gallery::{ChangeNumber, KeptTemplates, SharedChange};

use super::{PostgresStore, signed};
use crate::connection::{DatabaseError, StatementKind};
use crate::fleet::Position;

/// Number of people that are written by a statement.
const BATCH: usize = 1000;

/// Time between two records that keys are in use.
const TOUCH_PERIOD: Duration = Duration::from_secs(6 * 3600);

/// Time after which the templates of a view are deleted that no node uses, because its policy,
/// settings or limits are another now.
const UNUSED_AFTER: &str = "30 days";

/// Keys of templates that this node uses.
#[derive(Debug, Default)]
pub(super) struct TemplateKeys {
    keys: Vec<Sha256Digest>,
    touched: Option<Instant>,
}

impl PostgresStore {
    /// Records now and then that the keys of this node are in use, so that their templates stay.
    pub(super) fn touch_template_keys(&self) {
        let keys = {
            let mut used = self.lock_template_keys();
            let is_due = used.touched.is_none_or(|at| at.elapsed() > TOUCH_PERIOD);
            if !is_due || used.keys.is_empty() {
                return;
            }
            used.touched = Some(Instant::now());
            used.keys.clone()
        };
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.0.as_slice()).collect();
        self.database.count(StatementKind::Change);
        let touched = self.database.wait(async {
            let client = self.database.client().await?;
            let statement = "UPDATE template_key SET used_at = now() WHERE key = ANY ($1)";
            client.execute(statement, &[&keys]).await?;
            Ok::<(), DatabaseError>(())
        });
        if let Err(error) = touched {
            tracing::debug!("cannot record that templates are in use: {error}");
        }
    }

    fn lock_template_keys(&self) -> MutexGuard<'_, TemplateKeys> {
        self.template_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an empty set for templates that are made of people as this node knows them now.
    pub(super) fn no_templates(&self) -> KeptTemplates {
        let position = self.fleet.position().get();
        let as_of = position.map(|Position { epoch, number }| SharedChange {
            number: ChangeNumber(number),
            epoch: Some(epoch),
        });
        KeptTemplates::new(usize::MAX, as_of.unwrap_or_default())
    }

    /// Adds the templates that were made, and deletes those of views that are no longer in use.
    pub(super) fn write_templates(&self, key: Sha256Digest, templates: &KeptTemplates) {
        {
            let mut used = self.lock_template_keys();
            used.touched = Some(Instant::now());
            if !used.keys.contains(&key) {
                used.keys.push(key);
            }
        }
        let made: Vec<_> = templates.made().collect();
        let as_of = templates.as_of();
        let (number, epoch) = (signed(as_of.number.0), as_of.epoch.as_deref());
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
                let ids: Vec<&str> = batch.iter().map(|(id, _)| id.as_str()).collect();
                let templates: Vec<Vec<u8>> = batch
                    .iter()
                    .map(|(_, templates)| to_bytes(templates))
                    .collect();
                // The lock waits for an enrolment that is about to commit, after which the number
                // is above `as_of`: its person's former samples leave nothing.
                client
                    .execute(
                        "WITH unchanged AS (SELECT person, templates FROM person \
                            JOIN unnest($2::text[], $3::bytea[]) AS new (id, templates) \
                            USING (id) WHERE number <= $4 AND epoch() = $5 \
                            ORDER BY person FOR SHARE OF person) \
                         INSERT INTO template (key, person, templates) \
                         SELECT $1, person, templates FROM unchanged \
                         ON CONFLICT (key, person) DO UPDATE SET templates = excluded.templates",
                        &[&key, &ids, &templates, &number, &epoch],
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

/// Writes the length of the templates, and then their numbers; nothing for none.
fn to_bytes(templates: &[Vec<f32>]) -> Vec<u8> {
    let Some(first) = templates.first() else {
        return Vec::new();
    };
    let length = first.len();
    let length = u32::try_from(length).unwrap_or_default().to_le_bytes();
    let numbers = templates.iter().flatten().flat_map(|n| n.to_le_bytes());
    length.into_iter().chain(numbers).collect()
}

/// Reads templates of a length, or an empty list of a person without samples; none if the bytes are
/// others, or if a template has no direction.
pub(super) fn of_bytes(bytes: &[u8], dimension: usize) -> Option<Vec<Vec<f32>>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (length, numbers) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let (numbers, rest) = numbers.as_chunks();
    let numbers: Vec<f32> = numbers.iter().copied().map(f32::from_le_bytes).collect();
    let is_whole = length == dimension && numbers.len().is_multiple_of(length) && rest.is_empty();
    if !is_whole || numbers.is_empty() {
        return None;
    }
    let templates: Vec<Vec<f32>> = numbers.chunks(length).map(<[f32]>::to_vec).collect();
    let is_usable = |template: &Vec<f32>| {
        let norm: f32 = template.iter().map(|number| number * number).sum();
        norm.is_normal()
    };
    templates.iter().all(is_usable).then_some(templates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_templates_are_not_used() {
        let templates = vec![vec![0.5, -1.0], vec![2.0, 3.25]];
        let bytes = to_bytes(&templates);
        assert_eq!(of_bytes(&bytes, 2), Some(templates));
        assert_eq!(of_bytes(&to_bytes(&[]), 2), Some(Vec::new()));
        for end in 1..bytes.len() {
            // One whole template of two is as good as a policy that makes one.
            assert_eq!(of_bytes(&bytes[..end], 2).is_some(), end == 4 + 8, "{end}");
        }
        assert_eq!(of_bytes(&[0, 0, 0, 0, 1, 2, 3, 4], 0), None);
        assert_eq!(of_bytes(&bytes, 4), None);
        for number in [f32::NAN, 0.0, f32::MAX] {
            assert_eq!(of_bytes(&to_bytes(&[vec![number]]), 1), None, "{number}");
        }
    }
}
