//! Reading all people, with the templates that a node has stored.

use std::collections::HashMap;
use std::pin::pin;

use deadpool_postgres::Transaction;
use futures_util::TryStreamExt;
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::PersonId;
use rostro_gallery::{GalleryError, PersonRecord};

use super::damage::{DamagedRow, WithoutIds, canonical_id, read_samples};
use super::{PostgresStore, failure, feed, templates};
use crate::connection::{DatabaseError, StatementKind};

/// People that were read.
#[derive(Debug, Default)]
struct LoadedPeople {
    /// Those with samples come last, and each part is ordered by id.
    people: Vec<PersonRecord>,
    /// Ids by surrogate key.
    keys: HashMap<i64, PersonId>,
    damaged: Vec<DamagedRow>,
}

impl PostgresStore {
    /// Reads all people, ordered by id. Those with templates under `key` have no samples. Damaged rows
    /// are logged and left out.
    pub(super) fn load_people(
        &self,
        key: Option<Sha256Digest>,
    ) -> Result<Vec<PersonRecord>, GalleryError> {
        loop {
            let load = self.lock_known().begin_load();
            let LoadedPeople {
                mut people,
                keys,
                mut damaged,
            } = match self.read_people(key) {
                Ok(read) => read,
                Err(error) => {
                    self.lock_known().end_load(load, HashMap::new());
                    return Err(failure(error));
                }
            };
            let deleted = self.lock_known().end_load(load, keys);
            let Some(deleted) = deleted else { continue };
            damaged.dedup();
            if !damaged.is_empty() {
                tracing::error!(
                    damaged = damaged.len(),
                    rows = %WithoutIds(&damaged),
                    "rows of the database cannot be used and are left out; `rostro database check` names the people: enrol them again or delete them"
                );
            }
            people.retain(|person| !deleted.contains(&person.id));
            people.sort_by(|a, b| a.id.cmp(&b.id));
            return Ok(people);
        }
    }

    fn read_people(&self, key: Option<Sha256Digest>) -> Result<LoadedPeople, DatabaseError> {
        self.database.count(StatementKind::Read);
        self.database.wait(async {
            let mut client = self.database.client().await?;
            let transaction = feed::snapshot(&mut client).await?;
            let mut loaded = LoadedPeople::default();
            let without = match key {
                None => None,
                Some(key) => Some(self.read_stored(&transaction, key, &mut loaded).await?),
            };
            if without.as_ref().is_none_or(|without| !without.is_empty()) {
                self.read_with_samples(&transaction, without.as_deref(), &mut loaded)
                    .await?;
            }
            transaction.commit().await?;
            Ok(loaded)
        })
    }

    /// Reads the people with templates. Returns the surrogate keys of the others.
    async fn read_stored(
        &self,
        transaction: &Transaction<'_>,
        key: Sha256Digest,
        loaded: &mut LoadedPeople,
    ) -> Result<Vec<i64>, DatabaseError> {
        let statement = "SELECT person.person, person.id, template.templates FROM person \
                         LEFT JOIN template ON template.person = person.person \
                         AND template.key = $1";
        let mut without = Vec::new();
        let rows = transaction
            .query_raw(statement, [&key.0.as_slice()])
            .await?;
        let mut rows = pin!(rows);
        while let Some(row) = rows.try_next().await? {
            let person: i64 = row.get(0);
            let stored = row.get::<_, Option<&[u8]>>(2).and_then(templates::of_bytes);
            match (canonical_id(row.get(1)), stored) {
                (Some(id), Some(templates)) => {
                    loaded.keys.insert(person, id.clone());
                    loaded.people.push(PersonRecord {
                        path: self.path_of(&id),
                        id,
                        samples: Vec::new(),
                        templates: Some(templates),
                    });
                }
                _ => without.push(person),
            }
        }
        Ok(without)
    }

    /// Reads people with their samples: all, or those of some surrogate keys.
    async fn read_with_samples(
        &self,
        transaction: &Transaction<'_>,
        people: Option<&[i64]>,
        loaded: &mut LoadedPeople,
    ) -> Result<(), DatabaseError> {
        let LoadedPeople {
            people: read,
            keys,
            damaged,
        } = loaded;
        let mut last = None;
        read_samples(transaction, people, |row| {
            let row = match row {
                Ok(row) => row,
                Err(row) => return damaged.push(row),
            };
            if last != Some(row.person) {
                last = Some(row.person);
                keys.insert(row.person, row.id.clone());
                read.push(PersonRecord {
                    path: self.path_of(&row.id),
                    id: row.id,
                    samples: Vec::new(),
                    templates: None,
                });
            }
            match (row.sample, read.last_mut()) {
                (Ok(sample), Some(person)) => person.samples.push(self.with_contract(sample)),
                (Err(row), _) => damaged.push(row),
                (Ok(_), None) => {}
            }
        })
        .await
    }
}
