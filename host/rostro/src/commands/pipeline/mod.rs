//! `rostro pipeline`: inspects components, and says to a running service which of them shall serve.

mod answer;
pub(crate) mod bench;
mod check;
mod diff;
mod draw;
mod error;
mod local;
pub(crate) mod new;
mod operate;
pub(crate) mod photos;
mod table;
mod trial;
pub(crate) mod try_photos;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::commands::client::{TokenArgs, TrustArgs};
use crate::logging;
use bench::BenchArgs;
use diff::DiffArgs;
use local::LocalArgs;
use new::NewArgs;
use try_photos::TryArgs;

pub(crate) use error::PipelineError;
pub(crate) use operate::{AdminClient, OperateError};

/// What can be done with pipelines.
#[derive(Debug, Subcommand)]
pub(crate) enum PipelineCommand {
    /// Make a project of a pipeline's own, which builds with one command and passes its tests
    New(NewArgs),
    /// Find all that is wrong with a component, and say what it is
    Check {
        /// The component
        file: PathBuf,
        /// Look at what it is alone, and run it on no picture: for where there is no model pack
        #[arg(long)]
        no_self_test: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        local: LocalArgs,
    },
    /// Run a component on photos, and draw what it sees on them
    Try(Box<TryArgs>),
    /// Compare two components on photos
    Diff(Box<DiffArgs>),
    /// Measure the time that a component takes, beside the default pipeline
    Bench(Box<BenchArgs>),
    /// Give a component to a running service, which stages it, and wait until it is
    Push {
        /// The component
        file: PathBuf,
        /// Model pack to run it on [default: the active revision's]
        #[arg(long)]
        pack: Option<String>,
        /// Use the component's policy alone, with the active revision's vision
        #[arg(long)]
        policy_only: bool,
        /// Hold it to a tighter limit than the service's (repeatable): memory-mib, time-ms and the
        /// others of docs/sandbox.md
        #[arg(long = "limit", value_name = "NAME=VALUE")]
        limits: Vec<String>,
        /// Embed enrolments for it, too, before it is activated: it sees the photos of people who
        /// are enrolled
        #[arg(long)]
        enrol: bool,
        /// Have it serve once it is staged
        #[arg(long)]
        activate: bool,
        /// Activate it even if people must be enrolled again for it
        #[arg(long, requires = "activate")]
        allow_contract_change: bool,
        /// Seconds to wait until it is staged
        #[arg(long, default_value_t = 180, value_name = "SECONDS")]
        timeout: u64,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// List the revisions of a running service
    List {
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Have a revision serve; the one that did is kept ready
    Activate {
        /// First digits of its id
        revision: String,
        /// Do it even if people must be enrolled again for it
        #[arg(long)]
        allow_contract_change: bool,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Have a revision see a share of the requests, whose answers are only compared
    Shadow {
        /// First digits of its id
        revision: String,
        /// Share of the requests, 0 to 1
        #[arg(long, default_value_t = 1.0)]
        share: f64,
        /// End it
        #[arg(long, conflicts_with = "share")]
        off: bool,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Have a revision answer a share of the requests, and those with the header `x-rostro-canary:
    /// always`
    Canary {
        /// First digits of its id
        revision: String,
        /// Share of the requests, 0 to 1; with 0 only those with the header
        #[arg(long, default_value_t = 0.05)]
        share: f64,
        /// Do it even if people must be enrolled again for it
        #[arg(long)]
        allow_contract_change: bool,
        /// End it
        #[arg(long, conflicts_with = "share")]
        off: bool,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Have the previous revision serve again
    Rollback {
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Take a revision away: requests that it works on end, and then it is dropped
    Retire {
        /// First digits of its id
        revision: String,
        #[command(flatten)]
        service: ServiceArgs,
    },
}

/// Which service, and how to print.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// The service's admin interface
    #[arg(
        long,
        env = "ROSTRO_ADMIN_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:4001"
    )]
    admin: String,
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Does what was asked for.
///
/// # Errors
///
/// [`PipelineError`], whose message is for people.
pub(crate) fn run(command: PipelineCommand) -> Result<(), PipelineError> {
    match command {
        PipelineCommand::Check {
            file,
            no_self_test,
            json,
            local,
        } => {
            logging::show_guests();
            Ok(check::check(&file, &local, !no_self_test, json)?)
        }
        PipelineCommand::New(args) => Ok(new::new(&args)?),
        PipelineCommand::Try(args) => {
            logging::show_guests();
            Ok(try_photos::attempt(&args)?)
        }
        PipelineCommand::Diff(args) => Ok(diff::diff(&args)?),
        PipelineCommand::Bench(args) => Ok(bench::bench(&args)?),
        other => Ok(operate::run(other)?),
    }
}
