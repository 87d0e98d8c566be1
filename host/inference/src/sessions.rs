//! The sessions of one network.
//!
//! A session is used by one run at a time. There is one that works with all cores, for a run that
//! is alone, and one a core that works on the thread that runs it: beside each other, single
//! threads give more than teams that wait for each other at every layer.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use prometheus_client::metrics::histogram::Histogram;

use rostro_common::cancel::CancelScope;

/// The sessions of one network.
pub(super) struct Sessions {
    multi_threaded: SessionPool,
    single_threaded: SessionPool,
    /// How long each use waited for its session.
    waits: Histogram,
}

impl Sessions {
    pub(super) fn new(
        environment: &Environment,
        bytes: &[u8],
        cores: usize,
        waits: Histogram,
    ) -> Result<Self, ort::Error> {
        // Sessions of one network share their packed weights, so that a further one costs little
        // memory.
        let weights = PrepackedWeights::new();
        let multi_threaded = builder(environment, &weights)?.commit_from_memory(bytes)?;
        // One more than requests can use at a time: a revision that is being tried must not keep
        // them waiting.
        let single_threaded = (0..=cores).map(|_| {
            let builder = builder(environment, &weights)?
                .with_independent_thread_pool()?
                .with_intra_threads(1)?;
            builder.with_inter_threads(1)?.commit_from_memory(bytes)
        });
        Ok(Self {
            multi_threaded: SessionPool::new(vec![multi_threaded]),
            single_threaded: SessionPool::new(single_threaded.collect::<Result<_, ort::Error>>()?),
            waits,
        })
    }

    /// Lends the session that works with all cores; none if it is not free as long as that is
    /// wanted.
    pub(super) fn multi_threaded<T>(
        &self,
        scope: &CancelScope,
        work: impl FnOnce(&mut Session) -> T,
    ) -> Option<T> {
        self.lend(&self.multi_threaded, scope, work)
    }

    /// Lends a session that works on this thread alone; none if none is free as long as that is
    /// wanted.
    pub(super) fn single_threaded<T>(
        &self,
        scope: &CancelScope,
        work: impl FnOnce(&mut Session) -> T,
    ) -> Option<T> {
        self.lend(&self.single_threaded, scope, work)
    }

    fn lend<T>(
        &self,
        pool: &SessionPool,
        scope: &CancelScope,
        work: impl FnOnce(&mut Session) -> T,
    ) -> Option<T> {
        let begun = Instant::now();
        let session = pool.take(scope);
        self.waits.observe(begun.elapsed().as_secs_f64());
        // Given back even if the work panics.
        Some(work(&mut scopeguard::guard(session?, |session| {
            pool.give_back(session)
        })))
    }
}

fn builder(
    environment: &Environment,
    weights: &PrepackedWeights,
) -> Result<SessionBuilder, ort::Error> {
    Ok(SessionBuilder::new(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_prepacked_weights(weights)?
        // Looks differ in size: a plan of blocks for each size seen would be kept.
        .with_memory_pattern(false)?
        // Graphs exported at one size declare fixed output shapes and only warn when run at
        // another.
        .with_log_level(ort::logging::LogLevel::Error)?)
}

/// Sessions that are lent one at a time.
struct SessionPool {
    idle: Mutex<Vec<Session>>,
    returned: Condvar,
}

impl SessionPool {
    fn new(sessions: Vec<Session>) -> Self {
        Self {
            idle: Mutex::new(sessions),
            returned: Condvar::new(),
        }
    }

    /// Waits for an idle session, unless it is not wanted any more by then. There are as many as
    /// cores to run them, so waits are rare, but for large inputs.
    fn take(&self, scope: &CancelScope) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if scope.is_expired() {
                // Whoever was woken for nothing wakes the next.
                self.returned.notify_one();
                return None;
            }
            let left = scope.deadline().saturating_duration_since(Instant::now());
            match idle.pop() {
                Some(session) => return Some(session),
                None => {
                    idle = self
                        .returned
                        .wait_timeout(idle, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            }
        }
    }

    fn give_back(&self, session: Session) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session);
        self.returned.notify_one();
    }
}
