//! Faults: a random sequence that depends on a seed alone.

use std::time::Duration;

use fastrand::Rng;

use super::cluster::Cluster;
use super::database::Stop;
use super::proxy::Link;

/// Kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// The connections of a node to the database are cut.
    Cut,
    /// Bytes between a node and the database are slow.
    Delay,
    /// Bytes between a node and the database are held.
    Stall,
    /// Bytes of the database to a node are held.
    HoldAnswers,
    /// A node is stopped by SIGSTOP.
    Pause,
    /// A node is killed and started again.
    Kill,
    /// The database is stopped and started again.
    DatabaseRestart,
    /// The database is stopped for good, and its standby is promoted.
    Failover,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Cut,
        Self::Delay,
        Self::Stall,
        Self::HoldAnswers,
        Self::Pause,
        Self::Kill,
        Self::DatabaseRestart,
        Self::Failover,
    ];
}

/// A fault, and the healthy time before it.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    node: usize,
    after: Duration,
    lasts: Duration,
    latency: Duration,
    stop: Stop,
}

/// Endless sequence of faults. Each round has every kind once, in a random order.
#[derive(Debug)]
pub(crate) struct Schedule {
    rng: Rng,
    round: Vec<FaultKind>,
    nodes: usize,
    lease: Duration,
    calm: Duration,
}

impl Schedule {
    pub(crate) fn new(seed: u64, nodes: usize, lease: Duration, calm: Duration) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            round: Vec::new(),
            nodes,
            lease,
            calm,
        }
    }

    /// Returns a random time between two multiples of the lease.
    fn duration(&mut self, from: f64, to: f64) -> Duration {
        self.lease.mul_f64(from + (to - from) * self.rng.f64())
    }
}

impl Iterator for Schedule {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        if self.round.is_empty() {
            self.round = FaultKind::ALL.to_vec();
            self.rng.shuffle(&mut self.round);
        }
        let kind = self.round.pop()?;
        let lasts = match kind {
            FaultKind::Kill | FaultKind::DatabaseRestart => self.duration(0.0, 1.0),
            // Within the lease, or until others answer deletions without the node.
            _ if self.rng.u8(..3) == 0 => self.duration(0.3, 0.9),
            _ => self.duration(1.4, 2.0),
        };
        Some(Fault {
            kind,
            node: self.rng.usize(..self.nodes),
            after: self.calm.mul_f64(self.rng.f64()),
            lasts,
            latency: Duration::from_millis(self.rng.u64(5..200)),
            stop: self.rng.choice([Stop::Orderly, Stop::Crash])?,
        })
    }
}

impl Fault {
    /// Waits for the healthy time, and causes the fault until it is healed.
    pub(crate) fn cause(&self, cluster: &Cluster) {
        let node = &cluster.nodes[self.node];
        let link_for = |link: Link| {
            node.set(link);
            std::thread::sleep(self.lasts);
            node.set(Link::Open);
        };
        std::thread::sleep(self.after);
        match self.kind {
            FaultKind::Cut => link_for(Link::Cut),
            FaultKind::Delay => link_for(Link::Delayed(self.latency)),
            FaultKind::Stall => link_for(Link::Stalled),
            FaultKind::HoldAnswers => link_for(Link::AnswersHeld),
            FaultKind::Pause => {
                node.pause();
                std::thread::sleep(self.lasts);
                node.resume();
            }
            FaultKind::Kill => {
                node.kill();
                std::thread::sleep(self.lasts);
                node.start();
            }
            FaultKind::DatabaseRestart => cluster.restart_database(self.stop, self.lasts),
            FaultKind::Failover => cluster.fail_over(self.stop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(seed: u64) -> Schedule {
        Schedule::new(seed, 3, Duration::from_secs(2), Duration::from_secs(1))
    }

    #[test]
    fn rounds_have_every_kind() {
        let mut schedule = schedule(1);
        for _ in 0..3 {
            let round = schedule.by_ref().take(FaultKind::ALL.len());
            let mut kinds: Vec<_> = round.map(|fault| fault.kind).collect();
            kinds.sort();
            assert_eq!(kinds, FaultKind::ALL);
        }
    }

    #[test]
    fn seed_determines_faults() {
        let faults = |seed| format!("{:?}", schedule(seed).take(50).collect::<Vec<_>>());
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
    }
}
