//! Pools of ONNX Runtime sessions for one network.
//!
//! A session serves one run at a time, and comes in two kinds:
//!
//! - One *multi-threaded* session uses the thread pool of the process, with a thread for each
//!   core. It has the shortest time for a single run, and serves a run while no other one works.
//! - One *single-threaded* session for each core, and one more, computes on the calling thread.
//!   Concurrent runs use these, because threads in a shared pool would wait for each other at
//!   every layer: for 30 faces, single threads take 94 ms where the pool takes 240
//!   (docs/performance.md).

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use prometheus_client::metrics::histogram::Histogram;

use rostro_common::cancel::CancelScope;

/// Threads of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threads {
    /// The calling thread.
    One,
    /// A thread for each core.
    All,
}

/// Sessions of one network, which share its packed weights.
pub(super) struct Sessions {
    multi_threaded: SessionPool,
    single_threaded: SessionPool,
    /// Waiting times for a session, in seconds.
    waits: Histogram,
}

impl Sessions {
    pub(super) fn new(
        environment: &Environment,
        bytes: &[u8],
        cores: usize,
        waits: Histogram,
    ) -> Result<Self, ort::Error> {
        // Shared packed weights make a further session cost little memory.
        let weights = PrepackedWeights::new();
        let multi_threaded = builder(environment, &weights)?.commit_from_memory(bytes)?;
        // One more than the requests can use at a time, so that the trial of a staged revision does
        // not delay them.
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

    /// Runs `work` with a session of `threads`. Returns `None` if none is free before the scope
    /// ends.
    pub(super) fn run<T>(
        &self,
        threads: Threads,
        scope: &CancelScope,
        work: impl FnOnce(&mut Session) -> T,
    ) -> Option<T> {
        let pool = match threads {
            Threads::All => &self.multi_threaded,
            Threads::One => &self.single_threaded,
        };
        let start = Instant::now();
        let session = pool.take(scope);
        self.waits.observe(start.elapsed().as_secs_f64());
        // The guard gives the session back even if the work panics.
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
        // Inputs differ in size, and a memory plan would be kept for each size.
        .with_memory_pattern(false)?
        // Graphs that were exported at one size declare fixed output shapes, and only warn at other
        // sizes.
        .with_log_level(ort::logging::LogLevel::Error)?)
}

/// Idle sessions, each taken by one run at a time.
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

    /// Waits for an idle session until the scope ends. There is a session for each core, so waits
    /// are rare except for large inputs.
    fn take(&self, scope: &CancelScope) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if scope.is_expired() {
                // This thread may have consumed a wake-up that another one needs.
                self.returned.notify_one();
                return None;
            }
            let timeout = scope.deadline().saturating_duration_since(Instant::now());
            match idle.pop() {
                Some(session) => return Some(session),
                None => {
                    idle = self
                        .returned
                        .wait_timeout(idle, timeout)
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
