//! Whose turn it is at a worker.
//!
//! Fair queueing as J. Nagle has it ("On Packet Switches With Infinite Storage", RFC 970): each
//! client has a line of its own, and the lines take turns. Where there is no place left, it is the
//! longest line that gives one up. So a client that asks for more than there is makes itself wait,
//! and nobody else for longer than one request of each client before them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::Client;
use super::estimate::{Estimate, WorkerUsage};

/// Workers, and those who wait for one.
#[derive(Debug)]
pub(super) struct FairQueue {
    workers: usize,
    state: Mutex<QueueState>,
}

#[derive(Debug)]
struct QueueState {
    /// Requests that may be worked on or wait.
    places: usize,
    /// Workers that have nothing to do: only if nobody waits.
    idle: usize,
    /// When requests began that are worked on and not answered yet.
    unanswered: Vec<Instant>,
    /// Those who wait, in all lines.
    waiting: usize,
    lines: HashMap<Client, VecDeque<QueuedRequest>>,
    /// The clients that have somebody in line, whose turn it is first.
    turns: VecDeque<Client>,
    /// Tells those who wait apart.
    tickets: u64,
    estimate: Estimate,
}

/// Somebody in line, who is called by a worker, or sent away by dropping this.
#[derive(Debug)]
struct QueuedRequest {
    ticket: u64,
    call: oneshot::Sender<(Worker, QueueSlot)>,
}

/// A worker; when this is dropped it takes who is next.
#[derive(Debug)]
pub(super) struct Worker(Arc<FairQueue>);

/// The place of a request that is worked on, free again when this is dropped.
#[derive(Debug)]
pub(super) struct QueueSlot {
    queue: Arc<FairQueue>,
    begun: Instant,
}

/// Why no worker came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no place to wait in, or it was given to somebody whose line is shorter.
    Full,
    /// It was not the request's turn in time.
    Late,
}

/// A place in line that is given up when this is dropped.
struct QueuePosition<'q> {
    queue: &'q FairQueue,
    client: &'q Client,
    ticket: u64,
}

impl FairQueue {
    /// So many workers, and room for so many who wait.
    pub(super) fn new(workers: usize, length: usize) -> Self {
        let places = workers.saturating_add(length);
        let state = QueueState {
            places,
            idle: workers,
            unanswered: Vec::new(),
            waiting: 0,
            lines: HashMap::new(),
            turns: VecDeque::new(),
            tickets: 0,
            estimate: Estimate::default(),
        };
        Self {
            workers,
            state: Mutex::new(state),
        }
    }

    /// Gives it room for so many who wait. Those who do stay.
    pub(super) fn set_length(&self, length: usize) {
        self.state().places = self.workers.saturating_add(length);
    }

    /// How many workers there are, how many have something to do, and how many requests wait for
    /// one.
    pub(super) fn load(&self) -> (usize, usize, usize) {
        let state = self.state();
        (self.workers, self.workers - state.idle, state.waiting)
    }

    /// How long a request that came now would wait, as far as can be told.
    pub(super) fn expected_wait(&self) -> Duration {
        let state = self.state();
        if state.idle > 0 {
            Duration::ZERO
        } else {
            state
                .estimate
                .line(state.waiting, state.load(self.workers, Instant::now()))
        }
    }

    /// How many may wait, and when one that was refused now should come back.
    pub(super) fn wait_of_refused(&self) -> (usize, Duration) {
        let mut state = self.state();
        let length = state.places.saturating_sub(self.workers);
        let waiting = state.waiting;
        let now = Instant::now();
        let load = state.load(self.workers, now);
        (length, state.estimate.refused(waiting, length, load, now))
    }

    /// Waits for a worker, in the client's line.
    pub(super) async fn worker(
        self: &Arc<Self>,
        client: &Client,
        deadline: Instant,
    ) -> Result<(Worker, QueueSlot), Refusal> {
        let (ticket, called) = match self.ask(client)? {
            Admission::Here(worker, place) => return Ok((worker, place)),
            Admission::Wait(ticket, called) => (ticket, called),
        };
        let in_line = QueuePosition {
            queue: self,
            client,
            ticket,
        };
        let called = timeout_at(deadline.into(), called).await;
        drop(in_line);
        called
            .map_err(|_| Refusal::Late)?
            .map_err(|_| Refusal::Full)
    }

    fn ask(self: &Arc<Self>, client: &Client) -> Result<Admission, Refusal> {
        let mut state = self.state();
        if state.idle > 0 {
            state.idle -= 1;
            let begun = state.begin();
            return Ok(Admission::Here(
                Worker(Arc::clone(self)),
                QueueSlot {
                    queue: Arc::clone(self),
                    begun,
                },
            ));
        }
        // Dropped, and so told, when the queue is free to be looked at again.
        let _sent_away = match state.unanswered.len() + state.waiting < state.places {
            true => None,
            false => Some(state.make_room_for(client).ok_or(Refusal::Full)?),
        };
        let (call, called) = oneshot::channel();
        let ticket = state.enqueue(client, call);
        drop(state);
        Ok(Admission::Wait(ticket, called))
    }

    /// Has a worker that is done take who is next.
    fn release(self: &Arc<Self>) {
        let mut state = self.state();
        let Some(next) = state.next() else {
            state.idle += 1;
            return;
        };
        let begun = state.begin();
        drop(state);
        // Whoever left at this moment leaves it to the next: both are dropped then.
        let _ = next.call.send((
            Worker(Arc::clone(self)),
            QueueSlot {
                queue: Arc::clone(self),
                begun,
            },
        ));
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What whoever asks for a worker gets.
enum Admission {
    Here(Worker, QueueSlot),
    Wait(u64, oneshot::Receiver<(Worker, QueueSlot)>),
}

impl QueueState {
    /// Records that a request is worked on from now on.
    fn begin(&mut self) -> Instant {
        let now = Instant::now();
        self.unanswered.push(now);
        now
    }

    /// Returns what the workers do. Of their times the median counts, so that one long request says
    /// nothing of the others.
    fn load(&self, workers: usize, now: Instant) -> WorkerUsage {
        // They began in this order: the later half is the shorter one.
        let median = self.unanswered.get(self.unanswered.len() / 2);
        WorkerUsage {
            workers,
            running: median.map_or(Duration::ZERO, |begun| {
                now.saturating_duration_since(*begun)
            }),
        }
    }

    fn enqueue(&mut self, client: &Client, call: oneshot::Sender<(Worker, QueueSlot)>) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        let line = self.lines.entry(client.clone()).or_default();
        if line.is_empty() {
            self.turns.push_back(client.clone());
        }
        line.push_back(QueuedRequest { ticket, call });
        self.waiting += 1;
        ticket
    }

    /// Takes the newest out of the longest line, if that is longer than the client's own will be.
    fn make_room_for(&mut self, client: &Client) -> Option<QueuedRequest> {
        let own = self.lines.get(client).map_or(0, VecDeque::len);
        let longest = self
            .lines
            .iter()
            .max_by_key(|(_, line)| line.len())
            .filter(|(_, line)| line.len() > own + 1);
        let longest = longest.map(|(client, _)| client.clone())?;
        // Never its last: the line keeps its turn.
        let newest = self.lines.get_mut(&longest)?.pop_back()?;
        self.waiting -= 1;
        Some(newest)
    }

    /// Takes out whose turn it is; the next turn is another client's.
    fn next(&mut self) -> Option<QueuedRequest> {
        let client = self.turns.pop_front()?;
        let line = self.lines.get_mut(&client)?;
        let next = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        self.waiting -= usize::from(next.is_some());
        next
    }

    /// Takes out somebody who does not wait any more; nobody if they were called or sent away.
    fn leave(&mut self, client: &Client, ticket: u64) -> Option<QueuedRequest> {
        let line = self.lines.get_mut(client)?;
        let place = line.iter().position(|waiting| waiting.ticket == ticket)?;
        let left = line.remove(place);
        if line.is_empty() {
            self.lines.remove(client);
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
        let own = state
            .unanswered
            .iter()
            .position(|begun| *begun == self.begun);
        own.map(|place| state.unanswered.remove(place));
        state.estimate.add(self.begun.elapsed());
    }
}

impl Drop for QueuePosition<'_> {
    fn drop(&mut self) {
        let left = self.queue.state().leave(self.client, self.ticket);
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

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// Asks for each of these clients in turn, and answers in which order they came to a worker; an
    /// `x` is for one that was sent away.
    async fn served(length: usize, asks: &[&str]) -> Vec<String> {
        let queue = Arc::new(FairQueue::new(1, length));
        let busy = queue.worker(&client("nobody"), soon()).await.unwrap();
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
        assert_eq!(queue.load(), (1, 0, 0));
        assert!(queue.state().unanswered.is_empty());
        Arc::try_unwrap(order).unwrap().into_inner().unwrap()
    }

    #[tokio::test]
    async fn clients_take_turns_and_each_keeps_its_order() {
        assert_eq!(
            served(8, &["a", "a", "a", "a", "b", "c", "b"]).await,
            ["a", "b", "c", "a", "b", "a", "a"]
        );
    }

    #[tokio::test]
    async fn where_there_is_no_place_the_longest_line_gives_one_up() {
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

    /// A request that is still worked on shows how long such requests take.
    #[tokio::test]
    async fn running_requests_lengthen_the_wait() {
        let queue = Arc::new(FairQueue::new(1, 0));
        drop(queue.worker(&client("a"), soon()).await.unwrap());
        let _busy = queue.worker(&client("a"), soon()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(queue.expected_wait() >= Duration::from_millis(50));
        assert!(queue.wait_of_refused().1 >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn who_leaves_the_line_leaves_no_trace_in_it() {
        let queue = Arc::new(FairQueue::new(1, 2));
        let busy = queue.worker(&client("a"), soon()).await.unwrap();
        let late = Instant::now() + Duration::from_millis(20);
        let (b, c) = (client("b"), client("c"));
        let (first, second) = tokio::join!(queue.worker(&b, late), queue.worker(&c, late));
        assert_eq!(
            (first.unwrap_err(), second.unwrap_err()),
            (Refusal::Late, Refusal::Late)
        );
        let gone = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.worker(&client("d"), soon()).await.map(drop) }
        });
        while queue.load().2 == 0 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        assert_eq!(queue.load(), (1, 1, 0));
        assert!(queue.state().lines.is_empty() && queue.state().turns.is_empty());
        drop(busy);
        assert_eq!(queue.load(), (1, 0, 0));
    }
}
