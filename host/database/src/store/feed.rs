//! The feed: each change has a number, and a row by which the nodes find what it changed.

use std::collections::{BTreeSet, HashMap};
use std::sync::{MutexGuard, PoisonError};

use deadpool_postgres::{Object, Transaction};
use rostro_common::ids::PersonId;
use rostro_gallery::groups::GroupsError;
use rostro_gallery::{ChangeNumber, GalleryError, StoreChanges};
use tokio_postgres::{IsolationLevel, Row};

use super::known::KnownPeople;
use super::numbers::OwnChanges;
use super::{PostgresStore, database_failure, failure, groups, signed, unsigned};
use crate::connection::{DatabaseError, StatementKind};
use crate::fleet::{Epoch, Position};

/// Number of rows above which a node compares all people with its own instead.
const MAX_ROWS: i64 = 5_000;

/// Changes that a rescan found and that the views do not have yet.
#[derive(Debug)]
pub(super) struct FoundChanges {
    position: Position,
    is_awaited: bool,
    /// Surrogate keys of people who are no longer stored.
    gone: Vec<i64>,
}

/// The feed after a number.
struct FeedRows {
    position: Position,
    /// None if rows are missing.
    rows: Option<Vec<FeedRow>>,
}

struct FeedRow {
    number: u64,
    person: Option<i64>,
    /// None if the person is not stored any more.
    id: Option<PersonId>,
    group: Option<String>,
    is_awaited: bool,
    is_revisions: bool,
}

impl FeedRow {
    fn of(row: &Row) -> Option<Self> {
        Some(Self {
            number: unsigned(row.get::<_, Option<i64>>(2)?),
            person: row.get(3),
            group: row.get(4),
            is_awaited: row.get(5),
            is_revisions: row.get(7),
            id: row.get::<_, Option<&str>>(6).and_then(|id| id.parse().ok()),
        })
    }
}

/// Reads the epoch and the number of the latest change.
pub(super) async fn latest_position(client: &Object) -> Result<Position, DatabaseError> {
    let row = client
        .query_opt("SELECT epoch(), counter FROM gallery", &[])
        .await?;
    let row = row.ok_or(DatabaseError::Damaged("the row of the gallery"))?;
    Ok(Position {
        epoch: row.get::<_, &str>(0).into(),
        number: unsigned(row.get(1)),
    })
}

impl PostgresStore {
    /// Returns the epoch of what this process knows.
    pub(super) fn epoch(&self) -> Result<Epoch, DatabaseError> {
        let position = self.fleet.position().get();
        position
            .map(|position| position.epoch)
            .ok_or(DatabaseError::OtherEpoch)
    }

    /// Finds what other nodes changed since the last acknowledged position.
    pub(super) fn find_changes(&self) -> Result<StoreChanges, GalleryError> {
        let Some(applied) = self.fleet.position().get() else {
            return Ok(StoreChanges::default());
        };
        let feed = self
            .read_with(async |client| feed_after(client, applied.number).await)
            .map_err(failure)?;
        let is_behind =
            feed.position.epoch == applied.epoch && feed.position.number >= applied.number;
        let (found, changes) = match feed.rows.filter(|_| is_behind) {
            Some(rows) => self.changes_of_rows(feed.position, rows),
            None => self.compare_people(is_behind.then_some(applied.number))?,
        };
        *self.lock_found() = Some(found);
        Ok(changes)
    }

    /// Records that the views have the changes that were found last.
    pub(super) fn acknowledge_found(&self) {
        let Some(FoundChanges {
            position,
            is_awaited,
            gone,
        }) = self.lock_found().take()
        else {
            return;
        };
        self.lock_own().forget_until(&position);
        self.lock_known().forget(gone);
        self.record_latest(position.number);
        self.fleet.acknowledge(position, is_awaited);
    }

    fn lock_found(&self) -> MutexGuard<'_, Option<FoundChanges>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_own(&self) -> MutexGuard<'_, OwnChanges> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the ids of people by their surrogate keys.
    pub(super) fn lock_known(&self) -> MutexGuard<'_, KnownPeople> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes_of_rows(
        &self,
        position: Position,
        rows: Vec<FeedRow>,
    ) -> (FoundChanges, StoreChanges) {
        let mut found = FoundChanges {
            is_awaited: rows.iter().any(|row| row.is_awaited),
            position,
            gone: Vec::new(),
        };
        let mut changes = StoreChanges::default();
        let mut group_names = BTreeSet::new();
        let mut has_deletions = false;
        let own = self.lock_own();
        let mut known = self.lock_known();
        for row in rows {
            changes.number = ChangeNumber(row.number);
            changes.revisions |= row.is_revisions;
            if own.is_applied(&found.position.epoch, row.number) {
                continue;
            }
            // A person who is not stored may be a member all the same.
            has_deletions |= row.is_awaited && !row.is_revisions;
            if let Some(name) = row.group {
                group_names.insert(name);
            }
            let Some(person) = row.person else { continue };
            match row.id {
                Some(id) => {
                    known.insert(person, id.clone());
                    changes.people.insert(id);
                }
                None => {
                    // Known until it is acknowledged, because this may be repeated.
                    changes.deleted.extend(known.deleted(person));
                    found.gone.push(person);
                }
            }
        }
        drop((own, known));
        if !group_names.is_empty() || has_deletions {
            changes.groups = self.reload_groups().map(|()| group_names.len());
        }
        (found, changes)
    }

    /// Reads all groups instead of those in memory.
    fn reload_groups(&self) -> Result<(), GroupsError> {
        let _changing = self.lock_groups();
        let groups = self.read_with(async |client| groups::load(client).await);
        let groups = groups.map_err(|error| GroupsError::Database(database_failure(error)))?;
        self.groups.replace(groups);
        Ok(())
    }

    /// Compares all stored people with those that this node knows. Without `known` every person
    /// counts as changed, because numbers of another epoch say nothing.
    fn compare_people(
        &self,
        known: Option<u64>,
    ) -> Result<(FoundChanges, StoreChanges), GalleryError> {
        self.database.count(StatementKind::Read);
        let read = self.database.wait(async {
            let mut client = self.database.client().await?;
            let transaction = snapshot(&mut client).await?;
            let row = transaction
                .query_one("SELECT epoch(), counter FROM gallery", &[])
                .await?;
            let position = Position {
                epoch: row.get::<_, &str>(0).into(),
                number: unsigned(row.get(1)),
            };
            let rows = transaction
                .query("SELECT person, id, number FROM person", &[])
                .await?;
            transaction.commit().await?;
            Ok((position, rows))
        });
        let (position, rows) = read.map_err(failure)?;
        let mut changes = StoreChanges {
            number: ChangeNumber(position.number),
            revisions: true,
            ..StoreChanges::default()
        };
        let mut keys = HashMap::new();
        let mut stored = BTreeSet::new();
        for row in rows {
            let Ok(id) = row.get::<_, &str>(1).parse::<PersonId>() else {
                continue;
            };
            keys.insert(row.get(0), id.clone());
            if known.is_none_or(|known| unsigned(row.get(2)) > known) {
                changes.people.insert(id.clone());
            }
            stored.insert(id);
        }
        let mut known_people = self.lock_known();
        let missing = known_people.missing_in(&keys).map(|(_, id)| id.clone());
        changes.deleted = missing.filter(|id| !stored.contains(id)).collect();
        // The missing stay known: this node may be about to commit one of them.
        known_people.extend(keys);
        drop(known_people);
        changes.groups = self.reload_groups().map(|()| self.groups.count());
        tracing::info!(
            people = changes.people.len(),
            deleted = changes.deleted.len(),
            "compared all people with the database, because rows of the feed are missing or another server replaced it"
        );
        let found = FoundChanges {
            position,
            is_awaited: true,
            gone: Vec::new(),
        };
        Ok((found, changes))
    }
}

/// Begins a transaction that sees one state of the database.
pub(super) async fn snapshot(client: &mut Object) -> Result<Transaction<'_>, DatabaseError> {
    Ok(client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?)
}

/// Reads the rows after a number. One statement, so that the counter belongs to the rows.
async fn feed_after(client: &Object, number: u64) -> Result<FeedRows, DatabaseError> {
    let statement = client
        .prepare_cached(
            "SELECT gallery.counter, epoch(), change.number, change.person, change.group_name, \
             change.is_awaited, person.id, change.is_revisions \
             FROM gallery \
             LEFT JOIN change ON change.number > $1 AND gallery.counter - $1 <= $2 \
             LEFT JOIN person ON person.person = change.person \
             ORDER BY change.number",
        )
        .await?;
    let rows = client
        .query(&statement, &[&signed(number), &MAX_ROWS])
        .await?;
    let first = rows
        .first()
        .ok_or(DatabaseError::Damaged("the row of the gallery"))?;
    let position = Position {
        epoch: first.get::<_, &str>(1).into(),
        number: unsigned(first.get(0)),
    };
    let rows: Vec<FeedRow> = rows.iter().filter_map(FeedRow::of).collect();
    let is_complete = position.number.saturating_sub(number) == rows.len() as u64;
    Ok(FeedRows {
        rows: is_complete.then_some(rows),
        position,
    })
}
