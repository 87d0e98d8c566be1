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

/// Asks about large frames until `requests` are answered, and prints what the service holds meanwhile.
///
/// # Errors
///
/// If it holds more than 400 MB at any time, or at the end a tenth more than after the first tenth of the requests.
pub(super) fn watch(requests: u64) -> Result<()> {
    wrk::install()?;
    let ours = step("rostro, with the students enrolled", peer::ours)?;
    println!("{}\n\n| requests answered | a second | memory MB | peak MB |\n|---|---|---|---|", machine::described());
    // The frame with the most work in it first, so that everything has its size.
    let crowd = frames::all().last().context("a frame")?.1;
    wrk::load(&ours, &wrk::frame_body(&crowd)?, CALLERS, SECONDS)?;
    let body = wrk::frame_body(&frames::large())?;
    let (mut done, mut early) = (0, None);
    loop {
        let load = wrk::load(&ours, &body, CALLERS, SECONDS)?;
        done += load.requests;
        let (now, peak) = ours.memory().context("the system does not tell what a process holds")?;
        println!("| {done} | {:.1} | {now} | {peak} |", load.rate);
        ensure!(peak <= MOST, "the service held {peak} MB; at most {MOST} are allowed");
        let first = *early.get_or_insert(now);
        if done * 10 < requests {
            early = Some(now);
        } else if done >= requests {
            ensure!(now * 10 <= first * 11, "the service's memory grew from {first} to {now} MB");
            return Ok(());
        }
    }
}
