//! Opens the sessions of a folder or of a database.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use rostro_common::fs::atomic::UNFINISHED;
use tokio::sync::watch;

use crate::error::SessionStoreError;
use crate::ids::SessionId;
use crate::journal::{self, JournalError};
use crate::shared::SharedSessions;

use super::log::SessionLog;
use super::removals::RecentRemovals;
use super::session::StoredSession;
use super::{
    DamagedJournal, Place, SESSIONS, SessionLimits, SessionStore, create_private_folder, damaged,
};

impl SessionStore {
    /// Opens the sessions of a state folder, which the caller has locked. Torn ends of journals are
    /// repaired, and damaged journals are set aside and returned.
    ///
    /// # Errors
    ///
    /// If the folder or a file cannot be read or written.
    pub fn open(
        state_folder: &Path,
        limits: SessionLimits,
    ) -> Result<(Self, Vec<DamagedJournal>), SessionStoreError> {
        let folder = state_folder.join(SESSIONS);
        create_private_folder(&folder).map_err(SessionStoreError::io("create", &folder))?;
        let (mut sessions, mut damaged) = (HashMap::new(), Vec::new());
        let changes = watch::Sender::new(0);
        let entries = fs::read_dir(&folder).map_err(SessionStoreError::io("read", &folder))?;
        for entry in entries {
            let entry = entry.map_err(SessionStoreError::io("read", &folder))?;
            let (path, name) = (entry.path(), entry.file_name());
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(UNFINISHED) {
                // A crash interrupted an atomic write. The file may have a deleted person.
                fs::remove_file(&path).map_err(SessionStoreError::io("remove", &path))?;
                continue;
            }
            let Some(id) = session_of(name) else { continue };
            if !path.is_file() {
                tracing::error!("{} is not a file, and no session", path.display());
                continue;
            }
            match journal::open(&path, id, limits.events) {
                Ok((session, journal)) => {
                    let stored =
                        StoredSession::new(session, SessionLog::Journal(journal), changes.clone());
                    sessions.insert(id, Arc::new(stored));
                }
                Err(JournalError::Io(cause)) => {
                    return Err(SessionStoreError::io("read the session", &path)(cause));
                }
                Err(JournalError::Damaged(cause)) => damaged.push(
                    damaged::set_aside(&folder, &path, cause)
                        .map_err(SessionStoreError::io("set aside", &path))?,
                ),
            }
        }
        damaged.sort_by(|a, b| a.from.cmp(&b.from));
        let store = Self {
            place: Place::Folder(folder),
            limits,
            sessions: RwLock::new(sessions),
            creation: Mutex::new(()),
            removals: Mutex::new(RecentRemovals::default()),
            changes,
        };
        Ok((store, damaged))
    }

    /// Creates the store of a node that shares its sessions with others. It takes a session when a
    /// request is about it.
    #[must_use]
    pub fn of_node(shared: Arc<dyn SharedSessions>, limits: SessionLimits) -> Self {
        Self {
            place: Place::Shared(shared),
            limits,
            sessions: RwLock::default(),
            creation: Mutex::new(()),
            removals: Mutex::new(RecentRemovals::default()),
            changes: watch::Sender::new(0),
        }
    }
}

/// Returns the session of a journal's name.
fn session_of(name: &str) -> Option<SessionId> {
    name.strip_suffix(".jsonl")?.parse().ok()
}
