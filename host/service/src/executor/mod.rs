//! Admission, worker threads and deadlines of requests.
//!
//! Guests run on blocking threads, as many at a time as there are workers. A request waits for a
//! worker in a bounded queue that is fair to clients; a request beyond it is refused at once. A
//! worker is free again when its work really ends, not when its client stops waiting, because a
//! running inference cannot be interrupted. Guests of an abandoned request are stopped.

mod client;
mod estimate;
mod fair_queue;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout_at;

use rostro_common::cores::Cores;
use rostro_common::shutdown::Shutdown;

use fair_queue::{FairQueue, QueueSlot, Refusal};

pub use self::client::Client;
pub use rostro_common::cancel::CancelScope;

/// Runs blocking work within bounds.
#[derive(Clone, Debug)]
pub struct Executor {
    queue: Arc<FairQueue>,
    /// The permit for work that no request waits for: one at a time.
    background_permit: Arc<Semaphore>,
    /// Time limit of a request, in nanoseconds.
    deadline: Arc<AtomicU64>,
    cores: Cores,
    shutdown: Shutdown,
}

/// The client of a request, and the request's deadline.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The client that takes part in fair queueing.
    pub client: Client,
    /// The time at which the request must be done.
    pub deadline: Instant,
}

/// Load of an executor at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Number of workers.
    pub workers: usize,
    /// Workers that work on a request.
    pub busy: usize,
    /// Requests that wait for a worker.
    pub waiting: usize,
}

/// Reason why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// Every worker is busy and the queue is full.
    #[error("the service is at capacity: {queue} requests wait")]
    Overloaded {
        /// Capacity of the queue.
        queue: usize,
        /// Estimated time until there is room again.
        wait: Duration,
    },
    /// The deadline passed, in the queue or at work.
    #[error("request exceeded the deadline of {} ms (queued or running)", .limit.as_millis())]
    Deadline {
        /// Time limit of a request.
        limit: Duration,
    },
    /// The work panicked: a bug of the host.
    #[error("the work on the request failed unexpectedly")]
    Panicked,
}

/// The way back to the request that waits for the result of work.
///
/// Work sends its result as early as it can and returns afterwards: its locals, such as the
/// instances of guests, take a millisecond to clear, which no request needs to wait for.
#[derive(Debug)]
pub(crate) struct ReplySender<T, E> {
    /// Released before the result is sent, so that a client that asks again at once finds it free.
    slot: QueueSlot,
    sender: oneshot::Sender<Result<T, E>>,
}

impl<T, E> ReplySender<T, E> {
    /// Releases the queue slot and sends the result.
    pub(crate) fn send(self, result: Result<T, E>) {
        let Self { slot, sender } = self;
        drop(slot);
        // The receiver is gone if the client left.
        let _ = sender.send(result);
    }
}

impl Executor {
    /// Returns an executor of `workers` threads with room for `queue` waiting requests, each with
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

    /// Changes the queue's capacity and the deadline of later requests. Queued requests stay.
    pub fn set_bounds(&self, queue: usize, deadline: Duration) {
        self.queue.set_capacity(queue);
        self.deadline
            .store(nanoseconds(deadline), Ordering::Relaxed);
    }

    fn limit(&self) -> Duration {
        Duration::from_nanos(self.deadline.load(Ordering::Relaxed))
    }

    /// Returns the load at this moment.
    pub fn load(&self) -> Load {
        self.queue.load()
    }

    /// Returns the estimated time that a new request would wait for a worker, at most the deadline,
    /// because a request that waits longer leaves.
    pub(crate) fn expected_wait(&self) -> Duration {
        self.queue.expected_wait().min(self.limit())
    }

    /// Returns the error for a request that exceeded its deadline.
    pub(crate) fn deadline_error(&self) -> ExecutorError {
        ExecutorError::Deadline {
            limit: self.limit(),
        }
    }

    /// Waits until the shutdown begins.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let shutdown = self.shutdown.clone();
        async move { shutdown.begun().await }
    }

    /// Returns the deadline of a request that arrives now.
    #[must_use]
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.limit()
    }

    /// Returns the scope of long work on a request: it ends at the deadline or at shutdown.
    pub(crate) fn scope(&self, deadline: Instant) -> CancelScope {
        self.shutdown.scope(deadline)
    }

    /// Runs `work` in the background if a worker is idle; returns false if it does not. It does not
    /// occupy a worker, so a request that arrives meanwhile does not wait for it. Its scope ends at
    /// the deadline or at shutdown.
    pub(crate) fn try_run_background(
        &self,
        deadline: Instant,
        work: impl FnOnce(CancelScope) + Send + 'static,
    ) -> bool {
        if self.shutdown.has_begun() {
            return false;
        }
        let Ok(permit) = Arc::clone(&self.background_permit).try_acquire_owned() else {
            return false;
        };
        let Load { workers, busy, .. } = self.load();
        if busy == workers {
            return false;
        }
        let cores = self.cores.clone();
        let (scope, tracked) = (self.shutdown.scope(deadline), self.shutdown.track());
        tokio::task::spawn_blocking(move || {
            let _until_the_end = (permit, cores.occupy(), tracked);
            work(scope);
        });
        true
    }

    /// Runs `work` on a worker when it is the client's turn, and returns the result that it sends.
    /// The work's scope ends at the deadline, or when this future is dropped.
    ///
    /// # Errors
    ///
    /// [`ExecutorError`], or the work's own error. After [`ExecutorError::Deadline`] the work may
    /// still be running, and keeps its worker until it ends.
    pub(crate) async fn run<T, E, W>(&self, context: &RequestContext, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ExecutorError> + Send + 'static,
        W: FnOnce(CancelScope, ReplySender<T, E>) + Send + 'static,
    {
        let deadline = context.deadline;
        let (worker, slot) = self
            .queue
            .worker(&context.client, deadline)
            .await
            .map_err(|refusal| self.refusal_error(refusal))?;
        let (scope, guard) = CancelScope::with_guard(deadline);
        let (sender, receiver) = oneshot::channel();
        let reply = ReplySender { slot, sender };
        let span = tracing::Span::current();
        let cores = self.cores.clone();
        let tracked = self.shutdown.track();
        tokio::task::spawn_blocking(move || {
            let _until_the_end = (worker, cores.occupy(), tracked);
            span.in_scope(|| work(scope, reply));
        });
        let Ok(received) = timeout_at(deadline.into(), receiver).await else {
            guard.disarm();
            return Err(self.deadline_error().into());
        };
        guard.disarm();
        match received {
            Ok(result) => result,
            // The sender was dropped without a result.
            Err(_) => Err(ExecutorError::Panicked.into()),
        }
    }

    fn refusal_error(&self, refusal: Refusal) -> ExecutorError {
        match refusal {
            Refusal::QueueFull => {
                let (queue, wait) = self.queue.refuse();
                ExecutorError::Overloaded {
                    queue,
                    wait: wait.min(self.limit()),
                }
            }
            Refusal::DeadlinePassed => self.deadline_error(),
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

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

    /// Runs work that returns a value.
    async fn run<T: Send + 'static>(
        executor: &Executor,
        work: impl FnOnce(CancelScope) -> T + Send + 'static,
    ) -> Result<T, ExecutorError> {
        let context = RequestContext {
            client: Client::Unknown,
            deadline: executor.deadline(),
        };
        executor
            .run(&context, |scope, reply: ReplySender<T, ExecutorError>| {
                reply.send(Ok(work(scope)))
            })
            .await
    }

    #[tokio::test]
    async fn run_beyond_queue_is_refused() {
        let executor = executor(1, 1, Duration::from_secs(5));
        let (release, wait) = mpsc::channel::<()>();
        let running = tokio::spawn({
            let executor = executor.clone();
            async move { run(&executor, move |_| wait.recv().is_ok()).await }
        });
        let queued = tokio::spawn({
            let executor = executor.clone();
            async move { run(&executor, |_| true).await }
        });
        while executor.load().waiting == 0 {
            tokio::task::yield_now().await;
        }
        let refused = run(&executor, |_| true).await;
        assert!(
            matches!(refused, Err(ExecutorError::Overloaded { queue: 1, wait }) if wait > Duration::ZERO),
            "{refused:?}"
        );
        release.send(()).unwrap();
        assert_eq!(running.await.unwrap(), Ok(true));
        assert_eq!(queued.await.unwrap(), Ok(true));
    }

    /// A worker is busy until its work ends, also after the deadline.
    #[tokio::test]
    async fn late_work_keeps_its_worker() {
        let executor = executor(1, 8, Duration::from_millis(50));
        let (release, wait) = mpsc::channel::<()>();
        assert_eq!(
            run(&executor, move |_| wait.recv().is_ok()).await,
            Err(executor.deadline_error())
        );
        assert_eq!(executor.load().busy, 1, "the work still runs");
        release.send(()).unwrap();
        while executor.load().busy == 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(run(&executor, |_| 7).await, Ok(7));
    }

    /// A client that asks again at once is not refused while the worker drops the work's locals.
    #[tokio::test]
    async fn sent_reply_frees_the_slot() {
        struct Slow;
        impl Drop for Slow {
            fn drop(&mut self) {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        let executor = executor(1, 0, Duration::from_secs(5));
        let context = || RequestContext {
            client: Client::Unknown,
            deadline: executor.deadline(),
        };
        for _ in 0..3 {
            let work = |_, reply: ReplySender<i32, ExecutorError>| {
                let _instances = Slow;
                reply.send(Ok(1));
            };
            assert_eq!(executor.run(&context(), work).await, Ok(1));
        }
    }

    #[tokio::test]
    async fn panic_fails_only_its_request() {
        let executor = executor(1, 0, Duration::from_secs(5));
        let panicked: Result<(), _> = run(&executor, |_| panic!("a bug")).await;
        assert_eq!(panicked, Err(ExecutorError::Panicked));
        assert_eq!(run(&executor, |_| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn dropped_request_cancels_its_work() {
        let executor = executor(1, 0, Duration::from_secs(60));
        let (sender, receiver) = mpsc::channel();
        let request = tokio::spawn({
            let executor = executor.clone();
            let work = move |scope: CancelScope| {
                while !scope.is_expired() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                sender.send(scope.is_cancelled()).is_ok()
            };
            async move { run(&executor, work).await }
        });
        while executor.load().busy == 0 {
            tokio::task::yield_now().await;
        }
        assert!(receiver.try_recv().is_err(), "the request still waits");
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(true));
    }
}
