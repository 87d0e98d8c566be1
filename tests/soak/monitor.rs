//! Memory, descriptors and threads of the server under load, and whether they grow.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::stats::Stats;

/// An ended process has no memory, even before its parent waits for it.
const GONE: &str = "cannot read the server's memory; it has ended, or this is not Linux";

/// Resources of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resources {
    /// Resident memory in KiB.
    pub(crate) memory: u64,
    /// Peak of the resident memory in KiB.
    pub(crate) peak: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

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

/// Readings of each third of the time. The first third is the warm-up.
#[derive(Debug)]
pub(crate) struct Thirds([Vec<Resources>; 3]);

impl Thirds {
    pub(crate) fn of(readings: &[Resources]) -> Self {
        let (first, rest) = readings.split_at(readings.len() / 3);
        let (second, last) = rest.split_at(rest.len() / 2);
        Self([first, second, last].map(<[Resources]>::to_vec))
    }

    /// Returns the median of a field in each third.
    pub(crate) fn medians(&self, field: fn(&Resources) -> u64) -> [u64; 3] {
        self.0.each_ref().map(|readings| {
            let mut values: Vec<u64> = readings.iter().map(field).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or_default()
        })
    }

    /// Returns the maximum of a field in each third.
    pub(crate) fn maxima(&self, field: fn(&Resources) -> u64) -> [u64; 3] {
        self.0
            .each_ref()
            .map(|readings| readings.iter().map(field).max().unwrap_or_default())
    }

    /// Names each resource that grew from the second third to the last.
    pub(crate) fn growth(&self) -> Vec<String> {
        let mut growth = Vec::new();
        let [_, before, after] = self.medians(|resources| resources.memory);
        if after * 100 > before * 115 {
            growth.push(format!(
                "memory grew from {} to {} MB (medians of the second and the last third)",
                before / 1024,
                after / 1024
            ));
        }
        let maxima = [
            (
                "file descriptors",
                self.maxima(|resources| resources.descriptors),
            ),
            ("threads", self.maxima(|resources| resources.threads)),
        ];
        for (what, [_, before, after]) in maxima {
            if after > before + 4 {
                growth.push(format!(
                    "{what} grew from {before} to {after} (maxima of the second and the last third)"
                ));
            }
        }
        growth
    }
}
