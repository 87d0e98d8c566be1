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

/// The templates that a view needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredTemplates {
    pub key: Sha256Digest,
    /// Length of each.
    pub dimension: usize,
}

/// Why people cannot be read.
#[derive(Debug)]
enum LoadFailure {
    /// The templates cannot be read, and the samples may.
    Templates(DatabaseError),
    People(DatabaseError),
}

impl<E: Into<DatabaseError>> From<E> for LoadFailure {
    fn from(error: E) -> Self {
        Self::People(error.into())
    }
}

/// People that were read.
#[derive(Debug, Default)]
struct LoadedPeople {
    /// Those with templates come first, in any order.
    people: Vec<PersonRecord>,
    /// Ids by surrogate key.
    keys: HashMap<i64, PersonId>,
    damaged: Vec<DamagedRow>,
}

impl PostgresStore {
    /// Reads all people, ordered by id. Those with stored templates have no samples. Damaged rows are
    /// logged and left out.
    pub(super) fn load_people(
        &self,
        mut stored: Option<StoredTemplates>,
    ) -> Result<Vec<PersonRecord>, GalleryError> {
        loop {
            let load = self.lock_known().begin_load();
            let LoadedPeople {
                mut people,
                keys,
                mut damaged,
            } = match self.read_people(stored) {
                Ok(read) => read,
                Err(failed) => {
                    self.lock_known().end_load(load, HashMap::new());
                    match failed {
                        LoadFailure::Templates(error) => {
                            tracing::warn!("cannot read templates, which are made again: {error}");
                            stored = None;
                            continue;
                        }
                        LoadFailure::People(error) => return Err(failure(error)),
                    }
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

    fn read_people(&self, stored: Option<StoredTemplates>) -> Result<LoadedPeople, LoadFailure> {
        self.database.count(StatementKind::Read);
        self.database.wait(async {
            let mut client = self.database.client().await?;
            let transaction = feed::snapshot(&mut client).await?;
            let mut loaded = LoadedPeople::default();
            let without = match stored {
                None => None,
                Some(stored) => Some(
                    self.read_stored(&transaction, stored, &mut loaded)
                        .await
                        .map_err(LoadFailure::Templates)?,
                ),
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
        StoredTemplates { key, dimension }: StoredTemplates,
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
            let stored = row.get::<_, Option<&[u8]>>(2);
            let stored = stored.and_then(|bytes| templates::of_bytes(bytes, dimension));
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
