//! Per-client fair queueing (J. Nagle, "On Packet Switches With Infinite Storage", RFC 970).
//!
//! Each client has a queue of its own, and the queues take turns at the workers. If there is no
//! room left, the longest queue gives up its newest request. A client with too many requests
//! therefore delays its own, and those of others by at most one request per client.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::estimate::{Estimate, WorkerUsage};
use super::{Client, Load};

/// Workers, and the requests that wait for one.
#[derive(Debug)]
pub(super) struct FairQueue {
    workers: usize,
    state: Mutex<QueueState>,
}

#[derive(Debug)]
struct QueueState {
    /// Most requests that may run or wait.
    capacity: usize,
    /// Workers without a request. Nonzero only if no request waits.
    idle: usize,
    /// Start times of the running requests that have no answer yet, oldest first.
    running: Vec<Instant>,
    /// Number of requests in all queues.
    waiting: usize,
    queues: HashMap<Client, VecDeque<QueuedRequest>>,
    /// Clients with a request in their queue, in the order of their turns.
    turns: VecDeque<Client>,
    /// The last ticket given to a queued request.
    last_ticket: u64,
    estimate: Estimate,
}

/// A request in its client's queue. Dropping it refuses the request.
#[derive(Debug)]
struct QueuedRequest {
    ticket: u64,
    sender: oneshot::Sender<(Worker, QueueSlot)>,
}

/// A worker. Dropping it starts the next queued request.
#[derive(Debug)]
pub(super) struct Worker(Arc<FairQueue>);

/// The share of the capacity that a running request has. Dropping it frees it.
#[derive(Debug)]
pub(super) struct QueueSlot {
    queue: Arc<FairQueue>,
    begun: Instant,
}

/// Reason why a request got no worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The queue is full, or the request gave way to a client with a shorter queue.
    QueueFull,
    /// The request's turn did not come before its deadline.
    DeadlinePassed,
}

/// A position in a client's queue. Dropping it leaves the queue.
struct QueuePosition<'q> {
    queue: &'q FairQueue,
    client: &'q Client,
    ticket: u64,
}

/// Result of asking for a worker.
enum Admission {
    Started(Worker, QueueSlot),
    Queued(u64, oneshot::Receiver<(Worker, QueueSlot)>),
}

impl FairQueue {
    /// Returns a queue of this many workers and waiting requests.
    pub(super) fn new(workers: usize, length: usize) -> Self {
        let state = QueueState {
            capacity: workers.saturating_add(length),
            idle: workers,
            running: Vec::new(),
            waiting: 0,
            queues: HashMap::new(),
            turns: VecDeque::new(),
            last_ticket: 0,
            estimate: Estimate::default(),
        };
        Self {
            workers,
            state: Mutex::new(state),
        }
    }

    /// Sets how many requests may wait. Requests that wait already stay.
    pub(super) fn set_capacity(&self, length: usize) {
        self.state().capacity = self.workers.saturating_add(length);
    }

    /// Returns the load at this moment.
    pub(super) fn load(&self) -> Load {
        let state = self.state();
        Load {
            workers: self.workers,
            busy: self.workers - state.idle,
            waiting: state.waiting,
        }
    }

    /// Returns the estimated time that a new request would wait.
    pub(super) fn expected_wait(&self) -> Duration {
        let state = self.state();
        if state.idle > 0 {
            Duration::ZERO
        } else {
            state
                .estimate
                .wait(state.waiting, state.usage(self.workers, Instant::now()))
        }
    }

    /// Returns how many requests may wait, and after which time a request that is refused now
    /// should come back.
    pub(super) fn refuse(&self) -> (usize, Duration) {
        let mut state = self.state();
        let length = state.capacity.saturating_sub(self.workers);
        let waiting = state.waiting;
        let now = Instant::now();
        let usage = state.usage(self.workers, now);
        (length, state.estimate.refuse(waiting, length, usage, now))
    }

    /// Waits for a worker in the client's queue.
    pub(super) async fn worker(
        self: &Arc<Self>,
        client: &Client,
        deadline: Instant,
    ) -> Result<(Worker, QueueSlot), Refusal> {
        let (ticket, receiver) = match self.ask(client)? {
            Admission::Started(worker, slot) => return Ok((worker, slot)),
            Admission::Queued(ticket, receiver) => (ticket, receiver),
        };
        let position = QueuePosition {
            queue: self,
            client,
            ticket,
        };
        let received = timeout_at(deadline.into(), receiver).await;
        drop(position);
        received
            .map_err(|_| Refusal::DeadlinePassed)?
            .map_err(|_| Refusal::QueueFull)
    }

    fn ask(self: &Arc<Self>, client: &Client) -> Result<Admission, Refusal> {
        let mut state = self.state();
        if state.idle > 0 {
            state.idle -= 1;
            let begun = state.begin();
            let (worker, slot) = self.started(begun);
            return Ok(Admission::Started(worker, slot));
        }
        // Dropped after the lock, because dropping it wakes the refused request.
        let _refused = if state.running.len() + state.waiting < state.capacity {
            None
        } else {
            Some(state.make_room_for(client).ok_or(Refusal::QueueFull)?)
        };
        let (sender, receiver) = oneshot::channel();
        let ticket = state.enqueue(client, sender);
        drop(state);
        Ok(Admission::Queued(ticket, receiver))
    }

    /// Starts the next queued request on a worker that is done.
    fn release(self: &Arc<Self>) {
        let mut state = self.state();
        let Some(next) = state.next() else {
            state.idle += 1;
            return;
        };
        let begun = state.begin();
        drop(state);
        // If the request left at this moment, both are dropped and the next one starts.
        let _ = next.sender.send(self.started(begun));
    }

    fn started(self: &Arc<Self>, begun: Instant) -> (Worker, QueueSlot) {
        let slot = QueueSlot {
            queue: Arc::clone(self),
            begun,
        };
        (Worker(Arc::clone(self)), slot)
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    /// Records the start of a request.
    fn begin(&mut self) -> Instant {
        let now = Instant::now();
        self.running.push(now);
        now
    }

    /// Returns the workers' usage. It takes the median of the running times, so that one long
    /// request does not stand for the others.
    fn usage(&self, workers: usize, now: Instant) -> WorkerUsage {
        // The list is in the order of start times: the later half has run for less time.
        let median = self.running.get(self.running.len() / 2);
        WorkerUsage {
            workers,
            running: median.map_or(Duration::ZERO, |begun| {
                now.saturating_duration_since(*begun)
            }),
        }
    }

    fn enqueue(&mut self, client: &Client, sender: oneshot::Sender<(Worker, QueueSlot)>) -> u64 {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let queue = self.queues.entry(client.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(client.clone());
        }
        queue.push_back(QueuedRequest { ticket, sender });
        self.waiting += 1;
        ticket
    }

    /// Removes the newest request of the longest queue, if that queue is longer than the client's
    /// own will be.
    fn make_room_for(&mut self, client: &Client) -> Option<QueuedRequest> {
        let own = self.queues.get(client).map_or(0, VecDeque::len);
        let longest = self
            .queues
            .iter()
            .max_by_key(|(_, queue)| queue.len())
            .filter(|(_, queue)| queue.len() > own + 1);
        let longest = longest.map(|(client, _)| client.clone())?;
        // At least one request is left, so the client keeps its turn.
        let newest = self.queues.get_mut(&longest)?.pop_back()?;
        self.waiting -= 1;
        Some(newest)
    }

    /// Removes the next request, and moves its client to the end of the turns.
    fn next(&mut self) -> Option<QueuedRequest> {
        let client = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&client)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        self.waiting -= usize::from(next.is_some());
        next
    }

    /// Removes a request that no longer waits. Returns none if it was started or refused.
    fn leave(&mut self, client: &Client, ticket: u64) -> Option<QueuedRequest> {
        let queue = self.queues.get_mut(client)?;
        let position = queue.iter().position(|queued| queued.ticket == ticket)?;
        let left = queue.remove(position);
        if queue.is_empty() {
            self.queues.remove(client);
            self.turns.retain(|other| other != client);
        }
        self.waiting -= 1;
        left
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        let own = state.running.iter().position(|begun| *begun == self.begun);
        own.map(|position| state.running.remove(position));
        state.estimate.add(self.begun.elapsed());
    }
}

impl Drop for QueuePosition<'_> {
    fn drop(&mut self) {
        let left = self.queue.state().leave(self.client, self.ticket);
        // After the lock, which the statement above released.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn client(name: &str) -> Client {
        Client::Key(name.into())
    }

    fn load(queue: &FairQueue) -> (usize, usize, usize) {
        let Load {
            workers,
            busy,
            waiting,
        } = queue.load();
        (workers, busy, waiting)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// Queues a request of each client in turn, and returns the order in which they started. An `x`
    /// marks a request that was refused.
    async fn served(length: usize, asks: &[&str]) -> Vec<String> {
        let queue = Arc::new(FairQueue::new(1, length));
        let busy = queue.worker(&client("busy"), soon()).await.unwrap();
        let order: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut tasks = Vec::new();
        for name in asks.iter().map(ToString::to_string) {
            let (queue, order) = (Arc::clone(&queue), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let came = queue.worker(&client(&name), soon()).await;
                order.lock().unwrap().push(if came.is_ok() {
                    name
                } else {
                    format!("x{name}")
                });
            }));
            tokio::task::yield_now().await;
        }
        drop(busy);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(load(&queue), (1, 0, 0));
        assert!(queue.state().running.is_empty());
        Arc::try_unwrap(order).unwrap().into_inner().unwrap()
    }

    #[tokio::test]
    async fn clients_take_turns_in_order() {
        assert_eq!(
            served(8, &["a", "a", "a", "a", "b", "c", "b"]).await,
            ["a", "b", "c", "a", "b", "a", "a"]
        );
    }

    #[tokio::test]
    async fn full_queue_shortens_the_longest() {
        assert_eq!(
            served(3, &["a", "a", "a", "a"]).await,
            ["xa", "a", "a", "a"]
        );
        assert_eq!(
            served(3, &["a", "a", "a", "b"]).await,
            ["xa", "a", "b", "a"]
        );
        assert_eq!(
            served(3, &["a", "a", "a", "b", "b"]).await,
            ["xa", "xb", "a", "b", "a"]
        );
        assert_eq!(
            served(3, &["a", "a", "b", "c"]).await,
            ["xa", "a", "b", "c"]
        );
        assert_eq!(
            served(3, &["a", "b", "c", "d"]).await,
            ["xd", "a", "b", "c"]
        );
    }

    /// The time of a request that still runs counts in the estimate.
    #[tokio::test]
    async fn running_request_lengthens_wait() {
        let queue = Arc::new(FairQueue::new(1, 0));
        drop(queue.worker(&client("a"), soon()).await.unwrap());
        let _busy = queue.worker(&client("a"), soon()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(queue.expected_wait() >= Duration::from_millis(50));
        assert!(queue.refuse().1 >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn leaving_request_leaves_no_trace() {
        let queue = Arc::new(FairQueue::new(1, 2));
        let busy = queue.worker(&client("a"), soon()).await.unwrap();
        let late = Instant::now() + Duration::from_millis(20);
        let (b, c) = (client("b"), client("c"));
        let (first, second) = tokio::join!(queue.worker(&b, late), queue.worker(&c, late));
        assert_eq!(
            (first.unwrap_err(), second.unwrap_err()),
            (Refusal::DeadlinePassed, Refusal::DeadlinePassed)
        );
        let gone = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.worker(&client("d"), soon()).await.map(drop) }
        });
        while queue.load().waiting == 0 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        assert_eq!(load(&queue), (1, 1, 0));
        assert!(queue.state().queues.is_empty() && queue.state().turns.is_empty());
        drop(busy);
        assert_eq!(load(&queue), (1, 0, 0));
    }
}
