//! Speed and names of streams, relative to the same frames alone: `cargo bench --workspace --bench
//! streams --profile release`.
//!
//! The service runs in this process, without HTTP and with `--precision float`. All frames are made
//! from the shared photos and a seed, and encoded before a measurement.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark fails by panicking"
)]

mod accuracy;
mod clips;
#[path = "../../e2e/harness.rs"]
mod harness;
mod heads;
#[path = "../common/machine.rs"]
mod machine;
#[path = "../common/median.rs"]
mod median;
mod people;
mod picture;
mod scenes;
mod service;
mod speed;
mod tally;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use fastrand::Rng;

use crate::harness::shared;
use crate::service::LocalService;
use crate::speed::{Rounds, Speed};

/// Options of the measurement.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure
    #[arg(value_enum, default_values = ["speed", "accuracy"])]
    what: Vec<What>,
    /// Seed of all frames
    #[arg(long, default_value_t = 17)]
    seed: u64,
    /// Frames of each contender on each clip (speed)
    #[arg(long, default_value_t = 120)]
    frames: usize,
    /// Turns of eight cameras on each clip (speed)
    #[arg(long, default_value_t = 12)]
    turns: usize,
    /// Part of the names of the clips to measure (speed)
    #[arg(long, default_value = "", hide_default_value = true)]
    clip: String,
    /// Scenes of each kind except crossings (accuracy)
    #[arg(long, default_value_t = 6)]
    runs: usize,
    /// Scenes of two people who cross (accuracy)
    #[arg(long, default_value_t = 50)]
    crossings: usize,
    /// Name of the pack
    #[arg(long, default_value = "mobile")]
    pack: String,
    /// Exit with 1 if a goal is not reached
    #[arg(long)]
    check: bool,
    /// Flag that `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Times and frames a second
    Speed,
    /// Names and tracks of people who move
    Accuracy,
}

/// A goal, and whether it is reached.
type Goal = (String, bool);

fn main() -> Result<()> {
    let args = Args::parse();
    let service = LocalService::start(&args.pack)?;
    let students = people::enroll_students(&service)?;
    let mut goals = Vec::new();
    print(&format!("{}\n", machine::description()));
    if args.what.contains(&What::Speed) {
        goals.extend(measure_speed(&args, &service, &students)?);
    }
    if args.what.contains(&What::Accuracy) {
        let (runs, crossings) = (args.runs, args.crossings);
        let measured = accuracy::measure(&service, &students, args.seed, runs, crossings)?;
        print(&accuracy::report(&measured));
        goals.extend(accuracy::goals(&measured));
    }
    let mut is_reached = true;
    for (goal, reached) in &goals {
        print(&format!("{} {goal}", if *reached { "✓" } else { "✗" }));
        is_reached &= reached;
    }
    if args.check && !is_reached {
        std::process::exit(1);
    }
    Ok(())
}

/// Measures the clips of people who stay.
fn measure_speed(args: &Args, service: &LocalService, students: &[String]) -> Result<Vec<Goal>> {
    let mut random = Rng::with_seed(args.seed);
    let rounds = Rounds {
        frames: args.frames,
        turns: args.turns,
    };
    let classroom = shared("faces/classrooms/classroom_030_faces.jpg");
    let classroom = people::enrolled_room(service, &picture::open(&classroom)?)?;
    let portraits = people::portraits(service, students)?;
    let door = picture::open(&service::student(&students[0], "test"))?;
    let pictures = [
        ("classroom, 1920×1080", classroom),
        ("30 portraits, 1920×1080", portraits),
        ("one face, 640×480", door),
    ];
    let mut measured: Vec<(&str, Speed)> = Vec::new();
    for (what, picture) in pictures {
        if !what.contains(&args.clip) {
            continue;
        }
        eprintln!("{what} …");
        let faces = service.faces(picture::jpeg(&picture)?)?;
        let faces: Vec<_> = faces.iter().map(|face| face.bounds).collect();
        let clip = clips::staying(&picture, &faces, &mut random)?;
        measured.push((what, speed::measure(service, &clip, rounds)?));
        print(&speed::report(&measured[measured.len() - 1..]));
    }
    let mut goals = Vec::new();
    for (what, speed) in &measured {
        let (time, rate) = if speed.faces > 2.0 {
            (Some(0.45), 2.5)
        } else {
            (None, 1.25)
        };
        for stream in &speed.streams {
            let mut goal = |text: &str, reached| {
                goals.push((
                    format!("{what}, every {} ms: {text}", stream.interval),
                    reached,
                ));
            };
            if let Some(time) = time {
                let text = format!("p50 at most {time} × single frames");
                goal(&text, stream.time_ratio <= time);
            }
            let text = format!("eight streams at least {rate} × the frames a second");
            goal(&text, stream.cameras.ratio >= rate);
            goal(
                "99 % of the names of single frames",
                stream.same_share() >= 0.99,
            );
        }
    }
    Ok(goals)
}

#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
fn print(text: &str) {
    println!("{text}");
}
