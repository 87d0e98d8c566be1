//! Comparison with the Python service that this one replaces, on the same models and requests.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::median::median;
use crate::server::Target;
use crate::wrk::{self, Load};
use crate::{Args, frames};

/// Numbers of concurrent callers.
const CONCURRENCY: [usize; 2] = [1, 8];

/// Seconds of load before a row, so that both have allocated their memory and threads.
const WARM_UP: u64 = 1;

/// Measures the services on every frame and prints the table: for each frame and number of callers
/// a row of this service in floats, and one with the 8-bit variant where it is faster.
pub(crate) fn measure(args: &Args) -> Result<()> {
    let peer = Target::peer()?;
    let own = [Target::rostro()?, Target::rostro_auto()?];
    println!(
        "{} rounds of {} s for each service in each row\n",
        args.rounds, args.seconds
    );
    println!(
        "| frame | callers | faces found, named | p50 ms, replaced | p50 ms, rostro | ratio \
         | p95 ms, replaced | p95 ms, rostro | ratio | requests/s, replaced | requests/s, rostro \
         | ratio |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let mut slower = Vec::new();
    for (frame, picture) in frames::usual() {
        let body = wrk::frame_body(&picture)?;
        let (peer_faces, peer_names) = peer.recognize(&picture)?;
        for callers in CONCURRENCY {
            let [float, auto] = &own;
            let [old, loads @ ..] =
                alternate(args, [&peer, float, auto], &picture, &body, callers)?;
            for (target, new) in own.iter().zip(&loads) {
                let (faces, names) = target.recognize(&picture)?;
                let ratios = [old.p50 / new.p50, old.p95 / new.p95, new.rate / old.rate];
                println!(
                    "| {frame}, {} | {callers} | {peer_faces}, {peer_names} and {faces}, {names} \
                     | {:.1} | {:.1} | **{:.2}×** | {:.1} | {:.1} | {:.2}× \
                     | {:.1} | {:.1} | **{:.2}×** |",
                    target.name,
                    old.p50,
                    new.p50,
                    ratios[0],
                    old.p95,
                    new.p95,
                    ratios[1],
                    old.rate,
                    new.rate,
                    ratios[2]
                );
                let is_slower = ratios.iter().any(|&ratio| ratio <= 1.0);
                if is_slower || faces < peer_faces || names < peer_names {
                    slower.push(format!("{frame} with {callers} callers, {}", target.name));
                }
            }
        }
    }
    let memory = [&peer, &own[0], &own[1]].map(|target| match target.memory() {
        Some((_, peak)) => format!("{} {peak} MB", target.name),
        None => format!("{} unknown", target.name),
    });
    println!("\npeak memory: {}", memory.join(", "));
    ensure!(
        slower.is_empty(),
        "not better than the replaced service: {}",
        slower.join("; ")
    );
    Ok(())
}

/// Loads the services alternately. Returns the median of each measurement over the rounds.
fn alternate<const N: usize>(
    args: &Args,
    targets: [&Target; N],
    picture: &Path,
    body: &Path,
    callers: usize,
) -> Result<[Load; N]> {
    let load = |target: &Target, seconds: u64| {
        let load = wrk::load(target, body, callers, seconds);
        // The server still processes requests that wrk abandoned at the end. Waiting for one more
        // keeps them from sharing the cores with the next server.
        target.recognize(picture)?;
        load
    };
    for target in targets {
        load(target, WARM_UP)?;
    }
    let mut loads = [const { Vec::new() }; N];
    for _ in 0..args.rounds {
        for (target, loads) in targets.into_iter().zip(&mut loads) {
            loads.push(load(target, args.seconds)?);
        }
    }
    Ok(loads.map(|loads| median_load(&loads)))
}

fn median_load(loads: &[Load]) -> Load {
    let of = |field: fn(&Load) -> f64| median(loads.iter().map(field));
    Load {
        p50: of(|load| load.p50),
        p95: of(|load| load.p95),
        rate: of(|load| load.rate),
        requests: loads.iter().map(|load| load.requests).sum(),
    }
}
