//! Numbers of changes, and the rows by which the nodes find what each changed.

use deadpool_postgres::Transaction;

use super::unsigned;
use crate::connection::DatabaseError;
use crate::fleet::Epoch;

/// What a change is about.
#[derive(Clone, Debug)]
pub(super) enum Subject<'s> {
    /// Samples of a person, by the surrogate key.
    Person(i64),
    /// Deletion of a person, none if no person was stored. Nodes must apply it before it is
    /// answered.
    Deletion(Option<i64>),
    /// A group.
    Group(&'s str),
    /// The record of revisions. Nodes must apply it before it is answered.
    Revisions,
}

/// Takes the numbers of changes, in their order, writes their rows and notifies the nodes. Returns
/// the last number. The row of the counter stays locked until the transaction ends, so that changes
/// become visible in the order of their numbers.
pub(super) async fn take_numbers(
    transaction: &Transaction<'_>,
    subjects: &[Subject<'_>],
    epoch: &Epoch,
) -> Result<u64, DatabaseError> {
    let people: Vec<Option<i64>> = subjects
        .iter()
        .map(|subject| match subject {
            Subject::Person(person) => Some(*person),
            Subject::Deletion(person) => *person,
            Subject::Group(_) | Subject::Revisions => None,
        })
        .collect();
    let groups: Vec<Option<&str>> = subjects
        .iter()
        .map(|subject| match subject {
            Subject::Group(name) => Some(*name),
            _ => None,
        })
        .collect();
    let awaited: Vec<bool> = subjects
        .iter()
        .map(|subject| matches!(subject, Subject::Deletion(_) | Subject::Revisions))
        .collect();
    let revisions: Vec<bool> = subjects
        .iter()
        .map(|subject| matches!(subject, Subject::Revisions))
        .collect();
    let count = i64::try_from(subjects.len()).unwrap_or(i64::MAX);
    let statement = transaction
        .prepare_cached(
            "WITH numbered AS (UPDATE gallery SET counter = counter + $1 \
                WHERE epoch() = $5 RETURNING counter), \
             written AS (INSERT INTO change \
                (number, person, group_name, is_awaited, is_revisions) \
                SELECT counter - $1 + place, person, group_name, is_awaited, is_revisions \
                FROM numbered, unnest($2::bigint[], $3::text[], $4::boolean[], $6::boolean[]) \
                WITH ORDINALITY AS new (person, group_name, is_awaited, is_revisions, place)) \
             SELECT counter, pg_notify('rostro_change', counter::text) FROM numbered",
        )
        .await?;
    let row = transaction
        .query_opt(
            &statement,
            &[&count, &people, &groups, &awaited, &&**epoch, &revisions],
        )
        .await?;
    Ok(unsigned(row.ok_or(DatabaseError::OtherEpoch)?.get(0)))
}
