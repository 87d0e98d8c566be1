//! Streams: what a pipeline keeps between the frames of one stream, in memory only, and the revision
//! that serves them.
//!
//! The frames of a stream are worked on one at a time, in order. Its memory is dropped after a time
//! without frames, if a revision of another kind serves, and at each deletion of a person, because
//! the states may hold anything.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rostro_sandbox::stream::StreamMemory;
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use crate::deployment::{Deployment, ReadyRevision, Routes};
use crate::executor::RequestContext;
use crate::people::People;
use crate::recognize::{FrameInput, Recognition};
use crate::{RevisionError, Service, ServiceError};

/// Time without frames after which the memory of a stream is dropped.
const IDLE: Duration = Duration::from_mins(10);

/// A stream of frames. Dropping it drops its memory.
#[derive(Debug, Default)]
pub struct Stream(Mutex<StreamState>);

#[derive(Debug, Default)]
struct StreamState {
    route: Option<StreamRoute>,
    kept: Option<KeptMemory>,
}

/// Revision that serves a stream, until the routes change.
#[derive(Debug)]
struct StreamRoute {
    routes: Weak<Routes>,
    is_canary: bool,
}

/// Memory after the last frame, and the conditions under which it may be used.
#[derive(Debug)]
struct KeptMemory {
    memory: StreamMemory,
    /// [`rostro_sandbox::pipeline::revision::Revision::stream_key`] of the revision that made it.
    key: String,
    /// Deletions before the frame.
    deletions: u64,
    used: Instant,
}

impl Stream {
    /// Drops the memory if it is outdated. A frame in progress does that itself.
    pub fn drop_outdated(&self, service: &Service) {
        if let Ok(mut state) = self.0.try_lock() {
            let deletions = service.people().deletions();
            state.kept = state
                .kept
                .take()
                .filter(|kept| kept.deletions == deletions && kept.used.elapsed() < IDLE);
        }
    }

    /// Returns the bytes that it holds, or none during a frame.
    pub fn bytes(&self) -> Option<usize> {
        let state = self.0.try_lock().ok()?;
        Some(state.kept.as_ref().map_or(0, |kept| kept.memory.bytes()))
    }
}

impl StreamState {
    /// Returns the revision that serves the stream. A canary's share is of streams.
    fn revision(&mut self, deployment: &Deployment) -> Arc<ReadyRevision> {
        let routes = deployment.routes();
        let bound = self.route.as_ref();
        let is_canary = bound
            .filter(|route| route.routes.ptr_eq(&Arc::downgrade(&routes)))
            .map(|route| route.is_canary);
        let is_canary = is_canary.unwrap_or_else(|| routes.takes_canary());
        let canary = routes.canary.as_ref().filter(|_| is_canary);
        let ready = canary.map_or(&routes.active, |canary| &canary.ready);
        self.route = Some(StreamRoute {
            routes: Arc::downgrade(&routes),
            is_canary,
        });
        Arc::clone(ready)
    }

    /// Returns the memory for the next frame: empty if the last one's cannot be used.
    fn memory(&self, key: &str, people: &People) -> StreamMemory {
        let kept = self.kept.as_ref().filter(|kept| {
            kept.key == key && kept.deletions == people.deletions() && kept.used.elapsed() < IDLE
        });
        kept.map(|kept| kept.memory.clone()).unwrap_or_default()
    }
}

impl Service {
    /// Recognises the people in a frame of a stream, after the frames before it.
    ///
    /// # Errors
    ///
    /// [`RevisionError`]. The stream is then as it was before the frame.
    pub async fn recognize_in_stream(
        self: &Arc<Self>,
        stream: &Stream,
        frame: FrameInput,
        context: &RequestContext,
    ) -> Result<Recognition, RevisionError> {
        let permission = self.take_permission();
        let Ok(mut state) = timeout_at(context.deadline.into(), stream.0.lock()).await else {
            return Err(RevisionError {
                revision: self.deployment.active().id(),
                cause: self.executor.deadline_error().into(),
            });
        };
        let ready = state.revision(&self.deployment);
        let revision = ready.id();
        let failed = |cause: ServiceError| RevisionError { revision, cause };
        let permission = permission.map_err(failed)?;
        // Read before the frame, so that a deletion during it drops the memory.
        let deletions = self.people.deletions();
        let key = ready.revision.stream_key();
        let memory = state.memory(&key, &self.people);
        let (mut recognition, memory) = self
            .recognize_on(ready, frame, Some(memory), context)
            .await
            .map_err(failed)?;
        recognition.stale = self.check_permission(permission).map_err(failed)?;
        state.kept = memory
            .filter(|_| deletions == self.people.deletions())
            .map(|memory| KeptMemory {
                memory,
                key,
                deletions,
                used: Instant::now(),
            });
        Ok(recognition)
    }
}
