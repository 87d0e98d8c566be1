//! Soak test: `cargo xtask soak` loads a server with the requests of clients and operators for a
//! long time. It fails if a request fails, a resource grows, or people are lost. `cargo xtask soak
//! fleet` loads three nodes on one database under faults, or with `--outage` without the database.
//! `cargo xtask soak sessions` loads one with the frames of 48 cameras.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the harness that it shares with the end-to-end tests fails by panicking"
)]

mod audit;
mod bad_input;
mod clients;
mod fleet;
mod growth;
#[path = "../e2e/harness.rs"]
mod harness;
mod load;
mod monitor;
mod people;
#[path = "../e2e/postgres.rs"]
mod postgres;
mod sessions;
mod stats;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Parser, ValueEnum};

use crate::audit::{Audit, audit};
use crate::clients::Clients;
use crate::growth::{Resources, Thirds};
use crate::harness::{Options, Server, holds_within, root};
use crate::load::Load;
use crate::monitor::monitor;
use crate::stats::Counts;

/// Time limit for closing the descriptors of ended connections.
const SETTLE: Duration = Duration::from_secs(20);

/// Load a server and check that it keeps working. `cargo xtask soak` also takes `--profile
/// dev|release` for the build of the server [default: release], and `--no-setup` to build nothing.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask soak")]
struct Args {
    /// What to load
    #[arg(value_enum, default_value_t = Target::Service)]
    target: Target,
    /// Minutes of load
    #[arg(long, value_name = "M", default_value_t = 30.0, value_parser = minutes)]
    minutes: f64,
    /// Connections, each of which sends the next request after an answer
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=256))]
    connections: u16,
    /// Seed of the random mix of requests
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// With `fleet`: takes the database away for S seconds instead, with the default lease
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    outage: Option<u64>,
    /// Flag that cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// One service
    Service,
    /// Three nodes on one PostgreSQL with a standby, under faults
    Fleet,
    /// One service with the frames of 48 sessions; needs photos of people
    Sessions,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().map_err(|error| format!("{error}"))?;
    if (0.25..=1440.0).contains(&minutes) {
        Ok(minutes)
    } else {
        Err("must be 0.25 to 1440".to_owned())
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let folder = root().join("target/soak");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    match (args.target, args.outage) {
        (Target::Service, None) => service(&args, &folder),
        (Target::Service | Target::Sessions, Some(_)) => {
            bail!("cannot take a database away: --outage needs `fleet`")
        }
        (Target::Sessions, None) => sessions::run(&args, &folder),
        (Target::Fleet, Some(seconds)) => fleet::run_outage(&args, seconds, &folder),
        (Target::Fleet, None) => fleet::run(&args, &folder),
    }
}

/// Loads one service.
fn service(args: &Args, folder: &Path) -> Result<()> {
    let [log, second_log] = ["log", "log-after-restart"].map(|name| folder.join(name));
    let mut server = start(args, folder, &log);
    let load = Load::prepare(&Clients::new(&server))?;
    let before = Resources::of(server.pid())?;
    eprintln!(
        "── {} minutes of load over {} connections, seed {}",
        args.minutes, args.connections, args.seed
    );
    let readings = under_load(args, &server, &load)?;
    let mut errors = Thirds::of(&readings).growth();
    errors.extend(leaked_descriptors(&server, &before)?);
    eprintln!("── audit of all people, before and after a restart");
    let live = audit(&Clients::new(&server), &load)?;
    let status = server.terminate();
    ensure!(status == Some(0), "the server ended with status {status:?}");
    let restarted = start(args, folder, &second_log);
    let audits = [
        ("at the end", live),
        ("after a restart", audit(&Clients::new(&restarted), &load)?),
    ];

    let counts = load.stats.counts();
    print(&counts, &before, &readings, &audits);
    if let Some(first) = counts.failures.first() {
        errors.push(format!("{} failures, first: {first}", counts.failed));
    }
    for (when, audit) in &audits {
        let first = audit.errors.first();
        errors.extend(first.map(|first| {
            format!(
                "{} people differ {when}, first: {first}",
                audit.errors.len()
            )
        }));
    }
    errors.extend(logged_errors(&log)?);
    let list = errors.join("\n- ");
    ensure!(
        errors.is_empty(),
        "the soak failed; see {}:\n- {list}",
        log.display()
    );
    eprintln!("── the soak passed");
    Ok(())
}

fn start(args: &Args, folder: &Path, log: &Path) -> Server {
    // Fewer places than connections, so that the server also has to reject requests.
    let queue = (args.connections * 3 / 4).to_string();
    let options = Options::drawn().arg("--queue", queue).log(log);
    options
        .gallery(&folder.join("gallery"))
        .state(&folder.join("state"))
        .start()
}

/// Loads the server and returns readings of its resources.
fn under_load(args: &Args, server: &Server, load: &Load) -> Result<Vec<Resources>> {
    let until = Instant::now() + Duration::from_secs_f64(args.minutes * 60.0);
    let mut seeds = fastrand::Rng::with_seed(args.seed);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.connections)
            .map(|_| {
                let mut rng = seeds.fork();
                scope.spawn(move || load.send(&Clients::new(server), &mut rng, until))
            })
            .collect();
        let readings = monitor(server.pid(), &load.stats, until);
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow!("a thread of the load panicked"))??;
        }
        readings
    })
}

/// Returns an error if descriptors stay open after the connections of the load have ended.
fn leaked_descriptors(server: &Server, before: &Resources) -> Result<Option<String>> {
    let mut after = Resources::of(server.pid())?;
    // Some are opened at the first use and stay open.
    let is_settled = holds_within(SETTLE, || {
        after = Resources::of(server.pid()).unwrap();
        after.descriptors <= before.descriptors + 4
    });
    Ok((!is_settled).then(|| {
        let [before, after] = [before, &after].map(|resources| resources.descriptors);
        format!("{after} descriptors are open after the load, {before} were before")
    }))
}

/// Returns an error if the log has errors of the server. Rejections are logged as errors too, but
/// are expected.
fn logged_errors(log: &Path) -> Result<Option<String>> {
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let is_error = |line: &&str| {
        line.contains("panicked") || line.contains(" ERROR ") && !line.contains(" status=503 ")
    };
    let errors: Vec<&str> = text.lines().filter(is_error).collect();
    let count = errors.len();
    Ok(errors
        .first()
        .map(|first| format!("{count} errors in the log, first: {first}")))
}

fn print(counts: &Counts, before: &Resources, readings: &[Resources], audits: &[(&str, Audit)]) {
    println!("\n| requests | outcome | count |\n|---|---|---|");
    for ((kind, outcome), count) in &counts.requests {
        println!("| {kind} | {outcome} | {count} |");
    }
    let (requests, rejected) = counts.totals();
    println!("| all | | {requests} |\n| all | rejected (503) | {rejected} |");
    println!("| all | failures | {} |", counts.failed);
    let [p50, p99] = [50, 99].map(|percent| counts.percentile(percent).as_secs_f64() * 1e3);
    println!("\nframes: p50 {p50:.0} ms, p99 {p99:.0} ms\n");
    println!(
        "| resource | before | first third | second third | last third |\n|---|---|---|---|---|"
    );
    let thirds = Thirds::of(readings);
    let row = |what: &str, before: u64, [first, second, last]: [u64; 3]| {
        println!("| {what} | {before} | {first} | {second} | {last} |");
    };
    let memory = thirds
        .medians(|resources| resources.memory)
        .map(|memory| memory / 1024);
    row("memory, median, MB", before.memory / 1024, memory);
    let descriptors = thirds.maxima(|resources| resources.descriptors);
    row("file descriptors, maximum", before.descriptors, descriptors);
    row(
        "threads, maximum",
        before.threads,
        thirds.maxima(|resources| resources.threads),
    );
    let peak = readings
        .iter()
        .map(|resources| resources.peak)
        .max()
        .unwrap_or_default();
    println!(
        "\npeak memory {} MB, {} readings",
        peak / 1024,
        readings.len()
    );
    for (when, audit) in audits {
        let (found, expected) = (audit.found, audit.expected);
        println!(
            "people {when}: {found} of {expected} expected, {} errors",
            audit.errors.len()
        );
    }
}
