//! Retained messages of a broker. None has a person, because a broker keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rostro_common::fs::atomic::{FileAccess, write_atomic};
use rostro_sessions::shared::SharedSessions;
use rostro_sessions::{
    PresenceStatus, SessionPosition, SessionStore, SessionStoreError, StreamName,
};
use serde::{Deserialize, Serialize};

use crate::error::DeliveryError;
use crate::receivers::MqttBroker;

use super::topics::{self, RetainedMessage};

/// Version of the file's format.
const FORMAT: u32 = 1;

/// The topics that a broker may retain, durably, so that they are cleared also after a restart.
#[derive(Debug)]
pub(super) struct RetainedTopics {
    place: TopicsPlace,
    topics: BTreeSet<String>,
}

/// Where the topics are stored.
#[derive(Debug)]
enum TopicsPlace {
    File(PathBuf),
    Rows {
        shared: Arc<dyn SharedSessions>,
        receiver: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicsFile {
    format: u32,
    topics: BTreeSet<String>,
}

impl RetainedTopics {
    /// Opens the file; it does not exist before the first message.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or has another format.
    pub(super) fn open(path: &Path) -> Result<Self, DeliveryError> {
        let format = |problem: String| DeliveryError::Format {
            path: path.to_owned(),
            problem,
        };
        let topics = match fs::read(path) {
            Ok(bytes) => {
                let file: TopicsFile = serde_json::from_slice(&bytes)
                    .map_err(|_| format("it is not a list of topics".to_owned()))?;
                if file.format != FORMAT {
                    return Err(format(format!(
                        "its format is {}, not {FORMAT}",
                        file.format
                    )));
                }
                file.topics
            }
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(DeliveryError::io("read", path)(error)),
        };
        Ok(Self {
            place: TopicsPlace::File(path.to_owned()),
            topics,
        })
    }

    /// Reads the row of a receiver.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub(super) fn of_rows(
        shared: &Arc<dyn SharedSessions>,
        receiver: &str,
    ) -> Result<Self, SessionStoreError> {
        Ok(Self {
            topics: shared.topics(receiver)?,
            place: TopicsPlace::Rows {
                shared: Arc::clone(shared),
                receiver: receiver.to_owned(),
            },
        })
    }

    /// Adds the topics of messages, durably, before they are sent.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub(super) fn add(&mut self, messages: &[RetainedMessage]) -> io::Result<()> {
        let added = messages.iter().map(|message| &message.topic);
        let mut topics = self.topics.clone();
        topics.extend(added.cloned());
        self.replace(topics)
    }

    /// Returns the topics that have no message any more.
    pub(super) fn stale(&self, messages: &[RetainedMessage]) -> Vec<String> {
        let wanted: BTreeSet<&str> = messages
            .iter()
            .map(|message| message.topic.as_str())
            .collect();
        let stale = self.topics.iter();
        stale
            .filter(|topic| !wanted.contains(topic.as_str()))
            .cloned()
            .collect()
    }

    /// Removes topics that the broker has cleared.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub(super) fn remove(&mut self, cleared: &[String]) -> io::Result<()> {
        let mut topics = self.topics.clone();
        for topic in cleared {
            topics.remove(topic);
        }
        self.replace(topics)
    }

    fn replace(&mut self, topics: BTreeSet<String>) -> io::Result<()> {
        if topics == self.topics {
            return Ok(());
        }
        match &self.place {
            TopicsPlace::File(path) => {
                let file = TopicsFile {
                    format: FORMAT,
                    topics: topics.clone(),
                };
                write_atomic(path, FileAccess::Owner, &serde_json::to_vec(&file)?)?;
            }
            TopicsPlace::Rows { shared, receiver } => shared
                .set_topics(receiver, &topics)
                .map_err(io::Error::other)?,
        }
        self.topics = topics;
        Ok(())
    }
}

/// Counts of a stream. They name the session alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct AttendanceCounts {
    /// Number of people that are present, those that came late among them.
    present: usize,
    /// Number of people that came late.
    late: usize,
    /// Number of people that a user should look for.
    uncertain: usize,
    /// The open session; none if the last one ended.
    session: Option<String>,
}

/// Returns the retained messages of all streams: discovery, and the counts of the latest open
/// session.
///
/// # Errors
///
/// If the sessions cannot be read: empty counts would be wrong.
pub(super) fn messages(
    broker: &MqttBroker,
    store: &SessionStore,
    sessions: &[SessionPosition],
) -> Result<Vec<RetainedMessage>, SessionStoreError> {
    // In the order of creation, so that the latest open session stays.
    let mut streams: BTreeMap<&str, (&StreamName, Option<&SessionPosition>)> = BTreeMap::new();
    for position in sessions {
        let (_, open) = streams
            .entry(position.stream.as_str())
            .or_insert((&position.stream, None));
        if position.is_open {
            *open = Some(position);
        }
    }
    let mut messages = Vec::new();
    for (stream, open) in streams.into_values() {
        let counts = match open {
            Some(open) => counts(store, open)?,
            None => AttendanceCounts::default(),
        };
        if let Ok(payload) = serde_json::to_string(&counts) {
            let topic = topics::attendance(broker, stream);
            messages.push(RetainedMessage { topic, payload });
        }
        messages.extend(topics::discovery(broker, stream));
    }
    Ok(messages)
}

/// Returns the counts of a session; empty ones if it was deleted meanwhile.
fn counts(
    store: &SessionStore,
    position: &SessionPosition,
) -> Result<AttendanceCounts, SessionStoreError> {
    let view = match store.load(position.id) {
        Ok(view) => view,
        Err(
            error @ (SessionStoreError::NoLease
            | SessionStoreError::Database {
                is_transient: true, ..
            }),
        ) => return Err(error),
        // It was deleted, or is damaged for good.
        Err(_) => return Ok(AttendanceCounts::default()),
    };
    let late = |status: PresenceStatus| status == PresenceStatus::Late;
    Ok(AttendanceCounts {
        present: view.present.len(),
        late: view
            .present
            .iter()
            .filter(|person| late(person.status))
            .count(),
        uncertain: view.uncertain.len(),
        session: Some(position.id.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_survive_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home.topics.json");
        let message = |topic: &str| RetainedMessage {
            topic: topic.to_owned(),
            payload: String::new(),
        };
        let mut topics = RetainedTopics::open(&path).unwrap();
        topics.add(&[message("a"), message("b")]).unwrap();
        let mut topics = RetainedTopics::open(&path).unwrap();
        assert_eq!(topics.stale(&[message("b"), message("c")]), ["a"]);
        topics.remove(&["a".to_owned()]).unwrap();
        assert_eq!(RetainedTopics::open(&path).unwrap().stale(&[]), ["b"]);
        fs::write(&path, "{\"format\":2,\"topics\":[]}").unwrap();
        let error = RetainedTopics::open(&path).unwrap_err().to_string();
        assert!(error.contains("format is 2"), "{error}");
    }
}
