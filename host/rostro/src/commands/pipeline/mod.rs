//! `rostro pipeline`: inspects and tests components, and manages the revisions of a running
//! service.

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
use crate::config::key_value;
use crate::logging;
use bench::BenchArgs;
use diff::DiffArgs;
use local::LocalArgs;
use new::NewArgs;
use try_photos::TryArgs;

pub(crate) use error::PipelineError;
pub(crate) use operate::{AdminClient, OperateError};

/// Subcommand of `rostro pipeline`.
#[derive(Debug, Subcommand)]
pub(crate) enum PipelineCommand {
    /// Create a project for a new pipeline, which builds and passes its tests
    New(NewArgs),
    /// Describe a component, and list all its problems with remedies
    Check {
        /// The component
        file: PathBuf,
        /// Inspect it without running it on pictures, which needs no model pack
        #[arg(long)]
        no_self_test: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        local: LocalArgs,
    },
    /// Run a component on photos, and draw its answers on them
    Try(Box<TryArgs>),
    /// Compare two components on photos
    Diff(Box<DiffArgs>),
    /// Compare the speed of a component with that of the default pipeline
    Bench(Box<BenchArgs>),
    /// Push a component to a running service, and wait until it is staged
    Push {
        /// The component
        file: PathBuf,
        /// Model pack to run it on [default: the active revision's]
        #[arg(long)]
        pack: Option<String>,
        /// Use only the component's policy, with the active revision's vision
        #[arg(long)]
        policy_only: bool,
        /// Tighter limit than the service's, such as memory-mib (repeatable)
        ///
        /// docs/sandbox.md lists all limits.
        #[arg(long = "limit", value_name = "NAME=VALUE")]
        limits: Vec<String>,
        /// Setting of the revision's own, which overrides the service's (repeatable)
        ///
        /// `rostro pipeline check` shows those that a component knows.
        #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = key_value)]
        settings: Vec<(String, String)>,
        /// Also embed enrolments with it before it is activated
        ///
        /// It then sees the photos of people who are enrolled.
        #[arg(long)]
        enrol: bool,
        /// Activate it once it is staged
        #[arg(long)]
        activate: bool,
        /// Activate it even if people must be re-enrolled for it
        #[arg(long, requires = "activate")]
        allow_contract_change: bool,
        /// Seconds to wait until it is staged
        #[arg(long, default_value_t = 180, value_name = "SECONDS")]
        timeout: u64,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Stage a revision of the same components with other settings
    Configure {
        /// First digits of its id
        revision: String,
        /// Setting that the new revision gets (repeatable)
        #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = key_value)]
        settings: Vec<(String, String)>,
        /// Setting of the revision's own that the new one loses (repeatable)
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
        /// Activate it once it is staged
        #[arg(long)]
        activate: bool,
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
    /// Activate a revision, and keep the previous one ready
    Activate {
        /// First digits of its id
        revision: String,
        /// Do it even if people must be re-enrolled for it
        #[arg(long)]
        allow_contract_change: bool,
        /// Do it even if nodes have not staged it, which then answer nothing
        /// until they have
        #[arg(long)]
        partial: bool,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Run a revision on a share of the requests, and only compare its answers
    Shadow {
        /// First digits of its id
        revision: String,
        /// Share of the requests, 0 to 1
        #[arg(long, default_value_t = 1.0)]
        share: f64,
        /// Stop it
        #[arg(long, conflicts_with = "share")]
        off: bool,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Let a revision answer a share of the requests
    ///
    /// It also answers requests with the header `x-rostro-canary: always`.
    Canary {
        /// First digits of its id
        revision: String,
        /// Share of the requests, 0 to 1; 0 is for requests with the header only
        #[arg(long, default_value_t = 0.05)]
        share: f64,
        /// Do it even if people must be re-enrolled for it
        #[arg(long)]
        allow_contract_change: bool,
        /// Stop it
        #[arg(long, conflicts_with = "share")]
        off: bool,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Activate the previous revision again
    Rollback {
        /// Let nodes without it answer nothing until they have it
        #[arg(long)]
        partial: bool,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Retire a revision, and unload it once its requests end
    Retire {
        /// First digits of its id
        revision: String,
        #[command(flatten)]
        service: ServiceArgs,
    },
}

/// Flags for the service and the output.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// Address of the service's admin interface
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

/// Runs a command.
///
/// # Errors
///
/// [`PipelineError`] with a remedy in its message.
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
            Ok(try_photos::try_photos(&args)?)
        }
        PipelineCommand::Diff(args) => Ok(diff::diff(&args)?),
        PipelineCommand::Bench(args) => Ok(bench::bench(&args)?),
        other => Ok(operate::run(other)?),
    }
}
