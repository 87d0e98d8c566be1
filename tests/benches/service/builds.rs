//! Comparison of this build with another build of the program, on the same requests.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::server::Target;
use crate::{Args, frames, wrk};

/// Fewest pairs: from 20 on the interval leaves out the five most extreme ratios on each side.
const MIN_PAIRS: u32 = 20;

/// Largest ratio that the interval of the median may reach.
const LIMIT: f64 = 1.05;

/// Seconds of load on each build in a pair.
const SECONDS: u64 = 1;

/// Seconds of load before the first pair, so that all have allocated their memory and threads.
const WARM_UP: u64 = 2;

/// Measures this build against `--other`, and against itself, and prints the ratio of the medians
/// of the request times with its 95 % interval.
///
/// The two builds work alternately, in the order ABBA, so that a drift of the machine affects both.
///
/// # Errors
///
/// If an interval contains no 1.00 and ends above 1.05.
pub(crate) fn measure(args: &Args) -> Result<()> {
    let other = args
        .other
        .as_deref()
        .context("--other PROGRAM is missing")?;
    ensure!(
        args.rounds >= MIN_PAIRS,
        "--rounds must be at least {MIN_PAIRS}"
    );
    let pairs = args.rounds.max(MIN_PAIRS);
    let own = Target::build("this build", None)?;
    let twin = Target::build("this build again", None)?;
    let other = Target::build("the other build", Some(other))?;
    println!(
        "{pairs} pairs of {SECONDS} s, one caller\n\n| frame | p50 ms | this ÷ other | this ÷ itself |\n\
         |---|---|---|---|"
    );
    let mut slower = Vec::new();
    for (frame, picture) in frames::usual() {
        let body = wrk::frame_body(&picture)?;
        for target in [&own, &twin, &other] {
            wrk::load(target, &body, 1, WARM_UP)?;
        }
        let (mut to_other, mut to_itself) = (Vec::new(), Vec::new());
        let mut times = Vec::new();
        for pair in 0..pairs {
            let (own_time, other_time) = pair_of_times(&own, &other, &body, pair)?;
            to_other.push(own_time / other_time);
            times.push(own_time);
            let (own_time, twin_time) = pair_of_times(&own, &twin, &body, pair)?;
            to_itself.push(own_time / twin_time);
        }
        let interval = Interval::of(to_other);
        println!(
            "| {frame} | {:.2} | {interval} | {} |",
            Interval::of(times).median,
            Interval::of(to_itself)
        );
        if interval.low > 1.0 && interval.high > LIMIT {
            slower.push(frame);
        }
    }
    ensure!(
        slower.is_empty(),
        "slower than the other build: {}",
        slower.join("; ")
    );
    Ok(())
}

/// Returns the median request times of two targets, in an order that alternates between pairs.
fn pair_of_times(first: &Target, second: &Target, body: &Path, pair: u32) -> Result<(f64, f64)> {
    let time = |target| Ok::<f64, anyhow::Error>(wrk::load(target, body, 1, SECONDS)?.p50);
    if pair.is_multiple_of(2) {
        let first = time(first)?;
        Ok((first, time(second)?))
    } else {
        let second = time(second)?;
        Ok((time(first)?, second))
    }
}

/// Median of a sample with its 95 % interval by order statistics, which assumes no distribution.
struct Interval {
    median: f64,
    low: f64,
    high: f64,
}

impl Interval {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        // The number of values below the median is binomial. At most 2.5 % lie beyond each end.
        let (mut tail, mut term, mut rank) = (0.0, 0.5_f64.powi(count as i32), 0);
        while tail + term <= 0.025 && rank < count / 2 {
            tail += term;
            term *= (count - rank) as f64 / (rank + 1) as f64;
            rank += 1;
        }
        let rank = rank.saturating_sub(1);
        Self {
            median: f64::midpoint(values[(count - 1) / 2], values[count / 2]),
            low: values[rank],
            high: values[count - 1 - rank],
        }
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.median, self.low, self.high)
    }
}
