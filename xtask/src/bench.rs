//! `cargo xtask bench`: starts the programs of `tests/benches`.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::setup::{self, Profile, SetupArgs};
use crate::steps::{bench, debian_packages, on_path, root, shared, succeed};
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
    /// Vectors in the largest gallery (search)
    #[arg(long)]
    vectors: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The service and the one that it replaces
    Peer,
    /// The service and ONNX Runtime alone, and the component and the same code as a native program
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
        set_up()?;
    }
    for what in &args.what {
        let flags = what.flags(args);
        let mut program = match what {
            What::Peer | What::Memory | What::Policies => {
                let mut service = bench("service", Profile::Release);
                service.arg(what.name());
                service
            }
            _ => bench(what.name(), Profile::Release),
        };
        for (flag, value) in flags {
            program.args(
                value
                    .iter()
                    .flat_map(|value| [flag.to_owned(), value.to_string()]),
            );
        }
        what.set_up()?;
        succeed(&mut program)?;
    }
    Ok(())
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Floor => "floor",
            Self::Search => "search",
            Self::Memory => "memory",
            Self::Revisions => "revisions",
            Self::Policies => "policies",
        }
    }

    fn flags(self, args: &BenchArgs) -> Vec<(&'static str, Option<u64>)> {
        match self {
            Self::Peer => vec![("--seconds", args.seconds), ("--rounds", args.rounds)],
            Self::Floor => vec![],
            Self::Search => vec![("--vectors", args.vectors)],
            Self::Memory => vec![("--requests", args.requests)],
            Self::Revisions => vec![("--swaps", args.swaps)],
            Self::Policies => vec![("--seconds", args.seconds)],
        }
    }

    /// Installs what only this benchmark needs.
    fn set_up(self) -> Result<()> {
        let is_loaded = matches!(self, Self::Peer | Self::Memory);
        // wrk has no flag that only prints its version.
        if is_loaded && !on_path("wrk") {
            debian_packages(&["wrk"])?;
        }
        match self {
            Self::Peer => {
                let list = root().join("tests/benches/service/requirements.txt");
                python::environment("peer", &list).map(drop)
            }
            Self::Revisions => guest::build_variant(),
            Self::Policies => scripting::build(),
            _ => Ok(()),
        }
    }
}

/// Sets up what all benchmarks of a service need.
fn set_up() -> Result<()> {
    let photos = shared().join("faces");
    if !photos.is_dir() {
        bail!(
            "the photos in {} are missing; name their folder with ROSTRO_SHARED",
            photos.display()
        );
    }
    setup::host(Profile::Release)?;
    setup::runtime(Profile::Release)?;
    let pack = SetupArgs {
        pack: Some("mobile".to_owned()),
        accept_license: true,
    };
    setup::models(Profile::Release, &pack)?;
    guest::build()
}
