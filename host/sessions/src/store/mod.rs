//! Store of sessions: a journal for each, in a folder of the state folder, or rows of a database that
//! nodes share. A node keeps the sessions that it has in memory.

mod damaged;
mod log;
mod node;
mod open;
mod position;
mod removals;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::PersonId;
use tokio::sync::watch;

use crate::error::SessionStoreError;
use crate::event::SessionEvent;
use crate::ids::{SessionId, StreamName};
use crate::journal::Journal;
use crate::presence::CorrectedStatus;
use crate::rule::PresenceRule;
use crate::session::{ObservedFrame, Session, SessionHead, SessionSummary, SessionView};
use crate::shared::{SessionWrite, SharedSessions};

use log::SessionLog;
use removals::RecentRemovals;
use session::{StoredSession, StoredState};

pub use damaged::DamagedJournal;
pub use position::SessionPosition;
pub use removals::RemovalMark;

/// Name of the folder in the state folder.
pub const SESSIONS: &str = "sessions";

/// Limits of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Maximum number of open sessions of an owner.
    pub open_per_owner: usize,
    /// Maximum number of sessions of an owner, open and ended.
    pub kept_per_owner: usize,
    /// Maximum number of events of a session.
    pub events: u64,
    /// Number of days for which a session is kept after its end, or else its last operation.
    pub keep_days: u32,
}

impl SessionLimits {
    /// Checks the numbers of open sessions and of all sessions that an owner has, before one more is
    /// created.
    ///
    /// # Errors
    ///
    /// [`SessionStoreError`] names the limit.
    pub fn check(&self, open: usize, kept: usize) -> Result<(), SessionStoreError> {
        let limit = self.kept_per_owner;
        if kept >= limit {
            return Err(SessionStoreError::TooManyKept { limit });
        }
        let limit = self.open_per_owner;
        if open >= limit {
            return Err(SessionStoreError::TooManySessions { limit });
        }
        Ok(())
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            open_per_owner: 200,
            kept_per_owner: 10_000,
            events: 100_000,
            keep_days: 30,
        }
    }
}

/// Fields of a session that its creator chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSession {
    /// Stream that the frames come from.
    pub stream: StreamName,
    /// Group that people are recognised in.
    pub group: Option<String>,
    /// Rule by which a person is present.
    pub rule: PresenceRule,
    /// Name of the API key; none if the service runs without keys.
    pub owner: Option<String>,
    /// Revision that the session is bound to at first.
    pub revision: String,
}

/// A correction that a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrectionRequest {
    /// The person.
    pub person: PersonId,
    /// The status; none withdraws the correction in force.
    pub status: Option<CorrectedStatus>,
    /// Name of the user's API key.
    pub by: Option<String>,
}

/// Where the sessions are stored.
#[derive(Debug)]
enum Place {
    /// A folder that the caller has locked, with journals.
    Folder(PathBuf),
    /// A database. The store has the sessions of this node in memory.
    Shared(Arc<dyn SharedSessions>),
}

/// Sessions of a host. All operations block on the disk or the database, and operations on different
/// sessions run in parallel.
#[derive(Debug)]
pub struct SessionStore {
    place: Place,
    limits: SessionLimits,
    sessions: RwLock<HashMap<SessionId, Arc<StoredSession>>>,
    /// Held while a session is created, so that the limit on open sessions is exact, and while one is
    /// taken over, so that it is not taken twice.
    creation: Mutex<()>,
    removals: Mutex<RecentRemovals>,
    /// Number of changes of events, creations and deletions, for subscribers to all sessions.
    changes: watch::Sender<u64>,
}

impl SessionStore {
    /// Creates a session, durably.
    ///
    /// # Errors
    ///
    /// If the owner has too many open sessions, or the disk fails.
    pub fn create(
        &self,
        new: NewSession,
        now: Timestamp,
    ) -> Result<SessionSummary, SessionStoreError> {
        // In a database, rows of the owner are locked.
        let _creation = self.folder().map(|_| self.lock_creation());
        let id = SessionId::random().map_err(|cause| SessionStoreError::Io {
            action: "name a session in",
            path: self.folder().map(Path::to_owned).unwrap_or_default(),
            cause,
        })?;
        let head = SessionHead {
            id,
            stream: new.stream,
            group: new.group,
            rule: new.rule,
            owner: new.owner,
            revision: new.revision,
            created: now,
        };
        let mut session = Session::new(head, self.limits.events);
        let start = session.start();
        let log = match &self.place {
            Place::Folder(folder) => {
                self.check_limits(session.head().owner.as_deref())?;
                let path = journal_path(folder, id);
                let journal = Journal::create(&path, session.head(), &start)
                    .map_err(SessionStoreError::io("create the session", &path))?;
                SessionLog::Journal(journal)
            }
            Place::Shared(shared) => {
                let term = shared.term().ok_or(SessionStoreError::NoLease)?;
                let write = SessionWrite {
                    term,
                    id,
                    state: &session.state_after(&start),
                    change: &start,
                };
                shared.create(session.head(), write, self.limits)?;
                SessionLog::Rows(Arc::clone(shared), term)
            }
        };
        session.apply(&start);
        let summary = session.summary();
        self.insert(session, log);
        self.changes.send_modify(|count| *count += 1);
        Ok(summary)
    }

    /// Checks the numbers of an owner's sessions. The caller has locked the creation.
    fn check_limits(&self, owner: Option<&str>) -> Result<(), SessionStoreError> {
        let mut own = self.all();
        own.retain(|session| session.owner() == owner);
        let open = own.iter().filter(|session| session.is_open()).count();
        self.limits.check(open, own.len())
    }

    /// Returns a session. Members of its group that the session does not know are absent.
    ///
    /// # Errors
    ///
    /// If no session has the id.
    pub fn get(
        &self,
        id: SessionId,
        members: &[PersonId],
    ) -> Result<SessionView, SessionStoreError> {
        Ok(self.find(id)?.lock()?.session.view(members))
    }

    /// Returns a session without its people.
    ///
    /// # Errors
    ///
    /// If no session has the id.
    pub fn summary(&self, id: SessionId) -> Result<SessionSummary, SessionStoreError> {
        Ok(self.find(id)?.lock()?.session.summary())
    }

    /// Returns all sessions, those of other nodes too, in the order of their creation.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn list(&self) -> Result<Vec<SessionSummary>, SessionStoreError> {
        let mut sessions: Vec<SessionSummary> = match &self.place {
            Place::Folder(_) => self
                .all()
                .iter()
                .filter_map(|session| session.lock().ok())
                .map(|stored| stored.session.summary())
                .collect(),
            Place::Shared(shared) => shared.summaries()?,
        };
        sessions.sort_by_key(|session| (session.created, session.id));
        Ok(sessions)
    }

    /// Returns the numbers of open and of ended sessions that this node has.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let all = self.all();
        let open = all.iter().filter(|session| session.is_open()).count();
        (open, all.len() - open)
    }

    /// Returns true if a session is kept and has not ended. It waits for no disk.
    #[must_use]
    pub fn is_open(&self, id: SessionId) -> bool {
        self.read()
            .get(&id)
            .is_some_and(|session| session.is_open())
    }

    /// Returns the people that any session knows. At its start, the host
    /// [removes](SessionStore::remove_person) those who are not enrolled any more, because a crash
    /// may have interrupted their deletion.
    #[must_use]
    pub fn people(&self) -> BTreeSet<PersonId> {
        let mut people = BTreeSet::new();
        for session in self.all() {
            if let Ok(stored) = session.lock() {
                people.extend(stored.session.people().cloned());
            }
        }
        people
    }

    /// Returns the state of the removals. A request takes it before it looks at people.
    #[must_use]
    pub fn removal_mark(&self) -> RemovalMark {
        self.removals().mark()
    }

    /// Checks that a session would take a frame, so that the host need not recognise one that is
    /// refused.
    ///
    /// # Errors
    ///
    /// If the session does not exist or ended, or the frame is not newer than the last one.
    pub fn check_next(
        &self,
        id: SessionId,
        seq: Option<u64>,
        at: Timestamp,
    ) -> Result<(), SessionStoreError> {
        Ok(self.find(id)?.lock()?.session.check_next(seq, at)?)
    }

    /// Counts a frame, and returns its events after they are durable. A frame without events writes
    /// nothing. People that were removed since the mark are left out.
    ///
    /// # Errors
    ///
    /// If the session does not exist or refuses the frame, or the disk fails. The frame does not
    /// count then, and may be sent again.
    pub fn observe(
        &self,
        id: SessionId,
        mut frame: ObservedFrame,
        since: RemovalMark,
        now: Timestamp,
    ) -> Result<Vec<SessionEvent>, SessionStoreError> {
        let stored = self.find(id)?;
        let mut state = stored.lock()?;
        self.removals().strip(since, &mut frame);
        let change = state.session.observe(&frame, now)?;
        stored.write(&mut state, &change)?;
        Ok(change.events)
    }

    /// Corrects a person's status, durably, also after the end. Returns the events.
    ///
    /// # Errors
    ///
    /// If the session does not exist, the person was removed since the mark, or the disk fails.
    pub fn correct(
        &self,
        id: SessionId,
        request: &CorrectionRequest,
        since: RemovalMark,
        now: Timestamp,
    ) -> Result<Vec<SessionEvent>, SessionStoreError> {
        let stored = self.find(id)?;
        let mut state = stored.lock()?;
        if self.removals().is_removed(since, &request.person) {
            return Err(SessionStoreError::PersonRemoved);
        }
        let by = request.by.as_deref();
        let change = state
            .session
            .correct(&request.person, request.status, by, now);
        stored.write(&mut state, &change)?;
        Ok(change.events)
    }

    /// Binds a session to another revision, durably.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or the disk fails.
    pub fn bind(
        &self,
        id: SessionId,
        revision: String,
        now: Timestamp,
    ) -> Result<(), SessionStoreError> {
        let stored = self.find(id)?;
        let mut state = stored.lock()?;
        let change = state.session.bind(revision, now);
        stored.write(&mut state, &change)
    }

    /// Ends a session, durably. A session that ended before is left as it is. Returns the events.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or the disk fails.
    pub fn end(
        &self,
        id: SessionId,
        now: Timestamp,
    ) -> Result<Vec<SessionEvent>, SessionStoreError> {
        let stored = self.find(id)?;
        let mut state = stored.lock()?;
        let Some(change) = state.session.end(now) else {
            return Ok(Vec::new());
        };
        stored.write(&mut state, &change)?;
        let StoredState { session, log, .. } = &mut *state;
        log.compact(session);
        Ok(change.events)
    }

    /// Deletes a session with its events, durably.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or the disk fails. After a failed sync the session is deleted,
    /// but a crash of the machine may bring it back.
    pub fn delete(&self, id: SessionId) -> Result<(), SessionStoreError> {
        let stored = self.find(id)?;
        stored.delete()?;
        self.sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        self.changes.send_modify(|count| *count += 1);
        self.sync()
    }

    /// Syncs the folder.
    fn sync(&self) -> Result<(), SessionStoreError> {
        let Some(folder) = self.folder() else {
            return Ok(());
        };
        sync_folder(folder)
            .map(drop)
            .map_err(SessionStoreError::io("sync", folder))
    }

    /// Returns at most `most` events after the one with this number, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or its journal cannot be read.
    pub fn events_after(
        &self,
        id: SessionId,
        number: u64,
        most: usize,
    ) -> Result<Vec<SessionEvent>, SessionStoreError> {
        let stored = self.find(id)?;
        let state = stored.lock()?;
        if number >= state.session.last_event() {
            return Ok(Vec::new());
        }
        state.log.events_after(id, number, most)
    }

    /// Subscribes to the number of a session's last event. The reader fetches the events by
    /// [`SessionStore::events_after`], so that a slow one loses none. The sender is gone when the
    /// session is deleted.
    ///
    /// # Errors
    ///
    /// If the session does not exist.
    pub fn subscribe(&self, id: SessionId) -> Result<watch::Receiver<u64>, SessionStoreError> {
        self.find(id)?.subscribe()
    }

    /// Writes the counts since the last event of each session. The host calls it every ten seconds
    /// and at its end, which bounds the frames that a crash can make uncounted.
    ///
    /// # Errors
    ///
    /// The first failure. The other sessions are written, and the counts stay for the next time.
    pub fn checkpoint(&self) -> Result<(), SessionStoreError> {
        self.removals().forget_old(Instant::now());
        let mut result = Ok(());
        for stored in self.all() {
            let Ok(mut state) = stored.lock() else {
                continue;
            };
            if let Some(change) = state.session.checkpoint() {
                result = match stored.write(&mut state, &change) {
                    // Another node counts on.
                    Err(SessionStoreError::Moved(_)) => result,
                    // The others would wait for the database, too.
                    Err(error @ SessionStoreError::Database { .. }) => return Err(error),
                    written => result.and(written),
                };
            }
            if state.log.has_grown() {
                let StoredState { session, log, .. } = &mut *state;
                log.compact(session);
            }
        }
        self.forget_unneeded();
        result
    }

    /// Removes a person from every session, durably: counts, corrections, and events about them or
    /// with their id. Returns the number of sessions that had the person. Frames that were
    /// recognised before do not bring the person back.
    ///
    /// # Errors
    ///
    /// If the disk fails. Every session has either its old or its new content then, also after a
    /// crash, and the removal may be repeated.
    pub fn remove_person(
        &self,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<usize, SessionStoreError> {
        // Before the sessions, so that a frame after its session's turn is stripped.
        self.removals().add(person.clone(), Instant::now());
        if let Some(folder) = self.folder() {
            damaged::remove_mentioning(folder, person)
                .map_err(SessionStoreError::io("search", folder))?;
        }
        let mut count = 0;
        for stored in self.all() {
            count += usize::from(stored.remove_person(person, now)?);
        }
        // Also if no session has the person any more: an earlier removal may have failed here.
        self.sync()?;
        Ok(count)
    }

    /// Deletes sessions after the days for which they are kept, counted from the end, or else from
    /// the last operation. Returns their ids.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub fn sweep(&self, now: Timestamp) -> Result<Vec<SessionId>, SessionStoreError> {
        let keep = SignedDuration::from_hours(24 * i64::from(self.limits.keep_days));
        let cutoff = now.checked_sub(keep).unwrap_or(Timestamp::MIN);
        let mut deleted = match &self.place {
            Place::Folder(folder) => {
                damaged::remove_before(folder, cutoff)
                    .map_err(SessionStoreError::io("search", folder))?;
                Vec::new()
            }
            Place::Shared(shared) => shared.sweep(cutoff)?,
        };
        for stored in self.all() {
            let is_old = stored.lock().is_ok_and(|state| {
                let session = &state.session;
                session.ended().unwrap_or(session.active()) < cutoff
            });
            if is_old {
                match self.delete(stored.id()) {
                    Ok(()) => deleted.push(stored.id()),
                    // A request deleted it meanwhile, or another node has it.
                    Err(
                        SessionStoreError::Unknown(_)
                        | SessionStoreError::Moved(_)
                        | SessionStoreError::Elsewhere { .. },
                    ) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(deleted)
    }

    fn insert(&self, session: Session, log: SessionLog) -> Arc<StoredSession> {
        let stored = Arc::new(StoredSession::new(session, log, self.changes.clone()));
        self.sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(stored.id(), Arc::clone(&stored));
        stored
    }

    fn folder(&self) -> Option<&Path> {
        match &self.place {
            Place::Folder(folder) => Some(folder),
            Place::Shared(_) => None,
        }
    }

    fn lock_creation(&self) -> MutexGuard<'_, ()> {
        self.creation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all sessions, so that no lock is held while they are used.
    fn all(&self) -> Vec<Arc<StoredSession>> {
        self.read().values().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<SessionId, Arc<StoredSession>>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn removals(&self) -> MutexGuard<'_, RecentRemovals> {
        self.removals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the path of a session's journal.
fn journal_path(folder: &Path, id: SessionId) -> PathBuf {
    folder.join(format!("{id}.jsonl"))
}

/// Creates a folder for its owner alone, unless it exists.
fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
