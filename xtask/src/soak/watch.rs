//! What the service holds while it is loaded, and whether that grows.

use std::fs;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use super::tally::Tally;

/// A process that ended has no memory, also while its parent has not asked for its status.
const GONE: &str = "the service is gone, or the system does not tell what it holds";

/// What a process holds at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Memory now, and the most so far, in kibibytes.
    pub(super) memory: u64,
    pub(super) peak: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
}

impl Look {
    /// Looks at a process, where the system tells.
    pub(super) fn at(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).context(GONE)?;
        let number = |name: &str| -> Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .context(GONE)?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?.count() as u64;
        Ok(Self {
            memory: number("VmRSS:")?,
            peak: number("VmHWM:")?,
            descriptors,
            threads: number("Threads:")?,
        })
    }
}

/// Looks until it is time and says each time how it goes. A short soak is looked at more often: a
/// median wants some looks.
pub(super) fn watch(process: u32, tally: &Tally, until: Instant) -> Result<Vec<Look>> {
    let (begun, whole) = (
        Instant::now(),
        until.saturating_duration_since(Instant::now()),
    );
    let pause = Duration::from_secs(5).min(whole / 30);
    // Lines for a file or a pipe, a bar for people.
    let style = ProgressStyle::with_template("   {bar:20} {eta} {msg}")?;
    let bar = std::io::stderr()
        .is_terminal()
        .then(|| ProgressBar::new(whole.as_secs()).with_style(style));
    let (mut looks, mut said) = (Vec::new(), begun);
    while Instant::now() + pause <= until && !tally.is_hopeless() {
        std::thread::sleep(pause);
        let look = Look::at(process)?;
        looks.push(look);
        let (all, turned_away, failed) = tally.sums();
        let line = format!(
            "{all} requests, {turned_away} turned away, {failed} failed; {} MB, {} descriptors, {} threads",
            look.memory / 1024,
            look.descriptors,
            look.threads
        );
        if let Some(bar) = &bar {
            bar.set_position(begun.elapsed().as_secs());
            bar.set_message(line);
        } else if said.elapsed() >= Duration::from_millis(4_900) {
            said = Instant::now();
            eprintln!("   {:5.0} s: {line}", begun.elapsed().as_secs_f64());
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(looks)
}

/// What the looks say: a figure in each third of the time. The first third is the warm-up.
#[derive(Debug)]
pub(super) struct Thirds([Vec<Look>; 3]);

impl Thirds {
    pub(super) fn of(looks: &[Look]) -> Self {
        let (first, rest) = looks.split_at(looks.len() / 3);
        let (second, last) = rest.split_at(rest.len() / 2);
        Self([first, second, last].map(<[Look]>::to_vec))
    }

    /// The median of a figure in each third.
    pub(super) fn medians(&self, figure: fn(&Look) -> u64) -> [u64; 3] {
        self.0.each_ref().map(|looks| {
            let mut figures: Vec<u64> = looks.iter().map(figure).collect();
            figures.sort_unstable();
            figures.get(figures.len() / 2).copied().unwrap_or_default()
        })
    }

    /// The most of a figure in each third.
    pub(super) fn most(&self, figure: fn(&Look) -> u64) -> [u64; 3] {
        self.0
            .each_ref()
            .map(|looks| looks.iter().map(figure).max().unwrap_or_default())
    }

    /// What grew from the second third to the last.
    pub(super) fn grown(&self) -> Vec<String> {
        let mut grown = Vec::new();
        let [_, before, after] = self.medians(|look| look.memory);
        if after * 100 > before * 115 {
            grown.push(format!(
                "memory grew from {} to {} MB (median of the second and of the last third)",
                before / 1024,
                after / 1024
            ));
        }
        let most = [
            ("file descriptors", self.most(|look| look.descriptors)),
            ("threads", self.most(|look| look.threads)),
        ];
        for (what, [_, before, after]) in most {
            if after > before + 4 {
                grown.push(format!("{what} grew from {before} to {after} (most of the second and of the last third)"));
            }
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(memory: [u64; 3], descriptors: [u64; 3], threads: [u64; 3]) -> usize {
        let look = |third: usize| Look {
            memory: memory[third],
            peak: 0,
            descriptors: descriptors[third],
            threads: threads[third],
        };
        Thirds::of(&[0, 0, 1, 1, 2, 2].map(look)).grown().len()
    }

    #[test]
    fn what_grows_after_the_warm_up_is_told() {
        let flat = [20, 30, 34];
        assert_eq!(grown([100, 300, 345], flat, flat), 0);
        assert_eq!(grown([300, 300, 346], flat, flat), 1);
        assert_eq!(grown([300; 3], [20, 30, 35], flat), 1);
        assert_eq!(grown([300; 3], [20, 30, 35], [9, 9, 14]), 2);
    }
}
