//! The audit log: changes of revisions by operators, and enrolments, reads, group changes and
//! deletions of people. Each is a line of JSON, appended and never changed.
//!
//! A keyed hash of the id stands for a person. `rostro audit` finds the lines of a person by the
//! id, and the file alone identifies no person.

mod action;
pub mod person_key;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use rostro_common::digest::Sha256Digest;
use rostro_common::ids::PersonId;
use rostro_gallery::{AUDIT_LOG, Store};

use person_key::PersonKeys;

pub use action::name;
pub use action::{Action, ActionOutcome};
pub use rostro_gallery::audit::file;

/// The name of the file with the keys, in the same folder.
pub const KEYS: &str = "audit.key";

/// Jump of the clock from which on nothing is removed by its time.
const CLOCK_JUMP: Duration = Duration::from_secs(24 * 3600);

/// The author of a change: the caller, the origin and the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// Name of the key or the token, or a substitute.
    pub who: String,
    /// The address, or the part of this program.
    pub from: String,
    /// The request's id, if there is a request: the caller's own if it is a UUID, or else the
    /// service's.
    pub request: Option<Arc<str>>,
    /// Whether the caller may manage people, and so learn the id of a face's person.
    pub can_manage: bool,
}

impl Actor {
    /// Returns the actor for a part of this program.
    pub fn part(from: &str) -> Self {
        Self {
            who: "rostro".to_owned(),
            from: from.to_owned(),
            request: None,
            can_manage: true,
        }
    }
}

/// A line of the log.
#[derive(Debug, Serialize)]
struct AuditLine<'a> {
    time: &'a str,
    /// The node of a fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    request: Option<&'a str>,
    who: &'a str,
    from: &'a str,
    action: Action,
    outcome: ActionOutcome,
    revision: Option<Sha256Digest>,
    /// A keyed hash of the person's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<String>,
    /// The id of the hash's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    person_key: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

/// The log.
#[derive(Debug)]
pub struct Audit {
    store: Arc<dyn Store>,
    /// Name of this node of a fleet; none for a service of one process.
    node: Option<String>,
    /// Time for which lines and keys are kept.
    keep: SignedDuration,
    lost: AtomicU64,
    open: Mutex<OpenLog>,
}

#[derive(Debug)]
struct OpenLog {
    keys: PersonKeys,
    /// Time of the last removal of old lines, by both clocks.
    last_removal: (SystemTime, Instant),
}

impl Audit {
    /// The audit log of a store, with the keys of people in the state folder, or in a database that
    /// nodes share. Removes lines and keys older than `keep_days`.
    pub fn new(store: Arc<dyn Store>, state: &Path, keep_days: u32, node: Option<String>) -> Self {
        let audit = Self {
            node,
            keep: SignedDuration::from_hours(24 * i64::from(keep_days)),
            lost: AtomicU64::new(0),
            open: Mutex::new(OpenLog {
                keys: PersonKeys::new(Arc::clone(&store), state.join(KEYS)),
                last_removal: (SystemTime::now(), Instant::now()),
            }),
            store,
        };
        audit.remove_before(Timestamp::now());
        audit
    }

    /// Records an action in this log and in the service's log.
    pub(crate) fn note(
        &self,
        actor: &Actor,
        action: Action,
        revision: Option<Sha256Digest>,
        outcome: ActionOutcome,
        detail: &str,
    ) {
        self.write(
            actor,
            action,
            revision,
            outcome,
            detail,
            &mut std::iter::once(None),
        );
        let revision = revision.map(|id| id.short()).unwrap_or_default();
        let (action, outcome) = (name(action), name(outcome));
        tracing::info!(
            who = actor.who,
            from = actor.from,
            action,
            revision,
            outcome,
            "{}",
            detail.escape_debug()
        );
    }

    /// Records an action on people, a line for each, with one write. Their ids are in neither log.
    pub fn note_people<'p>(
        &self,
        actor: &Actor,
        action: Action,
        outcome: ActionOutcome,
        people: impl IntoIterator<Item = &'p PersonId>,
    ) {
        let count = self.write(
            actor,
            action,
            None,
            outcome,
            "",
            &mut people.into_iter().map(Some),
        );
        if count > 0 {
            tracing::info!(
                who = actor.who,
                from = actor.from,
                action = name(action),
                people = count,
                outcome = name(outcome),
                ""
            );
        }
    }

    /// Writes a line for each person, or one line without a person. Returns the number of lines.
    fn write(
        &self,
        actor: &Actor,
        action: Action,
        revision: Option<Sha256Digest>,
        outcome: ActionOutcome,
        detail: &str,
        people: &mut dyn Iterator<Item = Option<&PersonId>>,
    ) -> u64 {
        debug_assert!(
            action.rule().0.contains(&outcome),
            "{action:?} cannot end as {outcome:?}: add it to `Action::rule` and docs/audit.md"
        );
        let mut open = self.locked();
        let now = Timestamp::now();
        let key = action.rule().1.then(|| open.keys.current(now)).flatten();
        let time = now.to_string();
        let (mut text, mut count) = (Vec::new(), 0);
        for person in people {
            let (person, person_key) = key
                .zip(person)
                .map(|(key, id)| (key.hash(id), key.id.as_str()))
                .unzip();
            let Actor {
                who, from, request, ..
            } = actor;
            let request = request.as_deref();
            let line = AuditLine {
                time: &time,
                node: self.node.as_deref(),
                request,
                who,
                from,
                action,
                outcome,
                revision,
                person,
                person_key,
                detail,
            };
            text.extend(serde_json::to_vec(&line).unwrap_or_default());
            text.push(b'\n');
            count += 1;
        }
        if count == 0 {
            return 0;
        }
        // Appended under the lock, so that lines are in the order of their times, and synced without
        // it, so that other requests do not wait for the disk.
        let appended = self.store.append_audit(&text);
        drop(open);
        if let Err(error) = appended.and_then(|appended| appended.wait()) {
            self.lost.fetch_add(count, Ordering::Relaxed);
            tracing::error!(
                lines = count,
                "the audit log cannot be written: {error}; the change took effect without a line in it"
            );
        }
        count
    }

    /// Returns the number of lines that could not be written since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Opens the file under the log's name again.
    ///
    /// # Errors
    ///
    /// If it cannot be written; the next line tries again.
    pub fn reopen(&self) -> io::Result<()> {
        self.store.reopen_audit()
    }

    /// Removes expired lines, rotated files and keys. If the clock jumped far ahead since the last
    /// time, removes nothing, because a removal cannot be undone.
    pub fn remove_old(&self) {
        let mut open = self.locked();
        let (wall, steady) = (SystemTime::now(), Instant::now());
        let (wall_before, steady_before) =
            std::mem::replace(&mut open.last_removal, (wall, steady));
        let by_wall = wall.duration_since(wall_before).unwrap_or_default();
        if by_wall > (steady - steady_before) + CLOCK_JUMP {
            tracing::warn!(
                "the clock jumped ahead: old lines of the audit log are kept until the next time"
            );
            return;
        }
        drop(open);
        self.remove_before(Timestamp::now());
    }

    /// Writes back keys of people that were removed from the database. A removed file is written with
    /// the next line.
    pub fn write_back_keys(&self) {
        let Ok(cutoff) = Timestamp::now().checked_sub(self.keep) else {
            return;
        };
        let keys = self.locked().keys.shared_after(cutoff);
        if keys.is_empty() {
            return;
        }
        match self.store.restore_audit_keys(&keys) {
            Ok(0) => {}
            Ok(keys) => tracing::error!(
                keys,
                "keys of the audit log were missing in the database and were written again, because no line of a person can be found without them"
            ),
            Err(error) => {
                tracing::debug!("cannot compare the keys of the audit log: {error}");
            }
        }
    }

    fn remove_before(&self, now: Timestamp) {
        let Ok(cutoff) = now.checked_sub(self.keep) else {
            return;
        };
        // First, so that the keys are known while the store does not answer.
        self.locked().keys.current(now);
        let removed = self.store.remove_audit_before(cutoff);
        if removed.is_ok() {
            self.locked().keys.drop_before(cutoff);
        }
        match removed {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(
                bytes,
                "removed lines of the audit log that are older than {} days",
                self.keep.as_hours() / 24
            ),
            Err(error) => tracing::error!(
                "cannot remove old lines of the audit log: {error}; they are kept until the next time"
            ),
        }
    }

    fn locked(&self) -> MutexGuard<'_, OpenLog> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the line of a command that has no open log: an action of no person and no revision.
pub fn command_line(
    actor: &Actor,
    action: Action,
    outcome: ActionOutcome,
    detail: &str,
) -> Vec<u8> {
    debug_assert!(action.rule().0.contains(&outcome) && !action.rule().1);
    let line = AuditLine {
        time: &Timestamp::now().to_string(),
        node: None,
        request: None,
        who: &actor.who,
        from: &actor.from,
        action,
        outcome,
        revision: None,
        person: None,
        person_key: None,
        detail,
    };
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Returns the paths of the log and of its keys in a state folder.
pub fn files(state: &Path) -> (PathBuf, PathBuf) {
    (state.join(AUDIT_LOG), state.join(KEYS))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use rostro_gallery::{FolderStore, StateFiles};

    use super::*;

    const KEEP: u32 = 30;

    fn opened(state: &Path) -> Audit {
        let files = StateFiles::open(state).unwrap();
        let store = FolderStore::open_unlocked(state).unwrap().with_state(files);
        Audit::new(Arc::new(store), state, KEEP, None)
    }

    fn actor() -> Actor {
        Actor {
            who: "key office".to_owned(),
            from: "127.0.0.1:1".to_owned(),
            request: Some("0198-request".into()),
            can_manage: true,
        }
    }

    fn lines(state: &Path) -> Vec<Value> {
        fs::read_to_string(state.join(AUDIT_LOG))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn line_of_day(ago: i64) -> String {
        let time = Timestamp::now() - SignedDuration::from_hours(24 * ago);
        format!("{{\"time\":\"{time}\",\"action\":\"retire\"}}\n")
    }

    #[test]
    fn line_has_request_and_hash() {
        let state = tempfile::tempdir().unwrap();
        let audit = opened(state.path());
        let alice: PersonId = "alice".parse().unwrap();
        audit.note_people(&actor(), Action::Enrol, ActionOutcome::Done, [&alice]);
        audit.note(&actor(), Action::Export, None, ActionOutcome::Done, "");
        let lines = lines(state.path());
        assert_eq!(
            (lines[0]["request"].as_str(), lines[0]["who"].as_str()),
            (Some("0198-request"), Some("key office"))
        );
        let keys = person_key::read(&state.path().join(KEYS)).unwrap();
        assert_eq!(
            lines[0]["person"].as_str(),
            Some(keys[0].hash(&alice).as_str())
        );
        assert_eq!(lines[0]["person_key"].as_str(), Some(keys[0].id.as_str()));
        assert_eq!(
            (lines[1].get("person"), lines[1]["action"].as_str()),
            (None, Some("export"))
        );
        assert!(
            !fs::read_to_string(state.path().join(AUDIT_LOG))
                .unwrap()
                .contains("alice")
        );
    }

    #[test]
    fn lost_lines_are_counted() {
        let state = tempfile::tempdir().unwrap();
        let audit = opened(state.path());
        fs::remove_file(state.path().join(AUDIT_LOG)).unwrap();
        fs::create_dir(state.path().join(AUDIT_LOG)).unwrap();
        let people: Vec<PersonId> = ["alice", "bob"]
            .iter()
            .map(|id| id.parse().unwrap())
            .collect();
        audit.note_people(&actor(), Action::ImportPerson, ActionOutcome::Done, &people);
        assert_eq!(audit.lost(), 2);
        fs::remove_dir(state.path().join(AUDIT_LOG)).unwrap();
        audit.note_people(&actor(), Action::ImportPerson, ActionOutcome::Done, &people);
        assert_eq!((audit.lost(), lines(state.path()).len()), (2, 2));
    }

    #[test]
    fn start_removes_old_lines_and_files() {
        let state = tempfile::tempdir().unwrap();
        fs::write(
            state.path().join(AUDIT_LOG),
            [40, 31, 29, 0].map(line_of_day).concat(),
        )
        .unwrap();
        let (old, young) = (
            state.path().join("audit.jsonl.2.gz"),
            state.path().join("audit.jsonl-20260101"),
        );
        fs::write(&young, "").unwrap();
        fs::write(&old, "").unwrap();
        let month = std::time::Duration::from_secs(31 * 86_400);
        fs::File::options()
            .write(true)
            .open(&old)
            .unwrap()
            .set_modified(SystemTime::now() - month)
            .unwrap();
        drop(opened(state.path()));
        assert_eq!(lines(state.path()).len(), 2);
        assert!(young.exists() && !old.exists());
    }

    /// All lines expire while a service is stopped for longer than they are kept.
    #[test]
    fn late_start_removes_all_lines() {
        let state = tempfile::tempdir().unwrap();
        fs::write(
            state.path().join(AUDIT_LOG),
            [400, 390].map(line_of_day).concat(),
        )
        .unwrap();
        let audit = opened(state.path());
        audit.note(
            &Actor::part("start"),
            Action::Activate,
            None,
            ActionOutcome::Restored,
            "",
        );
        let left = lines(state.path());
        assert_eq!(
            (left.len(), left[0]["action"].as_str()),
            (1, Some("activate"))
        );
    }

    #[test]
    fn clock_jump_removes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let audit = opened(state.path());
        fs::write(
            state.path().join(AUDIT_LOG),
            [40, 0].map(line_of_day).concat(),
        )
        .unwrap();
        audit.locked().last_removal.0 -= Duration::from_secs(2 * 86_400);
        audit.remove_old();
        assert_eq!(lines(state.path()).len(), 2);
        audit.remove_old();
        assert_eq!(lines(state.path()).len(), 1);
    }
}
