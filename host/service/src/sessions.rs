//! Sessions: frames of a stream, recognised in their order, and the presence that they show.
//!
//! [`rostro_sessions`] counts and stores. Here each frame gets its stream, the people of the
//! session's group, and its place in the order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

use rostro_common::ids::PersonId;
use rostro_gallery::groups::{GroupId, Members};
use rostro_sandbox::bindings::GuestContext;
use rostro_sessions::{
    CorrectionRequest, NamedPerson, NewSession, ObservedFrame, PolicyEvent, PresenceRule,
    SessionError, SessionEvent, SessionId, SessionStore, SessionStoreError, SessionSummary,
    SessionView, StreamName,
};

use crate::executor::RequestContext;
use crate::recognize::{FrameInput, Recognition};
use crate::streams::Stream;
use crate::{RevisionError, Service, ServiceError};

/// How far the time of a frame may be ahead of the host's clock.
const MAX_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// Subscriptions to events at a time.
const MAX_SUBSCRIPTIONS: usize = 256;

/// Sessions of the service: what is stored, and the streams of those that frames came for.
#[derive(Debug)]
pub(crate) struct LiveSessions {
    store: Arc<SessionStore>,
    live: Mutex<HashMap<SessionId, Arc<LiveSession>>>,
    /// Permits of subscriptions to events.
    subscriptions: Arc<Semaphore>,
    /// Number of times that all subscriptions were ended.
    ended_subscriptions: watch::Sender<u64>,
}

/// Subscription to the events of a session. The reader fetches them, so that a slow one loses none.
#[derive(Debug)]
pub struct Subscription {
    last_event: watch::Receiver<u64>,
    ended: watch::Receiver<u64>,
    _permit: OwnedSemaphorePermit,
}

impl Subscription {
    /// Waits for events after those of the last call. Returns false if the session was deleted or
    /// the subscription ended.
    pub async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.last_event.changed() => changed.is_ok(),
            _ = self.ended.changed() => false,
        }
    }

    /// Counts the events up to now as read, before they are read.
    pub fn mark_unchanged(&mut self) {
        self.last_event.mark_unchanged();
    }

    /// Returns false if the session was deleted or the subscription ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.last_event.has_changed().is_ok() && !self.ended.has_changed().unwrap_or(true)
    }
}

/// A session that gets frames.
#[derive(Debug)]
struct LiveSession {
    /// Held from the check of a frame's place until it is counted.
    order: AsyncMutex<()>,
    stream: Arc<Stream>,
}

/// A session that a caller asks for.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// Stream that the frames come from.
    pub stream: StreamName,
    /// Group to search; all people if none.
    pub group: Option<GroupId>,
    /// Rule by which a person is present.
    pub rule: PresenceRule,
    /// Name of the caller's API key; none if the service runs without keys.
    pub owner: Option<String>,
}

/// A frame of a session.
#[derive(Clone, Debug)]
pub struct SessionFrame {
    /// The encoded frame.
    pub image: Bytes,
    /// Number that the caller gave it.
    pub seq: Option<u64>,
    /// Time at which it was taken; the time of its arrival if none.
    pub at: Option<Timestamp>,
    /// Closeness of the search for faces, as [`FrameInput::closeness`].
    pub closeness: Option<String>,
    /// The caller's text for the pipeline.
    pub context: String,
    /// Name of the caller's API key.
    pub owner: Option<String>,
    /// When the request arrived.
    pub arrived: Instant,
}

/// A recognised frame of a session.
#[derive(Debug)]
pub struct SessionRecognition {
    /// The people in the frame.
    pub recognition: Recognition,
    /// Time of the frame.
    pub at: Timestamp,
    /// Events that the frame made, which are durable.
    pub events: Vec<SessionEvent>,
}

/// Reason why a request about a session is refused or fails.
#[derive(Debug, thiserror::Error)]
pub enum SessionRequestError {
    /// The sessions refuse it, or cannot be read or written.
    #[error(transparent)]
    Store(#[from] SessionStoreError),
    /// The session was created with another API key.
    #[error("the session belongs to another API key")]
    OtherOwner,
    /// The group does not exist, or not any more.
    #[error("the group {0} does not exist")]
    UnknownGroup(String),
    /// Too many callers follow events.
    #[error("{MAX_SUBSCRIPTIONS} callers follow events of sessions already")]
    TooManySubscriptions,
    /// The person is not enrolled.
    #[error("the person is not enrolled")]
    UnknownPerson,
    /// The frame's time is long ago.
    #[error("the frame's time {0} is before 1970; send the time at which it was taken")]
    Early(Timestamp),
    /// The frame's time is in the future.
    #[error(
        "the frame's time {at} is after that of the service ({now}); set the sender's clock, or leave the time out"
    )]
    Ahead {
        /// Time of the frame.
        at: Timestamp,
        /// Time of the service.
        now: Timestamp,
    },
    /// The frame could not be recognised.
    #[error(transparent)]
    Recognition(#[from] RevisionError),
    /// The service could not answer.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl LiveSessions {
    pub(crate) fn new(store: Arc<SessionStore>) -> Self {
        Self {
            store,
            live: Mutex::default(),
            subscriptions: Arc::new(Semaphore::new(MAX_SUBSCRIPTIONS)),
            ended_subscriptions: watch::Sender::new(0),
        }
    }

    pub(crate) fn store(&self) -> &Arc<SessionStore> {
        &self.store
    }

    fn live(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<LiveSession>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Returns the stored sessions, for reads.
    pub fn sessions(&self) -> &Arc<SessionStore> {
        self.sessions.store()
    }

    /// Creates a session, durably. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// If the group does not exist, the owner has too many open sessions, or the disk fails.
    pub fn create_session(
        &self,
        request: SessionRequest,
    ) -> Result<SessionSummary, SessionRequestError> {
        if let Some(group) = &request.group {
            self.members_of(&group.to_string())?;
        }
        let new = NewSession {
            stream: request.stream,
            group: request.group.map(|group| group.to_string()),
            rule: request.rule,
            owner: request.owner,
            revision: self.deployment.active().id().to_string(),
        };
        Ok(self.sessions.store.create(new, now())?)
    }

    /// Recognises a frame of a session, after the frames before it, and counts who is in it.
    ///
    /// # Errors
    ///
    /// [`SessionRequestError`]. The frame does not count then.
    pub async fn recognize_in_session(
        self: &Arc<Self>,
        id: SessionId,
        frame: SessionFrame,
        context: &RequestContext,
    ) -> Result<SessionRecognition, SessionRequestError> {
        let arrived = now();
        let live = self.live_session(id, frame.owner.as_deref()).await?;
        let Ok(_order) = timeout_at(context.deadline.into(), live.order.lock()).await else {
            return Err(ServiceError::from(self.executor.deadline_error()).into());
        };
        let summary = self.on_sessions(move |store| store.summary(id)).await?;
        let at = time_of(&frame, &summary, arrived)?;
        let seq = frame.seq;
        // The mark is taken before the people are looked at, so that a deletion meanwhile is seen.
        let mark = self
            .on_sessions(move |store| {
                store.check_next(id, seq, at)?;
                Ok(store.removal_mark())
            })
            .await?;
        let members = summary
            .group
            .as_deref()
            .map(|group| self.members_of(group))
            .transpose()?;
        let input = FrameInput {
            image: frame.image,
            members,
            context: GuestContext {
                stream: Some(summary.stream.to_string()),
                group: summary.group.clone(),
                time: u64::try_from(at.as_millisecond()).unwrap_or_default(),
                context: frame.context,
            },
            closeness: frame.closeness,
            arrived: frame.arrived,
        };
        let recognition = self
            .recognize_in_stream(&live.stream, input, context)
            .await?;
        let observed = ObservedFrame {
            seq,
            at,
            people: named_people(&recognition),
            policy_events: policy_events(&recognition),
        };
        let revision = recognition.revision.digest().to_string();
        let events = self
            .on_sessions(move |store| {
                let now = now();
                let events = store.observe(id, observed, mark, now)?;
                // The frame counts already, and the next one binds again.
                if revision != summary.revision
                    && let Err(error) = store.bind(id, revision, now)
                {
                    tracing::warn!("cannot record the revision of a session: {error}");
                }
                Ok(events)
            })
            .await?;
        Ok(SessionRecognition {
            recognition,
            at,
            events,
        })
    }

    /// Returns the live part of a session that a caller may feed.
    async fn live_session(
        &self,
        id: SessionId,
        owner: Option<&str>,
    ) -> Result<Arc<LiveSession>, SessionRequestError> {
        let summary = self.on_sessions(move |store| store.summary(id)).await;
        if summary.is_err() {
            // Its tracks would be outdated if this node gets the session again.
            self.sessions.live().remove(&id);
        }
        let summary = summary?;
        check_owner(&summary, owner)?;
        if let Some(ended) = summary.ended {
            return Err(SessionStoreError::from(SessionError::Ended(ended)).into());
        }
        let mut live = self.sessions.live();
        let session = live.entry(id).or_insert_with(|| {
            Arc::new(LiveSession {
                order: AsyncMutex::default(),
                stream: self.open_stream(),
            })
        });
        Ok(Arc::clone(session))
    }

    /// Returns a session with the people of its group. A group that was deleted has none. Blocks
    /// on other requests for the session.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or this node may not answer from memory.
    pub fn session(&self, id: SessionId) -> Result<SessionView, SessionRequestError> {
        let lease = self.take_lease()?;
        let summary = self.sessions.store.summary(id)?;
        let members: Vec<PersonId> = summary
            .group
            .as_deref()
            .and_then(|group| self.members_of(group).ok())
            .map(|members| members.iter().cloned().collect())
            .unwrap_or_default();
        let view = self.sessions.store.get(id, &members)?;
        self.check_lease(lease)?;
        Ok(view)
    }

    /// Checks that this node has a session. Blocks on the database.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or another node has it.
    pub fn find_session(&self, id: SessionId) -> Result<(), SessionRequestError> {
        self.sessions.store.summary(id)?;
        Ok(())
    }

    /// Corrects the attendance of a person, durably, also after the session's end. Blocks on the
    /// disk.
    ///
    /// # Errors
    ///
    /// If the session does not exist, the person is not enrolled, or the disk fails.
    pub fn correct_attendance(
        &self,
        id: SessionId,
        request: &CorrectionRequest,
    ) -> Result<Vec<SessionEvent>, SessionRequestError> {
        let store = &self.sessions.store;
        let mark = store.removal_mark();
        let is_enrolled = self
            .people
            .samples(&request.person)
            .map_err(ServiceError::from)?
            .is_some();
        if !is_enrolled {
            return Err(SessionRequestError::UnknownPerson);
        }
        Ok(store.correct(id, request, mark, now())?)
    }

    /// Ends a session, durably, and returns it. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or the disk fails.
    pub fn end_session(&self, id: SessionId) -> Result<SessionSummary, SessionRequestError> {
        self.sessions.store.end(id, now())?;
        self.sessions.live().remove(&id);
        Ok(self.sessions.store.summary(id)?)
    }

    /// Deletes a session with its events and attendance, durably, and returns what it was. Blocks on
    /// the disk.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or the disk fails.
    pub fn delete_session(&self, id: SessionId) -> Result<SessionSummary, SessionRequestError> {
        let summary = self.sessions.store.summary(id)?;
        let deleted = self.sessions.store.delete(id);
        self.sessions.live().remove(&id);
        deleted?;
        Ok(summary)
    }

    /// Returns at most `most` events of a session after the one with this number. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// If the session does not exist, this node may not answer from memory, or the disk fails.
    pub fn session_events(
        &self,
        id: SessionId,
        after: u64,
        most: usize,
    ) -> Result<Vec<SessionEvent>, SessionRequestError> {
        let lease = self.take_lease()?;
        let events = self.sessions.store.events_after(id, after, most)?;
        self.check_lease(lease)?;
        Ok(events)
    }

    /// Writes counts that are only in memory, and deletes sessions that are kept no longer. Blocks
    /// on the disk.
    ///
    /// # Errors
    ///
    /// The first failure of the disk.
    pub fn maintain_sessions(&self) -> Result<(), SessionStoreError> {
        let store = &self.sessions.store;
        let written = store.checkpoint();
        let swept = store.sweep(now());
        self.sessions.live().retain(|id, _| store.is_open(*id));
        written?;
        let deleted = swept?.len();
        if deleted > 0 {
            tracing::info!(sessions = deleted, "deleted sessions after --keep-sessions");
        }
        Ok(())
    }

    /// Subscribes to the events of a session.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or there are too many subscriptions.
    pub fn subscribe_to_session(&self, id: SessionId) -> Result<Subscription, SessionRequestError> {
        let permits = Arc::clone(&self.sessions.subscriptions);
        let permit = permits
            .try_acquire_owned()
            .map_err(|_| SessionRequestError::TooManySubscriptions)?;
        Ok(Subscription {
            last_event: self.sessions.store.subscribe(id)?,
            ended: self.sessions.ended_subscriptions.subscribe(),
            _permit: permit,
        })
    }

    /// Ends all subscriptions, because the rights of their callers may have changed.
    pub fn end_subscriptions(&self) {
        self.sessions
            .ended_subscriptions
            .send_modify(|times| *times += 1);
    }

    /// Checks that a caller may end a session.
    ///
    /// # Errors
    ///
    /// If the session does not exist, or another key created it.
    pub fn check_session_owner(
        &self,
        id: SessionId,
        owner: Option<&str>,
    ) -> Result<(), SessionRequestError> {
        check_owner(&self.sessions.store.summary(id)?, owner)
    }

    fn members_of(&self, group: &str) -> Result<Members, SessionRequestError> {
        let unknown = || SessionRequestError::UnknownGroup(group.to_owned());
        let id: GroupId = group.parse().map_err(|_| unknown())?;
        self.groups().members(&id).ok_or_else(unknown)
    }

    /// Runs work on the stored sessions that may wait for the disk.
    async fn on_sessions<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SessionStore) -> Result<T, SessionStoreError> + Send + 'static,
    ) -> Result<T, SessionRequestError> {
        let store = Arc::clone(&self.sessions.store);
        match spawn_blocking(move || work(&store)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(ServiceError::from(crate::executor::ExecutorError::Panicked).into()),
        }
    }
}

/// Returns the time in whole milliseconds, as callers give it.
fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(jiff::Unit::Millisecond).unwrap_or(now)
}

/// Refuses callers with another key than the one that created a session.
fn check_owner(summary: &SessionSummary, owner: Option<&str>) -> Result<(), SessionRequestError> {
    match summary.owner.as_deref() == owner {
        true => Ok(()),
        false => Err(SessionRequestError::OtherOwner),
    }
}

/// Returns the time of a frame.
fn time_of(
    frame: &SessionFrame,
    summary: &SessionSummary,
    now: Timestamp,
) -> Result<Timestamp, SessionRequestError> {
    match frame.at {
        Some(at) if at < Timestamp::UNIX_EPOCH => Err(SessionRequestError::Early(at)),
        Some(at) if at.duration_since(now) > MAX_AHEAD => {
            Err(SessionRequestError::Ahead { at, now })
        }
        Some(at) => Ok(at),
        // The service's clock may have been set back, which is not the caller's fault.
        None => Ok(summary.last_frame.map_or(now, |last| now.max(last.at))),
    }
}

/// Returns the people that the policy named.
fn named_people(recognition: &Recognition) -> Vec<NamedPerson> {
    let faces = recognition.faces.iter();
    faces
        .filter_map(|face| {
            let person = face.identification.person()?;
            Some(NamedPerson {
                id: person.id.parse().ok()?,
                similarity: person.similarity,
            })
        })
        .collect()
}

/// Returns the policy's own events, each with the person of its face.
fn policy_events(recognition: &Recognition) -> Vec<PolicyEvent> {
    let events = recognition.events.iter();
    events
        .map(|event| PolicyEvent {
            code: event.code.clone(),
            person: event
                .face
                .and_then(|face| recognition.faces.get(face as usize))
                .and_then(|face| face.identification.person()?.id.parse().ok()),
            value: event.value,
            message: event.message.clone(),
        })
        .collect()
}
