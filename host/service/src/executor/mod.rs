//! Who may work now: admission, worker threads and deadlines.
//!
//! Guests run on blocking threads, as many at a time as there are workers. A request waits for a
//! worker in a bounded queue, in which clients take turns; one too many is turned away at once. A
//! worker is free again when its work really ends, not when its client stops waiting: an inference
//! that is under way cannot be interrupted. A guest is stopped, and begins no other, when nobody
//! waits for it any more.

mod client;
mod estimate;
pub mod fair_queue;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout_at;

use rostro_common::cores::Cores;
use rostro_common::shutdown::Shutdown;

use fair_queue::{FairQueue, Refusal};

pub use self::client::Client;
pub use rostro_common::cancel::CancelScope;

/// Runs blocking work within bounds.
#[derive(Clone, Debug)]
pub struct Executor {
    queue: Arc<FairQueue>,
    /// One permit for work that nobody asked for.
    background_permit: Arc<Semaphore>,
    /// Of a request, in nanoseconds.
    deadline: Arc<AtomicU64>,
    cores: Cores,
    shutdown: Shutdown,
}

/// For whom work is done, and by when.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Who asks.
    pub client: Client,
    /// When it must be done.
    pub deadline: Instant,
}

/// How busy an executor is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Workers.
    pub workers: usize,
    /// Those that work on something that was asked for.
    pub busy: usize,
    /// Requests that wait for one.
    pub waiting: usize,
}

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// Every worker is busy and the queue is full.
    #[error("the service is at capacity: {queue} requests wait")]
    Overloaded {
        /// How many may wait.
        queue: usize,
        /// When there is room again, as far as can be told.
        wait: Duration,
    },
    /// The deadline passed, in the queue or at work.
    #[error("limit `deadline` of {} ms reached: the request waited or was at work", .limit.as_millis())]
    Deadline {
        /// How long a request may take.
        limit: Duration,
    },
    /// The work panicked: a bug of the host.
    #[error("the work on the request failed unexpectedly")]
    Panicked,
}

impl Executor {
    /// An executor of `workers` threads with room for `queue` waiting requests, each with
    /// `deadline` from its arrival to its end. Work occupies one of the `cores`, and `shutdown`
    /// waits for it.
    #[must_use]
    pub fn new(
        workers: NonZeroUsize,
        queue: usize,
        deadline: Duration,
        cores: Cores,
        shutdown: Shutdown,
    ) -> Self {
        let deadline = Arc::new(AtomicU64::new(nanoseconds(deadline)));
        Self {
            queue: Arc::new(FairQueue::new(workers.get(), queue)),
            background_permit: Arc::new(Semaphore::new(1)),
            deadline,
            cores,
            shutdown,
        }
    }

    /// Gives requests that arrive from now on another queue and deadline. Those that wait stay.
    pub fn set_bounds(&self, queue: usize, deadline: Duration) {
        self.queue.set_length(queue);
        self.deadline
            .store(nanoseconds(deadline), Ordering::Relaxed);
    }

    fn limit(&self) -> Duration {
        Duration::from_nanos(self.deadline.load(Ordering::Relaxed))
    }

    /// How many workers there are, how many of them are at work, and how many requests wait for
    /// one.
    pub fn load(&self) -> Load {
        let (workers, busy, waiting) = self.queue.load();
        Load {
            workers,
            busy,
            waiting,
        }
    }

    /// How long a request that came now would wait for a worker, as far as can be told. Those that
    /// wait longer than the deadline leave.
    pub(crate) fn expected_wait(&self) -> Duration {
        self.queue.expected_wait().min(self.limit())
    }

    /// What a request is told whose time is up.
    pub(crate) fn late(&self) -> ExecutorError {
        ExecutorError::Deadline {
            limit: self.limit(),
        }
    }

    /// By when a request that arrives now must be done.
    #[must_use]
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.limit()
    }

    /// The scope of long work on a request: it ends at the deadline, or when the process stops.
    pub(crate) fn scope(&self, deadline: Instant) -> CancelScope {
        self.shutdown.scope(deadline)
    }

    /// Runs `work` in the background if a worker is idle, and otherwise not at all; whether it
    /// does. It takes no worker's place: a request that comes meanwhile does not wait for it. Its
    /// scope ends at the deadline, or when the process stops.
    pub(crate) fn try_run_background(
        &self,
        deadline: Instant,
        work: impl FnOnce(CancelScope) + Send + 'static,
    ) -> bool {
        if self.shutdown.has_begun() {
            return false;
        }
        // Requests before others' curiosity: one of these at a time.
        let Ok(turn) = Arc::clone(&self.background_permit).try_acquire_owned() else {
            return false;
        };
        let Load { workers, busy, .. } = self.load();
        if busy == workers {
            return false;
        }
        let cores = self.cores.clone();
        let (scope, tracked) = (self.shutdown.scope(deadline), self.shutdown.track());
        tokio::task::spawn_blocking(move || {
            let _held_until_the_end = (turn, cores.occupy(), tracked);
            work(scope);
        });
        true
    }

    /// Runs `work` on a worker when it is the client's turn. It should end when it is not wanted
    /// any more: by the deadline, or because this future was dropped. What it gives beside its
    /// result is dropped when the result is on its way: instances are cleared then, which takes a
    /// millisecond that nobody need wait for.
    ///
    /// # Errors
    ///
    /// [`ExecutorError`]; after [`ExecutorError::Deadline`] the work may still be running, and
    /// keeps its worker until it ends.
    pub(crate) async fn run<T, L, W>(
        &self,
        context: &RequestContext,
        work: W,
    ) -> Result<T, ExecutorError>
    where
        T: Send + 'static,
        W: FnOnce(CancelScope) -> (T, L) + Send + 'static,
    {
        let deadline = context.deadline;
        let (worker, place) = self.queue.worker(&context.client, deadline).await.map_err(
            |refused| match refused {
                Refusal::Full => {
                    let (queue, wait) = self.queue.wait_of_refused();
                    ExecutorError::Overloaded {
                        queue,
                        wait: wait.min(self.limit()),
                    }
                }
                Refusal::Late => self.late(),
            },
        )?;
        let (wanted, waiter) = CancelScope::with_guard(deadline);
        let span = tracing::Span::current();
        let cores = self.cores.clone();
        let tracked = self.shutdown.track();
        let (answer, answered) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let _held_until_the_end = (worker, cores.occupy(), tracked);
            let (result, leftover) = {
                // Whoever asks again as soon as the answer is there finds the place free.
                let _held_until_the_answer = place;
                span.in_scope(|| work(wanted))
            };
            // Nobody may be waiting any more.
            let _ = answer.send(result);
            drop(leftover);
        });
        let result = match timeout_at(deadline.into(), answered).await {
            Ok(Ok(result)) => Ok(result),
            // It was dropped without an answer.
            Ok(Err(_)) => Err(ExecutorError::Panicked),
            Err(_) => Err(self.late()),
        };
        waiter.disarm();
        result
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executor(workers: usize, queue: usize, deadline: Duration) -> Executor {
        Executor::new(
            NonZeroUsize::new(workers).unwrap(),
            queue,
            deadline,
            Cores::new(NonZeroUsize::MIN),
            Shutdown::default(),
        )
    }

    fn context(executor: &Executor) -> RequestContext {
        RequestContext {
            client: Client::Unknown,
            deadline: executor.deadline(),
        }
    }

    #[tokio::test]
    async fn work_beyond_workers_and_queue_is_turned_away_at_once() {
        let executor = executor(1, 1, Duration::from_secs(5));
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let running = tokio::spawn({
            let executor = executor.clone();
            async move {
                executor
                    .run(&context(&executor), move |_| (wait.recv().is_ok(), ()))
                    .await
            }
        });
        let queued = tokio::spawn({
            let executor = executor.clone();
            async move { executor.run(&context(&executor), |_| (true, ())).await }
        });
        while executor.load().waiting == 0 {
            tokio::task::yield_now().await;
        }
        let refused = executor.run(&context(&executor), |_| (true, ())).await;
        assert!(
            matches!(refused, Err(ExecutorError::Overloaded { queue: 1, wait }) if wait > Duration::ZERO),
            "{refused:?}"
        );
        release.send(()).unwrap();
        assert_eq!(running.await.unwrap(), Ok(true));
        assert_eq!(queued.await.unwrap(), Ok(true));
    }

    #[tokio::test]
    async fn a_worker_is_free_again_only_when_its_work_really_ends() {
        let executor = executor(1, 8, Duration::from_millis(50));
        let (release, wait) = std::sync::mpsc::channel::<()>();
        assert_eq!(
            executor
                .run(&context(&executor), move |_| (wait.recv().is_ok(), ()))
                .await,
            Err(executor.late())
        );
        assert_eq!(executor.load().busy, 1, "the work still runs");
        release.send(()).unwrap();
        while executor.load().busy == 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(executor.run(&context(&executor), |_| (7, ())).await, Ok(7));
    }

    #[tokio::test]
    async fn whoever_asks_again_at_once_finds_a_place_while_the_worker_clears_up() {
        struct Slow;
        impl Drop for Slow {
            fn drop(&mut self) {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        let executor = executor(1, 0, Duration::from_secs(5));
        for _ in 0..3 {
            assert_eq!(
                executor.run(&context(&executor), |_| (1, Slow)).await,
                Ok(1)
            );
        }
    }

    #[tokio::test]
    async fn a_panic_costs_its_request_and_not_the_worker() {
        let executor = executor(1, 0, Duration::from_secs(5));
        assert_eq!(
            executor
                .run(&context(&executor), |_| -> ((), ()) { panic!("a bug") })
                .await,
            Err::<(), _>(ExecutorError::Panicked)
        );
        assert_eq!(executor.run(&context(&executor), |_| (1, ())).await, Ok(1));
    }

    #[tokio::test]
    async fn work_learns_that_nobody_waits_for_it_any_more() {
        let executor = executor(1, 0, Duration::from_secs(60));
        let (tell, told) = std::sync::mpsc::channel();
        let request = tokio::spawn({
            let executor = executor.clone();
            let work = move |wanted: CancelScope| {
                while !wanted.is_expired() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                (tell.send(wanted.is_cancelled()).is_ok(), ())
            };
            async move { executor.run(&context(&executor), work).await }
        });
        while executor.load().busy == 0 {
            tokio::task::yield_now().await;
        }
        assert!(told.try_recv().is_err(), "somebody waits");
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));
    }
}
