//! `cargo xtask fuzz`: inputs that nobody would think of, for whatever reads what strangers send.
//! The targets are in `tests/fuzz`.
//!
//! cargo-fuzz builds and runs them, without a sanitizer, which only nightly compilers have: what is
//! looked for are panics, overflows, broken properties, and what takes too long or too much memory,
//! in code that has no memory errors to find.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::steps::{cargo, debian_packages, on_path, root, step, succeed, succeeds};

/// The version of cargo-fuzz that is known to work with the compiler in use.
const VERSION: &str = "0.13.2";

/// Where the targets are, from the repository's root.
const FOLDER: &str = "tests/fuzz";

/// Seconds that one input may take: the slowest take milliseconds.
const SLOWEST: u32 = 10;

/// Megabytes that a target may hold: a decoder may ask for 400 before it is refused.
const MEMORY: u32 = 2048;

/// What to fuzz, and how long.
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// What to fuzz; several may be named
    #[arg(value_enum, value_name = "TARGET", default_values_t = Target::value_variants().iter().copied())]
    targets: Vec<Target>,
    /// Minutes for each
    #[arg(long, value_name = "M", default_value_t = 10.0, value_parser = minutes)]
    minutes: f64,
    /// How many are run at a time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
}

/// A target of `tests/fuzz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Target {
    /// Forms
    Multipart,
    /// Ids of people
    PersonId,
    /// People's files
    Csv,
    /// Groups' files
    Groups,
    /// Archives of the gallery
    Archive,
    /// What a component answers
    GuestOutput,
    /// Pictures, as they are decoded in the sandbox
    ImageDecode,
    /// Pictures in the sandbox itself
    SandboxDecode,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().map_err(|error| format!("{error}"))?;
    if (0.1..=1440.0).contains(&minutes) {
        Ok(minutes)
    } else {
        Err("0.1 to 1440 are possible".to_owned())
    }
}

impl Target {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Another target whose inputs it is given too, and only reads.
    fn also_reads(self) -> Option<Self> {
        // WebAssembly is not instrumented: what reaches more of a decoder is found natively.
        (self == Self::SandboxDecode).then_some(Self::ImageDecode)
    }

    /// A command of cargo-fuzz about it.
    fn command(self, subcommand: &str) -> Command {
        let mut fuzz = cargo();
        fuzz.args([
            "fuzz",
            subcommand,
            "--fuzz-dir",
            FOLDER,
            "--sanitizer",
            "none",
        ])
        .arg(self.name());
        fuzz
    }
}

/// What became of a target.
struct Outcome {
    target: Target,
    runs: u64,
    per_second: u64,
    /// Places in the code that were reached.
    coverage: u64,
    /// Inputs at which it ended, if it did.
    crashes: Vec<PathBuf>,
    log: PathBuf,
    succeeded: bool,
}

/// Builds the targets, runs each as long as is said, prints a table, and fails if any input broke
/// one.
pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    tools()?;
    for target in &args.targets {
        step(&format!("building {}", target.name()), || {
            succeed(&mut target.command("build"))
        })?;
    }
    let waiting = Mutex::new(args.targets.iter().copied().collect::<VecDeque<_>>());
    let outcomes = step(
        &format!(
            "{} minutes for each of {} targets",
            args.minutes,
            args.targets.len()
        ),
        || all(&waiting, args),
    )?;
    println!("| target | runs | runs a second | coverage | crashes |\n|---|---|---|---|---|");
    for Outcome {
        target,
        runs,
        per_second,
        coverage,
        crashes,
        ..
    } in &outcomes
    {
        println!(
            "| {} | {runs} | {per_second} | {coverage} | {} |",
            target.name(),
            crashes.len()
        );
    }
    let failures: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.succeeded)
        .map(Outcome::failure)
        .collect();
    if failures.is_empty() {
        Ok(())
    } else {
        bail!("{}", failures.join("\n"))
    }
}

/// Makes sure that cargo-fuzz is there, and the compiler that libFuzzer is built with.
fn tools() -> Result<()> {
    if !on_path("c++") {
        if !on_path("dpkg") {
            bail!("libFuzzer is built with a C++ compiler, and there is no `c++`; install one");
        }
        debian_packages(&["g++"])?;
    }
    if succeeds(cargo().args(["fuzz", "--version"])) {
        return Ok(());
    }
    step("cargo-fuzz", || {
        succeed(cargo().args([
            "install",
            "--quiet",
            "cargo-fuzz",
            "--locked",
            "--version",
            VERSION,
        ]))
    })
}

/// Runs the targets, some at a time.
fn all(waiting: &Mutex<VecDeque<Target>>, args: &FuzzArgs) -> Result<Vec<Outcome>> {
    let next = || {
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    std::thread::scope(|scope| {
        let work = || {
            std::iter::from_fn(next)
                .map(|target| fuzz(target, args.minutes))
                .collect::<Result<Vec<_>>>()
        };
        let threads: Vec<_> = (0..args.jobs).map(|_| scope.spawn(work)).collect();
        let mut outcomes = Vec::new();
        for thread in threads {
            outcomes.extend(
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread that runs targets panicked"))??,
            );
        }
        outcomes.sort_by_key(|outcome| outcome.target);
        Ok(outcomes)
    })
}

/// Runs one target. It goes on where it ended the last time: what covered more is kept in its
/// corpus.
fn fuzz(target: Target, minutes: f64) -> Result<Outcome> {
    let corpus = |of: Target| root().join(FOLDER).join("corpus").join(of.name());
    let corpora: Vec<PathBuf> = [Some(target), target.also_reads()]
        .into_iter()
        .flatten()
        .map(corpus)
        .collect();
    let logs = root().join(FOLDER).join("target/logs");
    for folder in corpora.iter().chain([&logs]) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let log = logs.join(format!("{}.log", target.name()));
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    eprintln!("   {}: {}", target.name(), log.display());
    let mut fuzz = target.command("run");
    // The first is written to.
    fuzz.args(&corpora)
        .arg("--")
        .arg(format!("-max_total_time={}", (minutes * 60.0).ceil()))
        .arg("-print_final_stats=1");
    fuzz.arg(format!("-timeout={SLOWEST}"))
        .arg(format!("-rss_limit_mb={MEMORY}"));
    let status = fuzz
        .env("ROSTRO_FUZZ_SEEDS", corpus(target))
        .stdout(output.try_clone()?)
        .stderr(output)
        .status();
    let succeeded = status.context("cannot run cargo fuzz")?.success();
    let said = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(Outcome::read(
        target,
        &String::from_utf8_lossy(&said),
        log,
        succeeded,
    ))
}

impl Outcome {
    /// What libFuzzer says of a run.
    fn read(target: Target, said: &str, log: PathBuf, succeeded: bool) -> Self {
        let figure = |text: &str| {
            text.split_whitespace()
                .next()
                .and_then(|figure| figure.parse().ok())
        };
        let last = |name: &str| {
            said.lines()
                .rev()
                .find_map(|line| figure(line.split_once(name)?.1))
                .unwrap_or_default()
        };
        let written = said.lines().filter_map(|line| {
            line.split_once("Test unit written to ")
                .map(|(_, file)| PathBuf::from(file))
        });
        Self {
            target,
            runs: last("stat::number_of_executed_units: "),
            per_second: last("stat::average_exec_per_sec: "),
            coverage: last(" cov: "),
            // A slow input that was within the limit is written too, and named otherwise.
            crashes: written.filter(|file| !is_only_slow(file)).collect(),
            log,
            succeeded,
        }
    }

    /// Which input broke it, and how to give it that again.
    fn failure(&self) -> String {
        let name = self.target.name();
        let Some(input) = self.crashes.first() else {
            return format!(
                "{name} ended without an input that broke it: see {}",
                self.log.display()
            );
        };
        let input = input.strip_prefix(root()).unwrap_or(input).display();
        format!(
            "{name} was broken by {input}: see {}, and run again: cargo fuzz run --fuzz-dir {FOLDER} --sanitizer none {name} {input}",
            self.log.display()
        )
    }
}

fn is_only_slow(file: &Path) -> bool {
    file.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("slow-unit-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_inputs_are_read_of_what_libfuzzer_says() {
        let said = "#2 INITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 40Mb\n#8192 pulse cov: 120 ft: 340 corp: 9/80b lim: 4 exec/s: 2048 rss: 50Mb\n\
                    artifact_prefix='/x/'; Test unit written to /x/slow-unit-1\nartifact_prefix='/x/'; Test unit written to /x/crash-2\n\
                    stat::number_of_executed_units: 8200\nstat::average_exec_per_sec:     2050\n";
        let outcome = Outcome::read(Target::PersonId, said, PathBuf::from("log"), false);
        assert_eq!(
            (outcome.runs, outcome.per_second, outcome.coverage),
            (8200, 2050, 120)
        );
        assert_eq!(outcome.crashes, [PathBuf::from("/x/crash-2")]);
        assert!(outcome.failure().contains(
            "run again: cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none person_id /x/crash-2"
        ));
    }

    #[test]
    fn every_target_of_the_fuzz_project_is_one_of_these() {
        let project = fs::read_to_string(root().join(FOLDER).join("Cargo.toml")).unwrap();
        let mut there: Vec<&str> = project
            .lines()
            .filter_map(|line| {
                line.strip_prefix("path = \"targets/")?
                    .strip_suffix(".rs\"")
            })
            .collect();
        let mut known: Vec<String> = Target::value_variants()
            .iter()
            .map(|target| target.name())
            .collect();
        there.sort_unstable();
        known.sort();
        assert_eq!(there, known);
    }
}
