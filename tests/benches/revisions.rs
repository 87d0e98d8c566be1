//! Cost of deployments, and their effect on concurrent requests: `cargo xtask bench revisions`.
//!
//! Times starts and stagings, first with nothing compiled and then with everything compiled. Then
//! two pipelines with different answers alternate under load, a hundred times. Each time the next
//! one is staged anew and activated, and the previous one is dropped.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark fails by panicking"
)]
#![allow(dead_code, reason = "hammer and operator have more than is used here")]

#[path = "../e2e/hammer.rs"]
mod hammer;
#[path = "../e2e/harness.rs"]
mod harness;
#[path = "common/machine.rs"]
mod machine;
#[path = "common/median.rs"]
mod median;
#[path = "../e2e/operator.rs"]
mod operator;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::hammer::{Activation, Hammer, Shot, p99};
use crate::harness::{Options, Server, component, shared};
use crate::median::median;
use crate::operator::bytes;

/// Options of the measurement.
#[derive(Debug, Parser)]
struct Args {
    /// Number of swaps of the pipelines
    #[arg(long, default_value_t = 100)]
    swaps: usize,
    /// Connections that send requests during the swaps
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Starts and stagings of each kind
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Flag that `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    println!("{}\n", machine::description());
    starts(args.rounds);
    hammered(&args);
}

fn photo(name: &str) -> Vec<u8> {
    bytes(shared(&format!("faces/students/s6/{name}.jpg")))
}

/// Sends a frame and asserts an answer, whether or not the person is enrolled.
fn first_answer(server: &Server) {
    server.recognize(photo("test")).ok();
}

#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
fn starts(rounds: usize) {
    let mut times: HashMap<(&str, &str), Vec<Duration>> = HashMap::new();
    for _ in 0..rounds {
        let compiled = tempfile::tempdir().unwrap();
        for cache in ["cold", "warm"] {
            let begun = Instant::now();
            let server = Options::real().arg("--compiled", compiled.path()).start();
            first_answer(&server);
            times
                .entry(("start to first answer", cache))
                .or_default()
                .push(begun.elapsed());
            let begun = Instant::now();
            let id = server.staged(&bytes(component("variant")), "");
            server.activate(&id);
            times
                .entry(("push to active, idle service", cache))
                .or_default()
                .push(begun.elapsed());
        }
    }
    println!(
        "| seconds, median of {rounds} | nothing compiled before | compiled before |\n|---|---|---|"
    );
    for what in ["start to first answer", "push to active, idle service"] {
        let seconds = |cache| median(times[&(what, cache)].iter().copied()).as_secs_f64();
        println!(
            "| {what} | {:.2} | {:.2} |",
            seconds("cold"),
            seconds("warm")
        );
    }
}

/// Returns the resident memory of the service in MB.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1000
}

#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
fn hammered(args: &Args) {
    let server = Options::real().start();
    server
        .enroll("s6", ["front", "left", "right"].map(photo))
        .ok();
    let components = [bytes(component("insightface")), bytes(component("variant"))];
    let names = HashMap::from([
        (server.active(), "s6"),
        (server.staged(&components[1], ""), "Unknown"),
    ]);
    let frame = photo("test");

    let steady = Hammer::begin(&server.url, &frame, args.connections);
    std::thread::sleep(Duration::from_secs(20));
    let steady = steady.end();
    let hammer = Hammer::begin(&server.url, &frame, args.connections);
    let begun = Instant::now();
    let mut activations: Vec<Activation> = Vec::new();
    let (mut early, mut staging) = (0, Vec::new());
    for swap in 1..=args.swaps {
        let active = server.active();
        let (next, name) = names.iter().find(|(id, _)| **id != active).unwrap();
        // Drops the revision with its instances and memory, and stages it anew.
        server.admin_delete(&format!("/v1/revisions/{next}")).ok();
        while server.state(next) != "retired" {
            std::thread::sleep(Duration::from_millis(10));
        }
        let pushed = Instant::now();
        assert_eq!(
            server.staged(&components[usize::from(*name == "Unknown")], ""),
            *next
        );
        staging.push(pushed.elapsed());
        let asked = Instant::now();
        server.activate(next);
        activations.push(Activation {
            asked,
            answered: Instant::now(),
            revision: next.clone(),
        });
        if swap == 5 {
            early = memory(&server);
        }
    }
    let late = memory(&server);
    let took = begun.elapsed();
    let shots = hammer.end();
    let failed = shots.iter().filter(|shot| shot.status != Some(200)).count();
    let mixed = shots
        .iter()
        .filter(|shot| names.get(&shot.revision).copied() != Some(shot.identity.as_str()))
        .count();
    let stale = shots
        .iter()
        .filter(|shot| is_stale(shot, &activations))
        .count();
    println!(
        "\n{} swaps in {:.0} s under {} connections, each staged anew in {:.1} s (median): {} requests, {failed} failed, {mixed} mixed up, \
         {stale} from a revision before an activation that was answered.",
        args.swaps,
        took.as_secs_f64(),
        args.connections,
        median(staging).as_secs_f64(),
        shots.len()
    );
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    println!(
        "p99 of a request: {:.0} ms in steady state ({} requests), {:.0} ms meanwhile ({:.2}×); median {:.2}×.",
        p99(&steady).as_secs_f64() * 1e3,
        steady.len(),
        p99(&shots).as_secs_f64() * 1e3,
        ratio(p99(&shots), p99(&steady)),
        ratio(
            median(shots.iter().map(|shot| shot.took)),
            median(steady.iter().map(|shot| shot.took))
        )
    );
    println!(
        "Memory: {early} MB after 5 swaps, {late} MB after {} ({:.2}×).",
        args.swaps,
        late as f64 / early as f64
    );
    assert_eq!(
        (failed, mixed, stale),
        (0, 0, 0),
        "no request fails or is mixed up"
    );
    assert!(late * 100 <= early * 115, "what was dropped is not held");
    assert!(
        p99(&shots) <= p99(&steady) * 2,
        "swaps cost requests no more than as much again"
    );
}

/// Returns true if an earlier revision served a request that began after an activation was
/// answered.
fn is_stale(shot: &Shot, activations: &[Activation]) -> bool {
    shot.may_be_served_by(activations)
        .is_some_and(|allowed| !allowed.contains(&shot.revision.as_str()))
}
