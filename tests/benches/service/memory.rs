//! Memory of the service over many large frames.

use anyhow::{Context, Result, ensure};

use crate::harness::shared;
use crate::median::median;
use crate::server::Target;
use crate::{frames, wrk};

/// Concurrent callers.
const CALLERS: usize = 8;

/// Limit of the service's memory in MB.
const LIMIT: u64 = 400;

/// Seconds of load between two readings.
const SECONDS: u64 = 30;

/// Large frame with few faces, which is quick to process.
const LARGE: &str = "faces/classrooms/classroom_005_faces.jpg";

/// Sends large frames until `requests` are answered and prints the memory.
///
/// # Errors
///
/// If the service ever exceeds 400 MB, or if the median of the last third of the readings exceeds
/// that of the first by a tenth. Medians are compared because eight requests in progress need some
/// 40 MB more than none.
pub(crate) fn measure(requests: u64) -> Result<()> {
    let target = Target::rostro()?;
    println!("| requests answered | a second | memory MB | peak MB |\n|---|---|---|---|");
    // The frame with the most work comes first, so that all buffers have their final size.
    let (_, crowd) = frames::crowd();
    wrk::load(&target, &wrk::frame_body(&crowd)?, CALLERS, SECONDS)?;
    let body = wrk::frame_body(&shared(LARGE))?;
    let (mut answered, mut readings) = (0, Vec::new());
    while answered < requests {
        let load = wrk::load(&target, &body, CALLERS, SECONDS)?;
        answered += load.requests;
        let (now, peak) = target
            .memory()
            .context("cannot read the memory of a process")?;
        println!("| {answered} | {:.1} | {now} | {peak} |", load.rate);
        ensure!(
            peak <= LIMIT,
            "the service had {peak} MB; the limit is {LIMIT} MB"
        );
        readings.push(now);
    }
    let third = readings.len().div_ceil(3);
    let first = median(readings[..third].iter().copied());
    let last = median(readings[readings.len() - third..].iter().copied());
    println!("\nmedian of the first third of the readings {first} MB, of the last {last} MB");
    ensure!(
        last * 10 <= first * 11,
        "memory grew from {first} to {last} MB"
    );
    Ok(())
}
