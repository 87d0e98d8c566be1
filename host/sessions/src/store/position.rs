//! Positions of all sessions, for the delivery of events.

use jiff::Timestamp;
use tokio::sync::watch;

use crate::error::SessionStoreError;
use crate::ids::{SessionId, StreamName};
use crate::session::SessionSummary;

use super::SessionStore;

/// Number of a session's last event, with what is fixed for all its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPosition {
    /// The session.
    pub id: SessionId,
    /// Stream that its frames come from.
    pub stream: StreamName,
    /// Group that people are recognised in.
    pub group: Option<String>,
    /// Time of the creation.
    pub created: Timestamp,
    /// False after the end.
    pub is_open: bool,
    /// Number of the last event.
    pub last_event: u64,
}

impl SessionStore {
    /// Subscribes to all sessions: the number grows with every new event, creation and deletion. A
    /// deletion of a person makes an event in each session that had them.
    #[must_use]
    pub fn subscribe_all(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns the positions of all sessions, those of other nodes too, in no order. In a folder it
    /// waits for no session's disk.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn positions(&self) -> Result<Vec<SessionPosition>, SessionStoreError> {
        if let Some(shared) = self.shared() {
            let sessions = shared.summaries()?.into_iter();
            return Ok(sessions.map(SessionPosition::from).collect());
        }
        let sessions = self.read();
        Ok(sessions
            .values()
            .map(|session| session.position())
            .collect())
    }
}

impl From<SessionSummary> for SessionPosition {
    fn from(session: SessionSummary) -> Self {
        Self {
            id: session.id,
            stream: session.stream,
            group: session.group,
            created: session.created,
            is_open: session.ended.is_none(),
            last_event: session.last_event,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::store::{NewSession, SessionLimits};
    use crate::testing::{at, frame, person};

    use super::*;

    #[test]
    fn subscription_counts_every_change() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = SessionStore::open(folder.path(), SessionLimits::default()).unwrap();
        let mut changes = store.subscribe_all();
        let mut has_changed = || {
            let has_changed = changes.has_changed().unwrap();
            changes.mark_unchanged();
            has_changed
        };
        let new = |stream: &str| NewSession {
            stream: stream.parse().unwrap(),
            group: Some("maths".to_owned()),
            rule: crate::rule::PresenceRule::default(),
            owner: None,
            revision: "r1".to_owned(),
        };
        assert!(!has_changed());
        let [first, second] = ["door", "hall"].map(|name| store.create(new(name), at(0)).unwrap());
        assert!(has_changed());
        let mark = store.removal_mark();
        store
            .observe(first.id, frame(1, &["a"]), mark, at(1))
            .unwrap();
        assert!(!has_changed());
        store
            .observe(first.id, frame(2, &["a"]), mark, at(2))
            .unwrap();
        assert!(has_changed());
        store.remove_person(&person("a"), at(3)).unwrap();
        assert!(has_changed());
        store.end(first.id, at(4)).unwrap();
        assert!(has_changed());
        let positions = || -> BTreeMap<String, (bool, u64)> {
            let positions = store.positions().unwrap().into_iter();
            let entry = |found: SessionPosition| {
                (found.stream.to_string(), (found.is_open, found.last_event))
            };
            positions.map(entry).collect()
        };
        let expected = [
            ("door".to_owned(), (false, 4)),
            ("hall".to_owned(), (true, 1)),
        ];
        assert_eq!(positions(), BTreeMap::from(expected));
        store.delete(second.id).unwrap();
        assert!(has_changed() && !has_changed());
        assert_eq!(positions().len(), 1);
    }
}
