//! Reads and writes of people.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::pin;

use deadpool_postgres::{GenericClient, Transaction};
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_gallery::{
    BatchOutcome, BatchWrite, Deletion, Durability, GalleryError, MAX_PERSON_BYTES, PersonSamples,
    PersonWrite, Removal, SampleLocation, SharedChange,
};
use tokio_postgres::Row;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use super::damage::canonical_id;
use super::numbers::{Subject, take_numbers};
use super::{PostgresStore, failure, samples, signed};
use crate::connection::DatabaseError;
use crate::fleet::{Epoch, Position};
use crate::sessions::{hold_texts, remove_mentions};

/// A person to write, with all samples in force.
pub(super) type SamplesInForce<'a> = (&'a PersonId, Vec<Sample>);

impl PostgresStore {
    /// Sets the contract of a sample that names none, if it is known.
    pub(super) fn with_contract(&self, sample: Sample) -> Sample {
        Sample {
            contract: sample.contract.or_else(|| self.legacy.get().cloned()),
            ..sample
        }
    }

    pub(super) fn read_ids(&self) -> Result<BTreeSet<PersonId>, GalleryError> {
        self.read_with(async |client| {
            let rows = client.query("SELECT id FROM person", &[]).await?;
            Ok(rows.iter().filter_map(stored_id).collect())
        })
        .map_err(failure)
    }

    /// Reads the samples of a person; none for an unknown one.
    pub(super) fn read_person(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, GalleryError> {
        let stored = self
            .read_with(async |client| stored_samples(client, id).await)
            .map_err(failure)?;
        Ok(stored.map(|(person, samples)| {
            // A person who is read may get into a view, and a deletion names this key alone.
            self.lock_known().insert(person, id.clone());
            samples
                .into_iter()
                .map(|sample| self.with_contract(sample))
                .collect()
        }))
    }

    pub(super) fn replace_person(
        &self,
        id: &PersonId,
        samples: &[Sample],
    ) -> Result<PersonWrite, GalleryError> {
        let samples = samples::replaced(samples);
        check_size(&samples)?;
        self.write_person(async |_| Ok(samples), id)
    }

    pub(super) fn put_samples(
        &self,
        id: &PersonId,
        new: &[Sample],
        location: SampleLocation,
    ) -> Result<PersonWrite, GalleryError> {
        check_size(new)?;
        self.write_person(
            async |transaction| {
                let old = stored_samples(transaction, id).await?;
                let old: Vec<Sample> = old
                    .map(|(_, samples)| samples)
                    .unwrap_or_default()
                    .into_iter()
                    .map(|sample| self.with_contract(sample))
                    .collect();
                Ok(samples::added(&old, new, location))
            },
            id,
        )
    }

    /// Writes one person in a transaction, and then the CSV file of this node.
    fn write_person(
        &self,
        samples: impl AsyncFnOnce(&Transaction<'_>) -> Result<Vec<Sample>, DatabaseError>,
        id: &PersonId,
    ) -> Result<PersonWrite, GalleryError> {
        let (number, samples) = self
            .change(async |transaction, epoch| {
                lock_people(transaction, &[id]).await?;
                check_case(transaction, id).await?;
                let samples = samples(transaction).await?;
                let people = [(id, samples)];
                let keys = write_rows(transaction, &people).await?;
                let number = self
                    .number_people(transaction, &people, &keys, epoch)
                    .await?;
                let [(_, samples)] = people;
                Ok((number, samples))
            })
            .map_err(failure)?;
        let number = self.record_own(&number);
        Ok(PersonWrite {
            number,
            path: self.write_file(id, &samples),
            durability: Durability::Synced,
        })
    }

    pub(super) fn replace_people(&self, people: &[PersonSamples<'_>]) -> BatchWrite {
        let mut outcomes = vec![BatchOutcome::Skipped; people.len()];
        let failed = |outcomes, failure| BatchWrite {
            outcomes,
            durability: Durability::Synced,
            failure: Some(failure),
        };
        let mut writes: Vec<SamplesInForce<'_>> = Vec::new();
        let mut places = Vec::new();
        for (place, ((id, samples), outcome)) in people.iter().zip(&mut outcomes).enumerate() {
            let samples = samples::replaced(samples);
            let size = samples::file_size(&samples);
            if size as u64 > MAX_PERSON_BYTES {
                *outcome = BatchOutcome::TooLarge(size);
            } else {
                writes.push((id, samples));
                places.push(place);
            }
        }
        if writes.is_empty() {
            return BatchWrite {
                outcomes,
                durability: Durability::Synced,
                failure: None,
            };
        }
        let written = self.change(async |transaction, epoch| {
            let ids: Vec<&PersonId> = writes.iter().map(|(id, _)| *id).collect();
            lock_people(transaction, &ids).await?;
            // A command copies pairs of ids of older galleries.
            let taken = match self.node {
                Some(_) => taken_ids(transaction, &ids).await?,
                None => HashSet::new(),
            };
            writes.retain(|(id, _)| !taken.contains(id.as_str()));
            if writes.is_empty() {
                return Ok((None, taken));
            }
            let keys = write_rows(transaction, &writes).await?;
            let last = self
                .number_people(transaction, &writes, &keys, epoch)
                .await?;
            Ok((Some(last), taken))
        });
        let (last, taken) = match written {
            Ok(written) => written,
            Err(error) => return failed(outcomes, failure(error)),
        };
        for ((id, _), outcome) in people.iter().zip(&mut outcomes) {
            if taken.contains(id.as_str()) {
                *outcome = BatchOutcome::IdTaken;
            }
        }
        places.retain(|place| outcomes.get(*place) == Some(&BatchOutcome::Skipped));
        let Some(last) = last else {
            return BatchWrite {
                outcomes,
                durability: Durability::Synced,
                failure: None,
            };
        };
        let first = last.number.saturating_sub(writes.len() as u64 - 1);
        for (number, place) in (first..).zip(places) {
            if let Some(outcome) = outcomes.get_mut(place) {
                let change = Position {
                    number,
                    ..last.clone()
                };
                *outcome = BatchOutcome::Stored(self.record_own(&change));
            }
        }
        self.write_files(&writes);
        BatchWrite {
            outcomes,
            durability: Durability::Synced,
            failure: None,
        }
    }

    /// Deletes a person, with memberships and the file of this node, and leaves a tombstone.
    pub(super) fn delete(&self, id: &PersonId) -> Result<Deletion, GalleryError> {
        // Held until the index follows, because a change of a group replaces all its members.
        let _changing = self.lock_groups();
        let (change, was_stored) = self
            .change(async |transaction, epoch| {
                let text = id.as_str();
                hold_texts(transaction).await?;
                lock_people(transaction, &[id]).await?;
                remove_mentions(transaction, id).await?;
                let row = transaction
                    .query_opt(
                        "DELETE FROM person WHERE id = $1 RETURNING person",
                        &[&text],
                    )
                    .await?;
                let person = row.map(|row| row.get(0));
                let subjects = [Subject::Deletion(person)];
                let change = take_numbers(transaction, &subjects, epoch).await?;
                // After the number: members that were added before it are committed now, and a
                // node that adds one later sees that the person is gone.
                transaction
                    .execute("DELETE FROM member WHERE id = $1", &[&text])
                    .await?;
                self.write_tombstone(transaction, id, change.number).await?;
                Ok((change, person.is_some()))
            })
            .map_err(failure)?;
        self.groups.remove_member(&self.groups.groups_of(id), id);
        let number = self.record_own(&change);
        // The file is a copy, but callers read it: the deletion is not answered with success before
        // it is gone.
        let file = self.remove_file(id).unwrap_or_else(|error| Removal {
            was_there: false,
            left_alone: Vec::new(),
            durability: Durability::Failed(error),
        });
        Ok(Deletion {
            number,
            was_there: was_stored || file.was_there,
            left_alone: file.left_alone,
            durability: file.durability,
            has_tombstone: true,
            shared: SharedChange {
                number,
                epoch: Some(change.epoch),
            },
        })
    }

    /// Numbers the changes of people. Returns the last one.
    async fn number_people(
        &self,
        transaction: &Transaction<'_>,
        people: &[SamplesInForce<'_>],
        keys: &HashMap<String, i64>,
        epoch: &Epoch,
    ) -> Result<Position, DatabaseError> {
        let keys: Vec<i64> = people
            .iter()
            .filter_map(|(id, _)| keys.get(id.as_str()).copied())
            .collect();
        let subjects: Vec<Subject<'_>> = keys.iter().copied().map(Subject::Person).collect();
        let last = take_numbers(transaction, &subjects, epoch).await?;
        let first = last.number.saturating_sub(people.len() as u64 - 1);
        let numbers: Vec<i64> = (first..=last.number).map(signed).collect();
        let statement = transaction
            .prepare_cached(
                "UPDATE person SET number = new.number \
                 FROM unnest($1::bigint[], $2::bigint[]) AS new (person, number) \
                 WHERE person.person = new.person",
            )
            .await?;
        transaction.execute(&statement, &[&keys, &numbers]).await?;
        // Even if the commit fails in the end, a key belongs to one id for ever.
        let ids = people.iter().map(|(id, _)| (*id).clone());
        self.lock_known().extend(keys.into_iter().zip(ids));
        Ok(last)
    }
}

/// Returns the id in the first column; none if it is not in the form in which ids are stored, so that
/// no request could name it.
fn stored_id(row: &Row) -> Option<PersonId> {
    canonical_id(row.get(0))
}

/// Serialises the changes of these people, and of people with ids that differ only in case, until the
/// transaction ends, also before there are rows. All are locked in one order, so that two batches do
/// not wait for each other.
async fn lock_people(
    transaction: &Transaction<'_>,
    ids: &[&PersonId],
) -> Result<(), DatabaseError> {
    let mut keys: Vec<String> = ids.iter().map(|id| id.case_key()).collect();
    keys.sort_unstable();
    let statement = transaction
        .prepare_cached(
            "SELECT count(pg_advisory_xact_lock(hashtextextended(key, 0))) \
             FROM unnest($1::text[]) AS new (key)",
        )
        .await?;
    transaction.execute(&statement, &[&keys]).await?;
    Ok(())
}

/// Refuses a new id that differs only in case from a stored one. The caller has locked it.
async fn check_case(transaction: &Transaction<'_>, id: &PersonId) -> Result<(), DatabaseError> {
    let statement = transaction
        .prepare_cached(
            "SELECT bool_or(id = $2) FROM person WHERE case_key = $1 HAVING count(*) > 0",
        )
        .await?;
    let row = transaction
        .query_opt(&statement, &[&id.case_key(), &id.as_str()])
        .await?;
    match row.map(|row| row.get(0)) {
        Some(false) => Err(DatabaseError::IdTaken),
        Some(true) | None => Ok(()),
    }
}

/// Returns the new ids that differ only in case from stored ones. The caller has locked them.
async fn taken_ids(
    transaction: &Transaction<'_>,
    ids: &[&PersonId],
) -> Result<HashSet<String>, DatabaseError> {
    let case_keys: Vec<String> = ids.iter().map(|id| id.case_key()).collect();
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let statement = transaction
        .prepare_cached(
            "SELECT new.id FROM unnest($1::text[], $2::text[]) AS new (id, case_key) \
             WHERE NOT EXISTS (SELECT FROM person WHERE person.id = new.id) \
             AND EXISTS (SELECT FROM person WHERE person.case_key = new.case_key)",
        )
        .await?;
    let rows = transaction.query(&statement, &[&ids, &case_keys]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Reads the surrogate key and the rows of a person; none for an unknown one. Damaged rows are left
/// out.
async fn stored_samples(
    client: &impl GenericClient,
    id: &PersonId,
) -> Result<Option<(i64, Vec<Sample>)>, DatabaseError> {
    let statement = format!(
        "SELECT sample.position, person.person, {} FROM person LEFT JOIN sample USING (person) \
         WHERE person.id = $1 ORDER BY sample.position",
        samples::COLUMNS
    );
    let statement = client.prepare_cached(&statement).await?;
    let rows = client.query(&statement, &[&id.as_str()]).await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let person = first.get(1);
    let present = rows
        .iter()
        .filter(|row| row.get::<_, Option<i32>>(0).is_some());
    let samples = present.filter_map(|row| samples::from_row(row, 2).ok());
    Ok(Some((person, samples.collect())))
}

/// Writes people with their samples instead of those that are stored. Returns their surrogate keys.
async fn write_rows(
    transaction: &Transaction<'_>,
    people: &[SamplesInForce<'_>],
) -> Result<HashMap<String, i64>, DatabaseError> {
    let ids: Vec<&str> = people.iter().map(|(id, _)| id.as_str()).collect();
    let case_keys: Vec<String> = people.iter().map(|(id, _)| id.case_key()).collect();
    let statement = transaction
        .prepare_cached(
            "INSERT INTO person (id, case_key, number) \
             SELECT id, case_key, 0 FROM unnest($1::text[], $2::text[]) AS new (id, case_key) \
             ON CONFLICT (id) DO UPDATE SET enrolled_at = now() RETURNING id, person",
        )
        .await?;
    let rows = transaction.query(&statement, &[&ids, &case_keys]).await?;
    let keys: HashMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let all: Vec<i64> = keys.values().copied().collect();
    let statement = transaction
        .prepare_cached("DELETE FROM sample WHERE person = ANY ($1)")
        .await?;
    transaction.execute(&statement, &[&all]).await?;
    let sink = transaction
        .copy_in(
            "COPY sample (person, position, contract, enrolment, det_score, embedding, raw) \
             FROM STDIN (FORMAT binary)",
        )
        .await?;
    let types = [
        Type::INT8,
        Type::INT4,
        Type::TEXT,
        Type::TEXT,
        Type::FLOAT4,
        Type::FLOAT4_ARRAY,
        Type::FLOAT4_ARRAY,
    ];
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for (id, samples) in people {
        let Some(person) = keys.get(id.as_str()) else {
            continue;
        };
        for (position, sample) in (0_i32..).zip(samples) {
            let contract = sample.contract.as_ref().map(ToString::to_string);
            let enrolment = sample.enrolment.as_ref().map(ToString::to_string);
            writer
                .as_mut()
                .write(&[
                    person,
                    &position,
                    &contract,
                    &enrolment,
                    &sample.det_score,
                    &sample.embedding,
                    &sample.raw,
                ])
                .await?;
        }
    }
    writer.as_mut().finish().await?;
    Ok(keys)
}

fn check_size(samples: &[Sample]) -> Result<(), GalleryError> {
    let size = samples::file_size(samples);
    if size as u64 > MAX_PERSON_BYTES {
        return Err(GalleryError::TooLarge { size });
    }
    Ok(())
}
