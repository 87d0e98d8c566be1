//! `cargo xtask bench`: starts the programs of `tests/benches`.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::setup::{self, Profile, SetupArgs};
use crate::steps::{bench, debian_packages, on_path, shared, succeed};
use crate::{guest, python, scripting};

/// What to measure. The programs define the defaults and ranges of the numbers.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Benchmarks to run
    #[arg(value_enum, default_values = ["peer", "floor"])]
    what: Vec<What>,
    /// Seconds of load on each service in each round (peer, policies)
    #[arg(long)]
    seconds: Option<u64>,
    /// Rounds of alternating load (peer)
    #[arg(long)]
    rounds: Option<u64>,
    /// Number of requests (memory)
    #[arg(long)]
    requests: Option<u64>,
    /// Number of swaps under load (revisions)
    #[arg(long)]
    swaps: Option<u64>,
    /// Path of another build of `rostro` (builds)
    #[arg(long, default_value = "", hide_default_value = true)]
    other: String,
    /// Vectors in the largest gallery (search)
    #[arg(long)]
    vectors: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The service and the one that it replaces
    Peer,
    /// This build of the service and another one, in turns
    Builds,
    /// The service and ONNX Runtime alone, the component and the same code as a native program
    Floor,
    /// The gallery's search and one pass over its memory
    Search,
    /// The service's memory over many large frames from eight callers
    Memory,
    /// Starts, staging, and swaps of pipelines under load
    Revisions,
    /// One policy in Rust, JavaScript and Python, and the default pipeline's own
    Policies,
}

/// Sets everything up and runs each benchmark.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    if args.what != [What::Search] {
        let photos = shared().join("faces");
        let remedy = "name the folder with the photos with ROSTRO_SHARED";
        ensure!(photos.is_dir(), "{} is missing; {remedy}", photos.display());
        setup::host(Profile::Release)?;
        setup::models(Profile::Release, &SetupArgs::accepted("mobile"))?;
        guest::build()?;
    }
    args.what.iter().try_for_each(|what| what.run(args))
}

impl What {
    fn run(self, args: &BenchArgs) -> Result<()> {
        let (seconds, rounds) = (("--seconds", args.seconds), ("--rounds", args.rounds));
        // wrk has no flag that only prints its version.
        if matches!(self, Self::Peer | Self::Builds | Self::Memory) && !on_path("wrk") {
            debian_packages("wrk")?;
        }
        match self {
            Self::Peer => {
                python::environment("peer", "tests/benches/service/requirements.txt")?;
                start("service", &["peer"], &[seconds, rounds])
            }
            Self::Builds => start("service", &["builds", "--other", &args.other], &[rounds]),
            Self::Floor => start("floor", &[], &[]),
            Self::Search => start("search", &[], &[("--vectors", args.vectors)]),
            Self::Memory => start("service", &["memory"], &[("--requests", args.requests)]),
            Self::Revisions => start("revisions", &[], &[("--swaps", args.swaps)]),
            Self::Policies => {
                scripting::build()?;
                start("service", &["policies"], &[seconds])
            }
        }
    }
}

/// Runs a program with the flags that have a value.
fn start(program: &str, what: &[&str], flags: &[(&str, Option<u64>)]) -> Result<()> {
    let mut bench = bench(program, Profile::Release);
    bench.args(what);
    for (flag, value) in flags {
        if let Some(value) = value {
            bench.arg(flag).arg(value.to_string());
        }
    }
    succeed(&mut bench)
}
