//! Groups and their members.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use deadpool_postgres::{GenericClient, Transaction};
use rostro_common::ids::PersonId;
use rostro_gallery::GroupChange;
use rostro_gallery::groups::{GroupId, GroupsError, MAX_FILE_BYTES, MAX_GROUPS, Members};

use super::numbers::{Subject, take_numbers};
use super::{PostgresStore, database_failure};
use crate::connection::DatabaseError;
use crate::fleet::{Epoch, Position};

/// Change that changed nothing.
const UNCHANGED: GroupChange = GroupChange {
    number: None,
    durable: true,
};

/// Reads all groups. Damaged rows are logged.
pub(super) async fn load(
    client: &impl GenericClient,
) -> Result<BTreeMap<GroupId, Members>, DatabaseError> {
    let rows = client
        .query(
            "SELECT groups.name, member.id FROM groups LEFT JOIN member USING (name)",
            &[],
        )
        .await?;
    let mut groups: BTreeMap<GroupId, HashSet<PersonId>> = BTreeMap::new();
    let mut damaged = 0;
    for row in rows {
        let Ok(group) = row.get::<_, String>(0).parse::<GroupId>() else {
            damaged += 1;
            continue;
        };
        let members = groups.entry(group).or_default();
        match row
            .get::<_, Option<String>>(1)
            .map(|id| id.parse::<PersonId>())
        {
            Some(Ok(id)) => drop(members.insert(id)),
            Some(Err(_)) => damaged += 1,
            None => {}
        }
    }
    if damaged > 0 {
        tracing::error!(
            damaged,
            "groups or members in the database have names that are not ids"
        );
    }
    Ok(groups
        .into_iter()
        .map(|(group, members)| (group, Arc::new(members)))
        .collect())
}

impl PostgresStore {
    pub(super) fn lock_groups(&self) -> MutexGuard<'_, ()> {
        self.changing_groups
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_members(
        &self,
        group: &GroupId,
        ids: &[PersonId],
    ) -> Result<GroupChange, GroupsError> {
        let _changing = self.lock_groups();
        let name = group.to_string();
        let added = self.change_group(async |transaction, epoch| {
            let stored = stored_group(transaction, group).await?;
            let Some(before) = stored else {
                if let Err(refused) = check_new(transaction, group).await? {
                    return Ok(Err(refused));
                }
                let members: HashSet<PersonId> = ids.iter().cloned().collect();
                return insert(transaction, &name, None, members, epoch).await;
            };
            let mut members = before.clone();
            members.extend(ids.iter().cloned());
            insert(transaction, &name, Some(before), members, epoch).await
        })?;
        let Some((number, members)) = added else {
            return Ok(UNCHANGED);
        };
        self.groups.set(group, members);
        Ok(self.changed(&number))
    }

    pub(super) fn remove_member(
        &self,
        group: &GroupId,
        id: &PersonId,
    ) -> Result<Option<GroupChange>, GroupsError> {
        let _changing = self.lock_groups();
        let name = group.to_string();
        let number = self.change_group(async |transaction, epoch| {
            if stored_group(transaction, group).await?.is_none() {
                return Ok(Ok(None));
            }
            let statement = "DELETE FROM member WHERE name = $1 AND id = $2";
            let removed = transaction
                .execute(statement, &[&name, &id.as_str()])
                .await?;
            if removed == 0 {
                return Ok(Ok(Some(None)));
            }
            let number = take_numbers(transaction, &[Subject::Group(&name)], epoch).await?;
            Ok(Ok(Some(Some(number))))
        })?;
        let Some(number) = number else {
            return Ok(None);
        };
        self.groups.remove_member([group], id);
        Ok(Some(match number {
            Some(number) => self.changed(&number),
            None => UNCHANGED,
        }))
    }

    pub(super) fn remove_group(&self, group: &GroupId) -> Result<GroupChange, GroupsError> {
        let _changing = self.lock_groups();
        let name = group.to_string();
        let number = self.change_group(async |transaction, epoch| {
            lock_group(transaction, group).await?;
            let statement = "DELETE FROM groups WHERE name = $1";
            if transaction.execute(statement, &[&name]).await? == 0 {
                return Ok(Ok(None));
            }
            let number = take_numbers(transaction, &[Subject::Group(&name)], epoch).await?;
            Ok(Ok(Some(number)))
        })?;
        self.groups.remove(group);
        Ok(match number {
            Some(number) => self.changed(&number),
            None => UNCHANGED,
        })
    }

    /// Runs a change of a group in a transaction, which may refuse it.
    fn change_group<T>(
        &self,
        change: impl AsyncFnOnce(
            &Transaction<'_>,
            &Epoch,
        ) -> Result<Result<T, GroupsError>, DatabaseError>,
    ) -> Result<T, GroupsError> {
        self.change(change).map_err(failure)?
    }

    /// Records a change that the index has.
    fn changed(&self, change: &Position) -> GroupChange {
        let number = self.record_own(change);
        self.lock_own().apply(number.0);
        GroupChange {
            number: Some(number),
            durable: true,
        }
    }
}

/// Serialises changes of a group until the transaction ends, also of groups that differ only in case.
async fn lock_group(transaction: &Transaction<'_>, group: &GroupId) -> Result<(), DatabaseError> {
    let statement = transaction
        .prepare_cached("SELECT pg_advisory_xact_lock(hashtextextended('group ' || $1::text, 0))")
        .await?;
    let key = case_key(&group.to_string());
    transaction.execute(&statement, &[&key]).await?;
    Ok(())
}

/// Locks a group and reads its members; none if it does not exist.
async fn stored_group(
    transaction: &Transaction<'_>,
    group: &GroupId,
) -> Result<Option<HashSet<PersonId>>, DatabaseError> {
    lock_group(transaction, group).await?;
    let statement = transaction
        .prepare_cached(
            "SELECT member.id FROM groups LEFT JOIN member USING (name) WHERE name = $1",
        )
        .await?;
    let rows = transaction.query(&statement, &[&group.to_string()]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let ids = rows.iter().filter_map(|row| row.get::<_, Option<&str>>(0));
    Ok(Some(ids.filter_map(|id| id.parse().ok()).collect()))
}

/// Returns the reason why a new group cannot be made.
async fn check_new(
    transaction: &Transaction<'_>,
    group: &GroupId,
) -> Result<Result<(), GroupsError>, DatabaseError> {
    let rows = transaction.query("SELECT name FROM groups", &[]).await?;
    if rows.len() >= MAX_GROUPS {
        return Ok(Err(GroupsError::TooMany));
    }
    let key = case_key(&group.to_string());
    let is_taken = rows.iter().any(|row| case_key(row.get(0)) == key);
    Ok(match is_taken {
        true => Err(GroupsError::NameTaken),
        false => Ok(()),
    })
}

/// Adds members to a group. A new group has no `before`. Returns the number and all members, or
/// nothing if nothing changed.
async fn insert(
    transaction: &Transaction<'_>,
    name: &str,
    before: Option<HashSet<PersonId>>,
    members: HashSet<PersonId>,
    epoch: &Epoch,
) -> Result<Result<Option<(Position, HashSet<PersonId>)>, GroupsError>, DatabaseError> {
    let is_new = before.is_none();
    let before = before.unwrap_or_default();
    let new: Vec<&str> = members.difference(&before).map(PersonId::as_str).collect();
    if new.is_empty() && !is_new {
        return Ok(Ok(None));
    }
    // The limit of the file in an archive or a folder.
    let bytes: usize = members.iter().map(|id| id.as_str().len() + 1).sum();
    if bytes > MAX_FILE_BYTES {
        return Ok(Err(GroupsError::TooLarge));
    }
    transaction
        .execute(
            "INSERT INTO groups (name) VALUES ($1) ON CONFLICT DO NOTHING",
            &[&name],
        )
        .await?;
    transaction
        .execute(
            "INSERT INTO member (name, id) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING",
            &[&name, &new],
        )
        .await?;
    let number = take_numbers(transaction, &[Subject::Group(name)], epoch).await?;
    Ok(Ok(Some((number, members))))
}

fn failure(error: DatabaseError) -> GroupsError {
    GroupsError::Database(database_failure(error))
}

/// Returns the key that names share which differ only in case.
fn case_key(name: &str) -> String {
    let id: Result<PersonId, _> = name.parse();
    id.map_or_else(|_| name.to_owned(), |id| id.case_key())
}
