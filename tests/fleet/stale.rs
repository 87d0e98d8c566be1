//! Operator who sometimes lets nodes answer without a lease.
//!
//! An answered deletion holds for such answers, too, because no deletion is answered with success
//! while they may be given. So the checker has no exception for them: a deletion or a change of
//! revisions that answers `stale_readers` is an unclear one.

use std::time::Duration;

use fastrand::Rng;

use super::cluster::Cluster;
use super::history::{History, Span};
use crate::harness::holds_within;

/// Longest pause between two decisions, and longest time for which stale reads stay on.
const PAUSE: Duration = Duration::from_secs(2);

/// One decision of this number turns them on.
const RARITY: u32 = 6;

/// For how long a node may answer after its last renewal.
const LIMIT: Duration = Duration::from_secs(3);

/// Longest time for the end to be accepted by the database.
const PATIENCE: Duration = Duration::from_secs(60);

/// Turns stale reads on and off while `goes_on` returns true. Returns the times in which they were
/// on.
pub(super) fn switch(
    cluster: &Cluster,
    history: &History,
    rng: &mut Rng,
    goes_on: impl Fn() -> bool,
) -> Vec<Span> {
    let mut spans = Vec::new();
    while goes_on() {
        std::thread::sleep(PAUSE.mul_f64(rng.f64()));
        if rng.u32(..RARITY) > 0 {
            continue;
        }
        let begin = history.now();
        // A failed command may have had its effect.
        let is_on = cluster.try_stale_reads(LIMIT);
        std::thread::sleep(PAUSE.mul_f64(rng.f64()));
        let is_off = holds_within(PATIENCE, || cluster.end_stale_reads());
        assert!(is_off, "stale reads cannot be turned off");
        let end = history.now();
        if is_on {
            spans.push(Span { begin, end });
        }
    }
    spans
}
