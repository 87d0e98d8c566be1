//! Streams: what a pipeline keeps between the frames of one stream, in memory only, and the revision
//! that serves them.
//!
//! The frames of a stream are worked on one at a time, in order. Its memory is dropped after a time
//! without frames, if a revision of another kind serves, and at each deletion of a person, because
//! the states may hold anything.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rostro_sandbox::stream::StreamMemory;
use tokio::time::timeout_at;

use crate::deployment::{Canary, Deployment, ReadyRevision, ShareCounter};
use crate::executor::RequestContext;
use crate::people::People;
use crate::recognize::{FrameInput, Recognition};
use crate::{RevisionError, Service, ServiceError};

/// Time without frames after which the memory of a stream is dropped.
const IDLE: Duration = Duration::from_mins(10);

/// A stream of frames, of [`Service::open_stream`]. Dropping it drops its memory.
#[derive(Debug, Default)]
pub struct Stream(tokio::sync::Mutex<StreamState>);

/// All streams, so that a deletion reaches their memory.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<Vec<Weak<Stream>>>);

#[derive(Debug, Default)]
struct StreamState {
    route: Option<CanaryChoice>,
    kept: Option<KeptMemory>,
    /// Time of the last frame in milliseconds, because the next one's is later.
    time: u64,
    /// When the last frame was worked on.
    worked: Option<Instant>,
}

/// Whether a stream belongs to the canary's share, as long as that canary and share last.
#[derive(Debug)]
struct CanaryChoice {
    share: Weak<ShareCounter>,
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

impl Streams {
    fn in_use(&self) -> Vec<Arc<Stream>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|stream| stream.strong_count() > 0);
        list.iter().filter_map(Weak::upgrade).collect()
    }
}

impl StreamState {
    /// Returns the revision that serves the stream. A canary's share is of streams.
    fn revision(&mut self, deployment: &Deployment) -> Arc<ReadyRevision> {
        let routes = deployment.routes();
        let Some(Canary { ready, share }) = &routes.canary else {
            self.route = None;
            return Arc::clone(&routes.active);
        };
        let route = self.route.take();
        let route = route.filter(|route| route.share.ptr_eq(&Arc::downgrade(share)));
        let route = route.unwrap_or_else(|| CanaryChoice {
            share: Arc::downgrade(share),
            is_canary: routes.takes_canary(),
        });
        let chosen = if route.is_canary {
            ready
        } else {
            &routes.active
        };
        self.route = Some(route);
        Arc::clone(chosen)
    }

    /// Returns the time of a frame in milliseconds. If the caller's stands still, the host's clock
    /// counts: a track of a face would otherwise go on without a look at who it is.
    fn time_of(&self, time: u64, now: Instant) -> u64 {
        let passed = self.worked.map_or(Duration::ZERO, |worked| {
            now.saturating_duration_since(worked)
        });
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        match time > self.time {
            true => time,
            false => self.time.saturating_add(passed),
        }
    }

    /// Drops the memory if it must not be used any more.
    fn drop_outdated(&mut self, people: &People) {
        self.kept = self
            .kept
            .take()
            .filter(|kept| kept.deletions == people.deletions() && kept.used.elapsed() < IDLE);
    }

    /// Returns the memory for the next frame: empty if the last one's cannot be used.
    fn memory(&mut self, key: &str, people: &People) -> StreamMemory {
        self.drop_outdated(people);
        self.kept = self.kept.take().filter(|kept| kept.key == key);
        let kept = self.kept.as_ref();
        kept.map(|kept| kept.memory.clone()).unwrap_or_default()
    }
}

impl Service {
    /// Begins a stream.
    pub fn open_stream(&self) -> Arc<Stream> {
        let stream = Arc::new(Stream::default());
        let mut list = self
            .streams
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        list.push(Arc::downgrade(&stream));
        stream
    }

    /// Drops the memory of streams that must not be used any more. A frame in progress drops its own
    /// at its end.
    pub fn drop_outdated_streams(&self) {
        for stream in self.streams.in_use() {
            if let Ok(mut state) = stream.0.try_lock() {
                state.drop_outdated(&self.people);
            }
        }
    }

    /// Recognises the people in a frame of a stream, after the frames before it.
    ///
    /// # Errors
    ///
    /// [`RevisionError`]. The stream is then as it was before the frame.
    pub async fn recognize_in_stream(
        self: &Arc<Self>,
        stream: &Stream,
        mut frame: FrameInput,
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
        let time = state.time_of(frame.context.time, Instant::now());
        frame.context.time = time;
        let result = self.recognize_on(ready, frame, Some(memory), context).await;
        state.drop_outdated(&self.people);
        let (mut recognition, memory) = result.map_err(failed)?;
        recognition.stale = self.check_permission(permission).map_err(failed)?;
        state.time = time;
        state.worked = Some(Instant::now());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_time_follows_clock() {
        let now = Instant::now();
        let state = StreamState {
            time: 5_000,
            worked: now.checked_sub(Duration::from_millis(700)),
            ..StreamState::default()
        };
        assert_eq!(state.time_of(5_001, now), 5_001);
        assert_eq!(state.time_of(5_000, now), 5_700);
        assert_eq!(state.time_of(4_000, now), 5_700);
        assert_eq!(StreamState::default().time_of(9, now), 9);
    }
}
