//! Rows that cannot be used. Each is set aside: its person keeps their other samples.

use std::fmt;
use std::pin::pin;

use deadpool_postgres::GenericClient;
use futures_util::TryStreamExt;
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use tokio_postgres::Row;

use super::samples;
use crate::connection::{Database, DatabaseError};

/// Number of rows that a line of the log names.
const MAX_LOGGED: usize = 10;

/// A row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRow {
    /// Surrogate key of the person.
    pub person: i64,
    /// Id of the person, as it is stored.
    pub id: String,
    /// Position of the sample; none if the row of the person is damaged.
    pub position: Option<i32>,
    /// Reason.
    pub reason: String,
}

/// A person with one of their samples.
pub(super) struct SampleRow {
    /// Surrogate key of the person.
    pub person: i64,
    pub id: PersonId,
    pub sample: Result<Sample, DamagedRow>,
}

/// Damaged rows as the log names them: without the ids of people.
pub(super) struct WithoutIds<'a>(pub &'a [DamagedRow]);

impl SampleRow {
    /// Reads a row of [`read_samples`].
    fn of(row: &Row) -> Result<Self, DamagedRow> {
        let (person, position): (i64, Option<i32>) = (row.get(0), row.get(2));
        let stored: String = row.get(1);
        let damaged = |reason: String| DamagedRow {
            person,
            id: stored.clone(),
            position,
            reason,
        };
        let Some(id) = canonical_id(&stored) else {
            return Err(DamagedRow {
                position: None,
                ..damaged("its id is invalid".to_owned())
            });
        };
        let sample = match position {
            None => Err("it has no samples".to_owned()),
            Some(_) => samples::from_row(row, 3),
        };
        Ok(Self {
            person,
            id,
            sample: sample.map_err(damaged),
        })
    }
}

impl fmt::Display for WithoutIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, row) in self.0.iter().take(MAX_LOGGED).enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}person {}", row.person)?;
            if let Some(position) = row.position {
                write!(f, " sample {position}")?;
            }
        }
        match self.0.len().saturating_sub(MAX_LOGGED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Returns an id if it is in the form in which ids are stored.
pub(super) fn canonical_id(text: &str) -> Option<PersonId> {
    let id: PersonId = text.parse().ok()?;
    (id.as_str() == text).then_some(id)
}

/// Reads people with every sample, in the order of their ids and positions: all, or those of some
/// surrogate keys.
pub(super) async fn read_samples(
    client: &impl GenericClient,
    people: Option<&[i64]>,
    mut visit: impl FnMut(Result<SampleRow, DamagedRow>),
) -> Result<(), DatabaseError> {
    let statement = format!(
        "SELECT person.person, person.id, sample.position, {} \
         FROM person LEFT JOIN sample USING (person) \
         WHERE $1::bigint[] IS NULL OR person.person = ANY ($1) \
         ORDER BY person.id, sample.position",
        samples::COLUMNS
    );
    let mut rows = pin!(client.query_raw(&statement, [&people]).await?);
    while let Some(row) = rows.try_next().await? {
        visit(SampleRow::of(&row));
    }
    Ok(())
}

/// Finds every damaged row of people and samples.
///
/// # Errors
///
/// If a statement fails.
pub fn find_damage(database: &Database) -> Result<Vec<DamagedRow>, DatabaseError> {
    database.wait(async {
        let client = database.client().await?;
        let mut found = Vec::new();
        read_samples(&client, None, |row| {
            found.extend(row.and_then(|row| row.sample).err());
        })
        .await?;
        // A row of a person is read with each of the samples.
        found.dedup();
        Ok(found)
    })
}
