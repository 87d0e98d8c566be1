//! Command line: parses the arguments and runs the command.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use rostro_common::shutdown::exit;
use rostro_common::text::sanitize_lines;
use rostro_models::runtime::RuntimeError;

use crate::commands::audit::{self as audit, AuditArgs, AuditError};
use crate::commands::database::{self, DatabaseArgs, DatabaseCommandError};
use crate::commands::gallery::{self, GalleryArgs, GalleryCommandError};
use crate::commands::models::{self, ModelsCommand};
use crate::commands::nodes::{self, NodesArgs, NodesError};
use crate::commands::people::{self as people, PeopleCommand};
use crate::commands::pipeline::{self, PipelineCommand, PipelineError};
use crate::commands::runtime::{self, RuntimeCommand};
use crate::commands::watch::{self, WatchArgs};
use crate::config::check::{self, CheckFailed};
use crate::config::{ConfigError, MODELS, Machine, RUNTIME, ServeArgs, Source, installed};
use crate::logging;
use crate::serve::{self, ServeError};
use crate::terminal;

/// Recognise faces in photos and camera frames over HTTP
#[derive(Debug, Parser)]
#[command(
    name = "rostro",
    version,
    propagate_version = true,
    max_term_width = 80
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Serve {
        /// TOML file with the same settings as the flags
        #[arg(long, env = "ROSTRO_CONFIG", value_name = "FILE.toml")]
        config: Option<PathBuf>,
        /// Check the configuration, keys, certificate and database, and exit
        ///
        /// The exit code is 0 if all of them can be used, else 1.
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        args: Box<ServeArgs>,
    },
    /// List, install and verify model packs
    Models {
        /// Folder with installed model packs [default: models/installed here, or
        /// above this program]
        #[arg(long, env = "ROSTRO_MODELS", value_name = "DIR", global = true)]
        models: Option<PathBuf>,
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// Install ONNX Runtime, which runs the models
    Runtime {
        /// Folder to install into [default: models/runtime here, or above this program]
        #[arg(long, env = "ROSTRO_RUNTIME", value_name = "DIR", global = true)]
        runtime: Option<PathBuf>,
        #[command(subcommand)]
        command: RuntimeCommand,
    },
    /// Inspect and test pipelines, and manage the revisions of a running service
    Pipeline {
        #[command(subcommand)]
        command: PipelineCommand,
    },
    /// Check and repair the files of a gallery
    Gallery(GalleryArgs),
    /// Make and check a database of people, and move people to and from it
    Database(DatabaseArgs),
    /// List and drain the nodes that share a database
    Nodes(NodesArgs),
    /// Query the people of a running service
    People {
        #[command(subcommand)]
        command: PeopleCommand,
    },
    /// Print the interface as an OpenAPI document
    Openapi,
    /// Print the audit log, or the lines of one person
    Audit(AuditArgs),
    /// Send pictures, videos and cameras to a running service and print each answer
    Watch(WatchArgs),
}

/// Error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file that the service would read cannot be used.
    #[error(transparent)]
    Check(#[from] CheckFailed),
    /// The service cannot start, or ended by an error.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A model pack cannot be listed, installed or verified.
    #[error(transparent)]
    Models(#[from] models::ModelsError),
    /// ONNX Runtime cannot be installed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A component is unusable, or the service rejected a request.
    #[error(transparent)]
    Pipeline(#[from] Box<pipeline::PipelineError>),
    /// A gallery cannot be read or written.
    #[error(transparent)]
    Gallery(#[from] GalleryCommandError),
    /// A database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseCommandError),
    /// The nodes cannot be listed or drained.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// The audit log cannot be searched.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A picture got no answer.
    #[error(transparent)]
    Watch(#[from] watch::WatchError),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`CliError`] with a remedy in its message.
    pub(crate) fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Serve {
                config,
                check: true,
                args,
            } => Ok(check::check(&Source::new(*args, config)?)?),
            Command::Serve {
                config,
                check: false,
                args,
            } => {
                let source = Source::new(*args, config)?;
                let args = source.read()?;
                let config = args.clone().fit(&Machine::of_this_process())?;
                logging::init(config.log_format).map_err(ServeError::Io)?;
                let code = match serve::run(config, source, args) {
                    Ok(()) => {
                        logging::finish();
                        0
                    }
                    Err(error) => {
                        logging::report_error(&sanitize_lines(&error.to_string()));
                        1
                    }
                };
                exit(code)
            }
            Command::Models { models, command } => Ok(models::run(
                command,
                &models.unwrap_or_else(|| installed(MODELS)),
            )?),
            Command::Runtime { runtime, command } => Ok(runtime::run(
                command,
                &runtime.unwrap_or_else(|| installed(RUNTIME)),
            )?),
            Command::Pipeline { command } => {
                pipeline::run(command).map_err(|error| Box::new(error).into())
            }
            Command::Database(args) => Ok(database::run(&args)?),
            Command::Nodes(args) => Ok(nodes::run(&args)?),
            Command::Gallery(args) => Ok(gallery::run(&args)?),
            Command::People { command } => {
                people::run(command).map_err(|error| Box::new(PipelineError::from(error)).into())
            }
            Command::Openapi => {
                terminal::say(&rostro_api::document());
                Ok(())
            }
            Command::Audit(args) => Ok(audit::run(&args)?),
            Command::Watch(args) => Ok(watch::run(&args)?),
        }
    }
}
