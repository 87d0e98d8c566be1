//! Whether the service's memory stays what it is, however many frames it was asked about.

use anyhow::{Context, Result, ensure};

use super::{frames, machine, peer, wrk};
use crate::steps::step;

/// Callers at a time.
const CALLERS: usize = 8;

/// The most that the service may hold, in MB.
const MOST: u64 = 400;

/// Seconds of load between two looks.
const SECONDS: u64 = 30;

/// Asks about large frames until `requests` are answered, and prints what the service holds
/// meanwhile.
///
/// # Errors
///
/// If it holds more than 400 MB at any time, or in the last third of the looks a tenth more than in
/// the first. A look finds it between two answers or amid eight, some 40 MB apart: medians are
/// compared.
pub(super) fn watch(requests: u64) -> Result<()> {
    wrk::install()?;
    let ours = step("rostro, with the students enrolled", peer::ours)?;
    println!(
        "{}\n\n| requests answered | a second | memory MB | peak MB |\n|---|---|---|---|",
        machine::described()
    );
    // The frame with the most work in it first, so that everything has its size.
    let crowd = frames::all().last().context("a frame")?.1;
    wrk::load(&ours, &wrk::frame_body(&crowd)?, CALLERS, SECONDS)?;
    let body = wrk::frame_body(&frames::large())?;
    let (mut done, mut looks) = (0, Vec::new());
    while done < requests {
        let load = wrk::load(&ours, &body, CALLERS, SECONDS)?;
        done += load.requests;
        let (now, peak) = ours
            .memory()
            .context("the system does not tell what a process holds")?;
        println!("| {done} | {:.1} | {now} | {peak} |", load.rate);
        ensure!(
            peak <= MOST,
            "the service held {peak} MB; at most {MOST} are allowed"
        );
        looks.push(now);
    }
    let third = looks.len().div_ceil(3);
    let (first, last) = (
        median(looks.get(..third)),
        median(looks.get(looks.len() - third..)),
    );
    println!("\nmedian of the first third of the looks {first} MB, of the last third {last} MB");
    ensure!(
        last * 10 <= first * 11,
        "the service's memory grew from {first} to {last} MB"
    );
    Ok(())
}

fn median(looks: Option<&[u64]>) -> u64 {
    let mut looks = looks.unwrap_or_default().to_vec();
    looks.sort_unstable();
    looks.get(looks.len() / 2).copied().unwrap_or_default()
}
