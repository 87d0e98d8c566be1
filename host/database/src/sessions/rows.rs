//! Statements on rows of sessions.

use std::collections::HashSet;

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use rostro_common::ids::PersonId;
use rostro_sessions::presence::PersonPresence;
use rostro_sessions::shared::{SessionTerm, SessionWrite};
use rostro_sessions::{
    EventKind, Session, SessionEvent, SessionHead, SessionId, SessionLimits, SessionState,
    SessionStoreError, SessionSummary,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Failure;
use crate::connection::DatabaseError;
use crate::fleet::Position;

/// Returns true for an event of the policy, which has texts.
pub(super) fn is_of_policy(event: &SessionEvent) -> bool {
    matches!(event.kind, EventKind::Policy(_))
}

/// Refuses an owner with too many sessions. Creations of an owner wait for each other.
pub(super) async fn check_limits(
    transaction: &Transaction<'_>,
    owner: Option<&str>,
    limits: SessionLimits,
) -> Result<(), Failure> {
    transaction
        .execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('session of ' || coalesce($1, ''), 0))",
            &[&owner],
        )
        .await?;
    let row = transaction
        .query_one(
            "SELECT count(*) FILTER (WHERE is_open), count(*) FROM session \
             WHERE owner IS NOT DISTINCT FROM $1",
            &[&owner],
        )
        .await?;
    let number = |column: usize| usize::try_from(row.get::<_, i64>(column)).unwrap_or(usize::MAX);
    limits.check(number(0), number(1))?;
    Ok(())
}

/// Checks that the lease is not expelled. It takes no lock, which would delay the renewal: the row of
/// the session orders its writer and the node that takes it over.
pub(super) async fn check_lease(
    transaction: &Transaction<'_>,
    term: SessionTerm,
    otherwise: SessionStoreError,
) -> Result<(), Failure> {
    let statement = transaction
        .prepare_cached("SELECT FROM lease WHERE lease = $1 AND NOT is_expelled")
        .await?;
    match transaction.query_opt(&statement, &[&term.0]).await? {
        Some(_) => Ok(()),
        None => Err(otherwise.into()),
    }
}

/// Key of the advisory lock that a deletion has alone, and that writers of the policy's texts share:
/// "deletion" in ASCII.
const DELETION_LOCK: i64 = 0x6465_6c65_7469_6f6e;

/// Lets no deletion of a person run until the transaction ends, and refuses to go on before this node
/// applied the earlier ones: a text of the policy may have the id of a deleted person. It comes first
/// in a transaction, as in a deletion.
pub(super) async fn hold_deletions(
    transaction: &Transaction<'_>,
    term: SessionTerm,
    applied: impl FnOnce() -> Option<Position>,
) -> Result<(), Failure> {
    let statement = transaction
        .prepare_cached("SELECT pg_advisory_xact_lock_shared($1)")
        .await?;
    transaction.query(&statement, &[&DELETION_LOCK]).await?;
    let applied = applied().ok_or(SessionStoreError::Deleting)?;
    let statement = transaction
        .prepare_cached(
            "SELECT FROM lease WHERE lease = $1 AND NOT is_expelled AND epoch() = $2 \
             AND NOT EXISTS (SELECT FROM change \
             WHERE is_awaited AND NOT is_revisions AND number > $3)",
        )
        .await?;
    let held = transaction
        .query_opt(
            &statement,
            &[&term.0, &&*applied.epoch, &number(applied.number)],
        )
        .await?;
    match held {
        Some(_) => Ok(()),
        None => Err(SessionStoreError::Deleting.into()),
    }
}

/// Waits for writers of the policy's texts, and lets none of them run until the transaction ends. It
/// comes first in the transaction of a deletion.
pub(crate) async fn hold_texts(transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
    let statement = transaction
        .prepare_cached("SELECT pg_advisory_xact_lock($1)")
        .await?;
    transaction.query(&statement, &[&DELETION_LOCK]).await?;
    Ok(())
}

/// Inserts the row of a session.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    head: &SessionHead,
    write: SessionWrite<'_>,
) -> Result<(), Failure> {
    transaction
        .execute(
            "INSERT INTO session (id, lease, owner, head, state, is_open, used_ms) \
             VALUES ($1, $2, $3, $4, $5, true, $6)",
            &[
                &head.id.as_uuid(),
                &write.term.0,
                &head.owner,
                &json(head)?,
                &json(write.state)?,
                &head.created.as_millisecond(),
            ],
        )
        .await?;
    Ok(())
}

/// Updates the row of a session that the lease has.
pub(super) async fn update(
    transaction: &Transaction<'_>,
    write: SessionWrite<'_>,
) -> Result<(), Failure> {
    let state = write.state;
    let used = state.ended.unwrap_or(state.active).as_millisecond();
    let statement = transaction
        .prepare_cached(
            "UPDATE session SET state = $3, is_open = $4, used_ms = $5 \
             WHERE id = $1 AND lease = $2",
        )
        .await?;
    let updated = transaction
        .execute(
            &statement,
            &[
                &write.id.as_uuid(),
                &write.term.0,
                &json(state)?,
                &state.ended.is_none(),
                &used,
            ],
        )
        .await?;
    match updated {
        0 => Err(SessionStoreError::Moved(write.id).into()),
        _ => Ok(()),
    }
}

/// Writes people and events of a change. Those of people who are not enrolled any more are left out.
pub(super) async fn write_change(
    transaction: &Transaction<'_>,
    write: SessionWrite<'_>,
    enrolled: &HashSet<String>,
) -> Result<(), Failure> {
    let id = write.id.as_uuid();
    let (people, events) = (write.change.people(), write.change.events());
    let is_enrolled = |person: &PersonId| enrolled.contains(person.as_str());
    let people: Vec<&PersonPresence> = people
        .iter()
        .filter(|person| is_enrolled(person.id()))
        .collect();
    if !people.is_empty() {
        let ids: Vec<&str> = people.iter().map(|person| person.id().as_str()).collect();
        let statement = transaction
            .prepare_cached(
                "INSERT INTO session_person (session, id, presence) \
                 SELECT $1, id, presence FROM unnest($2::text[], $3::text[]) AS new (id, presence) \
                 ON CONFLICT (session, id) DO UPDATE SET presence = excluded.presence",
            )
            .await?;
        let presence = people.iter().map(json).collect::<Result<Vec<_>, _>>()?;
        transaction
            .execute(&statement, &[&id, &ids, &presence])
            .await?;
    }
    let events: Vec<&SessionEvent> = events
        .iter()
        .filter(|event| event.kind.person().is_none_or(is_enrolled))
        .collect();
    if !events.is_empty() {
        let numbers: Vec<i64> = events.iter().map(|event| number(event.id.number)).collect();
        let people: Vec<Option<&str>> = events
            .iter()
            .map(|event| event.kind.person().map(PersonId::as_str))
            .collect();
        let are_of_policy: Vec<bool> = events.iter().map(|event| is_of_policy(event)).collect();
        let texts = events.iter().map(json).collect::<Result<Vec<_>, _>>()?;
        let statement = transaction
            .prepare_cached(
                "INSERT INTO session_event (session, number, id, is_policy, event) \
                 SELECT $1, number, id, is_policy, event \
                 FROM unnest($2::bigint[], $3::text[], $4::boolean[], $5::text[]) \
                 AS new (number, id, is_policy, event)",
            )
            .await?;
        transaction
            .execute(
                &statement,
                &[&id, &numbers, &people, &are_of_policy, &texts],
            )
            .await?;
    }
    Ok(())
}

/// Returns the people of a change who are enrolled, and keeps them from being deleted until the
/// transaction ends.
pub(super) async fn lock_people(
    transaction: &Transaction<'_>,
    write: SessionWrite<'_>,
) -> Result<HashSet<String>, Failure> {
    let people = write.change.people().iter().map(PersonPresence::id);
    let events = write.change.events().iter();
    let ids: HashSet<&str> = people
        .chain(events.filter_map(|event| event.kind.person()))
        .map(PersonId::as_str)
        .collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<&str> = ids.into_iter().collect();
    let statement = transaction
        .prepare_cached("SELECT id FROM person WHERE id = ANY ($1) ORDER BY id FOR KEY SHARE")
        .await?;
    let rows = transaction.query(&statement, &[&ids]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Takes a session over, unless a node with a lease has it.
pub(super) async fn claim(
    transaction: &Transaction<'_>,
    term: SessionTerm,
    id: SessionId,
) -> Result<(), Failure> {
    let key = id.as_uuid();
    let claimed = transaction
        .execute(
            "UPDATE session SET lease = $2 WHERE id = $1 AND (lease = $2 OR NOT EXISTS \
             (SELECT FROM lease WHERE lease.lease = session.lease AND NOT is_expelled))",
            &[&key, &term.0],
        )
        .await?;
    match claimed {
        0 => Err(SessionStoreError::Moved(id).into()),
        _ => Ok(()),
    }
}

/// Refuses a session that another node with a lease has, without a lock.
pub(super) async fn check_owner(
    client: &impl GenericClient,
    term: SessionTerm,
    id: SessionId,
) -> Result<(), Failure> {
    let statement = client
        .prepare_cached(
            "SELECT node, address FROM session LEFT JOIN lease \
             ON lease.lease = session.lease AND NOT is_expelled AND lease.lease <> $2 \
             WHERE id = $1",
        )
        .await?;
    let row = client
        .query_opt(&statement, &[&id.as_uuid(), &term.0])
        .await?;
    let row = row.ok_or(SessionStoreError::Unknown(id))?;
    let Some(node) = row.get::<_, Option<String>>(0) else {
        return Ok(());
    };
    let address: String = row.get(1);
    Err(SessionStoreError::Elsewhere {
        id,
        node,
        address: (!address.is_empty()).then_some(address),
    }
    .into())
}

/// Reads a session.
pub(super) async fn load(
    client: &impl GenericClient,
    id: SessionId,
    max_events: u64,
) -> Result<Session, Failure> {
    let key = id.as_uuid();
    let row = client
        .query_opt("SELECT head, state FROM session WHERE id = $1", &[&key])
        .await?;
    let row = row.ok_or(SessionStoreError::Unknown(id))?;
    let (head, state) = head_and_state(&row)?;
    let rows = client
        .query(
            "SELECT presence FROM session_person WHERE session = $1",
            &[&key],
        )
        .await?;
    let people = rows
        .iter()
        .map(|row| parse(row.get(0)))
        .collect::<Result<Vec<PersonPresence>, _>>()?;
    Ok(Session::restore(head, max_events, state, people))
}

fn head_and_state(row: &Row) -> Result<(SessionHead, SessionState), Failure> {
    Ok((parse(row.get(0))?, parse(row.get(1))?))
}

/// Removes the rows of a person from a session.
pub(super) async fn remove_person(
    transaction: &Transaction<'_>,
    id: SessionId,
    person: &PersonId,
) -> Result<(), Failure> {
    for table in ["session_person", "session_event"] {
        let statement = format!("DELETE FROM {table} WHERE session = $1 AND id = $2");
        transaction
            .execute(&statement, &[&id.as_uuid(), &person.as_str()])
            .await?;
    }
    Ok(())
}

/// Removes events of the policy that have the id of a person in a text, from all sessions, after
/// [`hold_texts`].
pub(crate) async fn remove_mentions(
    transaction: &Transaction<'_>,
    person: &PersonId,
) -> Result<(), DatabaseError> {
    let needle = serde_json::to_string(person.as_str()).unwrap_or_default();
    let needle = needle.trim_matches('"');
    let statement = transaction
        .prepare_cached(
            "SELECT session, number, event FROM session_event \
             WHERE is_policy AND strpos(event, $1) > 0",
        )
        .await?;
    let found = transaction.query(&statement, &[&needle]).await?;
    // A text that cannot be read may have the person.
    let mentions = |row: &&Row| {
        serde_json::from_str::<SessionEvent>(row.get(2))
            .map_or(true, |event| event.kind.mentions(person))
    };
    let (sessions, numbers): (Vec<Uuid>, Vec<i64>) = found
        .iter()
        .filter(mentions)
        .map(|row| (row.get::<_, Uuid>(0), row.get::<_, i64>(1)))
        .unzip();
    if !sessions.is_empty() {
        transaction
            .execute(
                "DELETE FROM session_event USING unnest($1::uuid[], $2::bigint[]) \
                 AS old (session, number) WHERE session_event.session = old.session \
                 AND session_event.number = old.number",
                &[&sessions, &numbers],
            )
            .await?;
    }
    Ok(())
}

/// Deletes a session that the lease has.
pub(super) async fn delete(
    client: &impl GenericClient,
    term: SessionTerm,
    id: SessionId,
) -> Result<(), Failure> {
    let deleted = client
        .execute(
            "DELETE FROM session WHERE id = $1 AND lease = $2",
            &[&id.as_uuid(), &term.0],
        )
        .await?;
    match deleted {
        0 => Err(SessionStoreError::Moved(id).into()),
        _ => Ok(()),
    }
}

/// Deletes sessions that ended or were last used before a time. A node that has one writes its use
/// every few seconds. Each is deleted by a statement, so that it waits in no circle with deletions of
/// people.
pub(super) async fn sweep(
    client: &impl GenericClient,
    cutoff: Timestamp,
) -> Result<Vec<SessionId>, Failure> {
    let cutoff = cutoff.as_millisecond();
    let old = client
        .query("SELECT id FROM session WHERE used_ms < $1", &[&cutoff])
        .await?;
    let statement = client
        .prepare_cached("DELETE FROM session WHERE id = $1 AND used_ms < $2 RETURNING id::text")
        .await?;
    let mut deleted = Vec::new();
    for row in old {
        let id: Uuid = row.get(0);
        if let Some(row) = client.query_opt(&statement, &[&id, &cutoff]).await? {
            deleted.extend(row.get::<_, &str>(0).parse::<SessionId>().ok());
        }
    }
    Ok(deleted)
}

/// Reads events in the order of their numbers.
pub(super) async fn events_after(
    client: &impl GenericClient,
    id: SessionId,
    after: u64,
    most: usize,
) -> Result<Vec<SessionEvent>, Failure> {
    let statement = client
        .prepare_cached(
            "SELECT event FROM session_event WHERE session = $1 AND number > $2 \
             ORDER BY number LIMIT $3",
        )
        .await?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = client
        .query(&statement, &[&id.as_uuid(), &number(after), &most])
        .await?;
    rows.iter().map(|row| parse(row.get(0))).collect()
}

/// Reads all sessions without their people, and the ids of damaged ones.
pub(super) async fn summaries(
    client: &impl GenericClient,
) -> Result<(Vec<SessionSummary>, Vec<Uuid>), Failure> {
    let statement = client
        .prepare_cached("SELECT head, state, id FROM session")
        .await?;
    let rows = client.query(&statement, &[]).await?;
    let (mut sessions, mut damaged) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in &rows {
        match head_and_state(row) {
            Ok((head, state)) => sessions.push(state.summary(head)),
            Err(_) => damaged.push(row.get(2)),
        }
    }
    Ok((sessions, damaged))
}

/// Converts a number of an event for the database.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|_| damaged())
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|_| damaged())
}

/// Returns the error of a row that cannot be read. It does not quote the row, because that may have
/// ids of people.
fn damaged() -> Failure {
    DatabaseError::Damaged("a row of a session").into()
}
