//! Groups and their members.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use rostro_common::ids::PersonId;
use rostro_gallery::GroupChange;
use rostro_gallery::groups::{GroupId, GroupsError, MAX_FILE_BYTES, MAX_GROUPS, Members};

use super::{PostgresStore, database_failure};
use crate::connection::{Database, DatabaseError};

/// Change that changed nothing.
const UNCHANGED: GroupChange = GroupChange {
    number: None,
    durable: true,
};

/// Reads all groups. Damaged rows are logged.
pub(super) async fn load(database: &Database) -> Result<BTreeMap<GroupId, Members>, DatabaseError> {
    let client = database.client().await?;
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

    /// Locks the groups. If an earlier change ended in the unknown, reads them again first, because
    /// its commit may have taken effect.
    fn settled_groups(&self) -> Result<MutexGuard<'_, ()>, GroupsError> {
        let changing = self.lock_groups();
        if self.groups_unsettled.load(Ordering::Relaxed) {
            self.read_groups().map_err(failure)?;
        }
        Ok(changing)
    }

    /// Reads all groups instead of those in memory. The caller holds the lock.
    fn read_groups(&self) -> Result<(), DatabaseError> {
        let groups = self.database.wait(load(&self.database))?;
        self.groups.replace(groups);
        self.groups_unsettled.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn groups_failed(&self, error: DatabaseError) -> GroupsError {
        self.groups_unsettled.store(true, Ordering::Relaxed);
        failure(error)
    }

    pub(super) fn add_members(
        &self,
        group: &GroupId,
        ids: &[PersonId],
    ) -> Result<GroupChange, GroupsError> {
        let _changing = self.settled_groups()?;
        let before = self.groups.members(group);
        if before.is_none() {
            if self.groups.count() >= MAX_GROUPS {
                return Err(GroupsError::TooMany);
            }
            let key = case_key(group);
            let is_taken = self
                .groups
                .list()
                .iter()
                .any(|(other, _)| case_key(other) == key);
            if is_taken {
                return Err(GroupsError::NameTaken);
            }
        }
        let before = before.unwrap_or_default();
        let mut members = HashSet::clone(&before);
        members.extend(ids.iter().cloned());
        if members.len() == before.len() {
            return Ok(UNCHANGED);
        }
        // The limit of the file in an archive or a folder.
        let bytes: usize = members.iter().map(|id| id.as_str().len() + 1).sum();
        if bytes > MAX_FILE_BYTES {
            return Err(GroupsError::TooLarge);
        }
        let new: Vec<&str> = members.difference(&before).map(PersonId::as_str).collect();
        let name = group.to_string();
        let number = self
            .change(async |transaction, numbering| {
                transaction
                    .execute(
                        "INSERT INTO groups (name) VALUES ($1) ON CONFLICT DO NOTHING",
                        &[&name],
                    )
                    .await?;
                transaction
                    .execute(
                        "INSERT INTO member (name, id) SELECT $1, unnest($2::text[]) \
                         ON CONFLICT DO NOTHING",
                        &[&name, &new],
                    )
                    .await?;
                numbering.take(transaction, 1).await
            })
            .map_err(|error| self.groups_failed(error))?;
        self.groups.set(group, members);
        Ok(self.changed(number))
    }

    pub(super) fn remove_member(
        &self,
        group: &GroupId,
        id: &PersonId,
    ) -> Result<Option<GroupChange>, GroupsError> {
        let _changing = self.settled_groups()?;
        let Some(members) = self.groups.members(group) else {
            return Ok(None);
        };
        if !members.contains(id) {
            return Ok(Some(UNCHANGED));
        }
        let name = group.to_string();
        let number = self
            .change(async |transaction, numbering| {
                transaction
                    .execute(
                        "DELETE FROM member WHERE name = $1 AND id = $2",
                        &[&name, &id.as_str()],
                    )
                    .await?;
                numbering.take(transaction, 1).await
            })
            .map_err(|error| self.groups_failed(error))?;
        self.groups.remove_member([group], id);
        Ok(Some(self.changed(number)))
    }

    pub(super) fn remove_group(&self, group: &GroupId) -> Result<GroupChange, GroupsError> {
        let _changing = self.settled_groups()?;
        if self.groups.members(group).is_none() {
            return Ok(UNCHANGED);
        }
        let name = group.to_string();
        let number = self
            .change(async |transaction, numbering| {
                transaction
                    .execute("DELETE FROM groups WHERE name = $1", &[&name])
                    .await?;
                numbering.take(transaction, 1).await
            })
            .map_err(|error| self.groups_failed(error))?;
        self.groups.remove(group);
        Ok(self.changed(number))
    }

    fn changed(&self, number: u64) -> GroupChange {
        GroupChange {
            number: Some(self.record_latest(number)),
            durable: true,
        }
    }
}

fn failure(error: DatabaseError) -> GroupsError {
    GroupsError::Database(database_failure(error))
}

/// Returns the key that names share which differ only in case.
fn case_key(group: &GroupId) -> Option<String> {
    let id: PersonId = group.to_string().parse().ok()?;
    Some(id.case_key())
}
