//! Comparison of this build with another build of the program, on the same requests.

use anyhow::{Context, Result, ensure};

use crate::server::Target;
use crate::{Args, frames, wrk};

/// Fewest rounds: from 20 on the interval leaves out the five most extreme ratios on each side.
const MIN_ROUNDS: u32 = 20;

/// Largest ratio that the interval of the median may reach.
const LIMIT: f64 = 1.05;

/// Seconds of load on each process, for each frame.
const SECONDS: u64 = 1;

/// Seconds of load before those, so that the process has allocated its memory.
const WARM_UP: u64 = 1;

/// Measures this build against `--other`, and against itself, and prints the ratio of the medians
/// of the request times with its 95 % interval.
///
/// Each round starts all processes anew, because two processes of one build can differ by several
/// percent for as long as they run. Rounds go through all orders of the three (ABBA), so that a
/// drift of the machine affects all.
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
        args.rounds >= MIN_ROUNDS,
        "--rounds must be at least {MIN_ROUNDS}"
    );
    let frames: Vec<_> = frames::usual()
        .into_iter()
        .map(|(name, picture)| Ok((name, wrk::frame_body(&picture)?)))
        .collect::<Result<_>>()?;
    let mut ratios: Vec<_> = frames.iter().map(|_| Ratios::default()).collect();
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        let targets = [
            Target::build("this build", None)?,
            Target::build("the other build", Some(other))?,
            Target::build("this build again", None)?,
        ];
        for ((_, body), ratios) in frames.iter().zip(&mut ratios) {
            let mut order = [0, 1, 2];
            order.rotate_left(round as usize % 3);
            if !round.is_multiple_of(2) {
                order.reverse();
            }
            let mut times = [0.0; 3];
            for index in order {
                wrk::load(&targets[index], body, 1, WARM_UP)?;
                times[index] = wrk::load(&targets[index], body, 1, SECONDS)?.p50;
            }
            ratios.add(times);
        }
    }
    println!(
        "{} rounds, one caller\n\n| frame | p50 ms | this ÷ other | this ÷ itself |\n|---|---|---|---|",
        args.rounds
    );
    let mut slower = Vec::new();
    for ((frame, _), ratios) in frames.iter().zip(ratios) {
        let interval = Interval::of(ratios.to_other);
        println!(
            "| {frame} | {:.2} | {interval} | {} |",
            Interval::of(ratios.times).median,
            Interval::of(ratios.to_itself)
        );
        if interval.low > 1.0 && interval.high > LIMIT {
            slower.push(*frame);
        }
    }
    ensure!(
        slower.is_empty(),
        "slower than the other build: {}",
        slower.join("; ")
    );
    Ok(())
}

/// Request times of this build for one frame, and their ratios, by round.
#[derive(Default)]
struct Ratios {
    times: Vec<f64>,
    to_other: Vec<f64>,
    to_itself: Vec<f64>,
}

impl Ratios {
    fn add(&mut self, [own, other, twin]: [f64; 3]) {
        self.times.push(own);
        self.to_other.push(own / other);
        self.to_itself.push(own / twin);
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
