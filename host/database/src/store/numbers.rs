//! Numbers of changes, and the rows by which the nodes find what each changed.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;

use super::unsigned;
use crate::connection::DatabaseError;
use crate::fleet::{Epoch, Position};

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
/// the last one. The row of the counter stays locked until the transaction ends, so that changes
/// become visible in the order of their numbers.
pub(super) async fn take_numbers(
    transaction: &Transaction<'_>,
    subjects: &[Subject<'_>],
    epoch: &Epoch,
) -> Result<Position, DatabaseError> {
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
    Ok(Position {
        epoch: epoch.clone(),
        number: unsigned(row.ok_or(DatabaseError::OtherEpoch)?.get(0)),
    })
}

/// Changes of this node in one epoch. Another server may give their numbers to other changes.
#[derive(Debug, Default)]
pub(super) struct OwnChanges {
    epoch: Option<Epoch>,
    /// Committed, and not in the views.
    committed: BTreeSet<u64>,
    /// In the views.
    applied: BTreeSet<u64>,
}

impl OwnChanges {
    /// Records a committed change.
    pub(super) fn commit(&mut self, change: &Position) {
        if self.epoch.as_ref() != Some(&change.epoch) {
            *self = Self {
                epoch: Some(change.epoch.clone()),
                ..Self::default()
            };
        }
        self.committed.insert(change.number);
    }

    /// Records that a committed change is in the views.
    pub(super) fn apply(&mut self, number: u64) {
        if self.committed.remove(&number) {
            self.applied.insert(number);
        }
    }

    /// Returns true if the views have the change.
    pub(super) fn is_applied(&self, epoch: &Epoch, number: u64) -> bool {
        self.epoch.as_ref() == Some(epoch) && self.applied.contains(&number)
    }

    /// Forgets the changes up to a position, which were found and are in the views.
    pub(super) fn forget_until(&mut self, position: &Position) {
        if self.epoch.as_ref() == Some(&position.epoch) {
            self.applied = self.applied.split_off(&(position.number + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: &str, number: u64) -> Position {
        Position {
            epoch: epoch.into(),
            number,
        }
    }

    #[test]
    fn own_changes_belong_to_epoch() {
        let mut own = OwnChanges::default();
        let (old, new) = ("old".into(), "new".into());
        own.commit(&at("old", 101));
        assert!(!own.is_applied(&old, 101));
        own.apply(101);
        assert!(own.is_applied(&old, 101) && !own.is_applied(&new, 101));
        own.forget_until(&at("new", 200));
        assert!(own.is_applied(&old, 101));
        own.commit(&at("old", 102));
        own.commit(&at("new", 103));
        // Late, for a change that the failover may have lost.
        own.apply(102);
        own.apply(103);
        assert!(!own.is_applied(&new, 102) && own.is_applied(&new, 103));
        own.forget_until(&at("new", 103));
        assert!(!own.is_applied(&new, 103));
    }
}
