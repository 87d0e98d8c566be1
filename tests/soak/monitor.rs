//! Reads the memory, descriptors and threads of the server under load.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::growth::Resources;
use crate::stats::Stats;

/// An ended process has no memory, even before its parent waits for it.
const GONE: &str = "cannot read the server's memory; it has ended, or this is not Linux";

impl Resources {
    /// Reads the resources of a process from `/proc`.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).context(GONE)?;
        let number = |name: &str| -> Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .context(GONE)?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        Ok(Self {
            memory: number("VmRSS:")?,
            peak: number("VmHWM:")?,
            descriptors: fs::read_dir(format!("/proc/{process}/fd"))?.count() as u64,
            threads: number("Threads:")?,
        })
    }
}

/// Reads the resources repeatedly until `until` and prints the progress. A short soak reads them
/// more often, because a median needs some values.
pub(crate) fn monitor(process: u32, stats: &Stats, until: Instant) -> Result<Vec<Resources>> {
    let begun = Instant::now();
    let pause = Duration::from_secs(5).min(until.saturating_duration_since(begun) / 30);
    let (mut readings, mut printed) = (Vec::new(), begun);
    while Instant::now() + pause <= until && !stats.must_stop() {
        std::thread::sleep(pause);
        let now = Resources::of(process)?;
        readings.push(now);
        if printed.elapsed() >= Duration::from_millis(4_900) {
            printed = Instant::now();
            let (requests, rejected, failed) = stats.totals();
            eprintln!(
                "   {:5.0} s: {requests} requests, {rejected} rejected, {failed} failed; {} MB, {} descriptors, {} threads",
                begun.elapsed().as_secs_f64(),
                now.memory / 1024,
                now.descriptors,
                now.threads
            );
        }
    }
    Ok(readings)
}
