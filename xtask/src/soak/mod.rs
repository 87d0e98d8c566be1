//! `cargo xtask soak`: a service under all that callers and operators do, at full concurrency for
//! as long as is said, and what became of it.

mod bad;
mod client;
mod load;
mod people;
mod roll;
mod service;
mod tally;
mod watch;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use self::load::{Chance, Load};
use self::roll::Roll;
use self::service::Service;
use self::tally::Counts;
use self::watch::{Look, Thirds};
use crate::guest;
use crate::setup::{self, Profile};
use crate::steps::{root, step};

/// How long descriptors may stay open whose connections ended.
const SETTLE: Duration = Duration::from_secs(20);

/// How long, and how hard.
#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// Minutes of load
    #[arg(long, value_name = "M", default_value_t = 30.0, value_parser = minutes)]
    minutes: f64,
    /// Connections that each send the next request when the last is answered
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=256))]
    connections: u16,
    /// How the host is built
    #[arg(long, default_value = "release", value_parser = PossibleValuesParser::new(["release", "dev"]).map(profile))]
    profile: Profile,
    /// Repeats the mix of requests of another soak
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Build nothing: the program and the component are there already
    #[arg(long)]
    no_setup: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().map_err(|error| format!("{error}"))?;
    if (0.25..=1440.0).contains(&minutes) {
        Ok(minutes)
    } else {
        Err("0.25 to 1440 are possible".to_owned())
    }
}

fn profile(name: String) -> Profile {
    if name == "dev" {
        Profile::Dev
    } else {
        Profile::Release
    }
}

/// Half a minute of it, for the tests; everything is built already.
///
/// # Errors
///
/// If anything was not as it must be.
pub(crate) fn short() -> Result<()> {
    run(&SoakArgs {
        minutes: 0.5,
        connections: 16,
        profile: Profile::Dev,
        seed: 1,
        no_setup: true,
    })
}

/// Sets everything up, loads a service of its own, and prints what became of it.
///
/// # Errors
///
/// If anything was not as it must be; the error names all of it.
pub(crate) fn run(args: &SoakArgs) -> Result<()> {
    if !args.no_setup {
        setup::host(args.profile)?;
        setup::runtime(args.profile)?;
        guest::build()?;
    }
    let folder = root().join("target/soak");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    // Fewer than there are connections, so that some are turned away: how that goes is part of the
    // soak.
    let queue = usize::from(args.connections) * 3 / 4;
    let [log, second_log] = ["log", "log-after-restart"].map(|name| folder.join(name));
    let service = step("a service on the drawn faces", || {
        Service::start(args.profile, &folder, queue, &log)
    })?;
    let load = Load::prepare(&service.client())?;
    let before = Look::at(service.process())?;
    let what = format!(
        "{} minutes of load over {} connections, seed {}",
        args.minutes, args.connections, args.seed
    );
    let looks = step(&what, || under_load(args, &service, &load))?;

    let mut breaches = Thirds::of(&looks).grown();
    breaches.extend(still_open(&service, &before)?);
    let rolls = step(
        "everybody who must be there, before and after a restart",
        || {
            let live = roll::call(&service.client(), &load)?;
            let status = service.end()?;
            ensure!(status.success(), "the service ended with {status}");
            let again = Service::start(args.profile, &folder, queue, &second_log)?;
            Ok([live, roll::call(&again.client(), &load)?])
        },
    )?;
    let counts = load.tally.counts();
    print(&counts, &before, &looks, &rolls);
    if counts.failed > 0 {
        breaches.push(format!(
            "{} failures, first: {}",
            counts.failed,
            counts.failures.first().map_or("", String::as_str)
        ));
    }
    for (roll, when) in rolls.iter().zip(["at the end", "after a restart"]) {
        breaches.extend(roll.wrong.first().map(|first| {
            format!(
                "{} people are wrong {when}, first: {first}",
                roll.wrong.len()
            )
        }));
    }
    breaches.extend(complaints(&log)?);
    ensure!(
        breaches.is_empty(),
        "the soak failed; {} says more:\n- {}",
        log.display(),
        breaches.join("\n- ")
    );
    eprintln!("── the service is as it must be");
    Ok(())
}

/// Loads the service, and gives what it held meanwhile.
fn under_load(args: &SoakArgs, service: &Service, load: &Load) -> Result<Vec<Look>> {
    let until = Instant::now() + Duration::from_secs_f64(args.minutes * 60.0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..u64::from(args.connections))
            .map(|thread| {
                scope.spawn(move || {
                    load.send(
                        &service.client(),
                        &mut Chance::new(args.seed, thread),
                        until,
                    )
                })
            })
            .collect();
        let looks = watch::watch(service.process(), &load.tally, until);
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread of the load panicked"))??;
        }
        looks
    })
}

/// Descriptors that stay open once every connection of the load has ended.
fn still_open(service: &Service, before: &Look) -> Result<Option<String>> {
    let begun = Instant::now();
    loop {
        let now = Look::at(service.process())?.descriptors;
        // What is made when it is first needed stays.
        if now <= before.descriptors + 4 {
            return Ok(None);
        }
        if begun.elapsed() > SETTLE {
            return Ok(Some(format!(
                "{now} descriptors are open after the load, {} were before",
                before.descriptors
            )));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What the service itself says went wrong: it names nothing of the kind when only its callers are
/// at fault.
fn complaints(log: &Path) -> Result<Option<String>> {
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    // Those whom it turned away stand there, too.
    let is_complaint = |line: &&str| {
        line.contains("panicked") || line.contains(" ERROR ") && !line.contains(" status=503 ")
    };
    let complaints: Vec<&str> = text.lines().filter(is_complaint).collect();
    Ok(complaints
        .first()
        .map(|first| format!("{} errors in the log, first: {first}", complaints.len())))
}

fn print(counts: &Counts, before: &Look, looks: &[Look], rolls: &[Roll; 2]) {
    println!("\n| requests | outcome | count |\n|---|---|---|");
    for ((kind, outcome), count) in &counts.requests {
        println!("| {kind} | {outcome} | {count} |");
    }
    let (all, turned_away) = counts.all();
    println!(
        "| all | | {all} |\n| all | turned away (503) | {turned_away} |\n| all | failures | {} |",
        counts.failed
    );
    let [p50, p99] = [50, 99].map(|share| counts.percentile(share).as_secs_f64() * 1e3);
    println!("\nframes: p50 {p50:.0} ms, p99 {p99:.0} ms");
    let (thirds, peak) = (
        Thirds::of(looks),
        looks.iter().map(|look| look.peak).max().unwrap_or_default(),
    );
    let memory = thirds
        .medians(|look| look.memory)
        .map(|memory| memory / 1024);
    let [descriptors, threads] = [
        thirds.most(|look| look.descriptors),
        thirds.most(|look| look.threads),
    ];
    println!(
        "\n| held | before | first third | second third | last third |\n|---|---|---|---|---|"
    );
    let row = |what: &str, before: u64, [first, second, last]: [u64; 3]| {
        println!("| {what} | {before} | {first} | {second} | {last} |")
    };
    row("memory, median, MB", before.memory / 1024, memory);
    row("file descriptors, most", before.descriptors, descriptors);
    row("threads, most", before.threads, threads);
    println!("\npeak memory {} MB, {} looks", peak / 1024, looks.len());
    for (roll, when) in rolls.iter().zip(["at the end", "after a restart"]) {
        println!(
            "people {when}: {} of {} expected, {} wrong",
            roll.found,
            roll.expected,
            roll.wrong.len()
        );
    }
}
