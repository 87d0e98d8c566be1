//! The state folder of commands that read what a service left.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

/// Argument of a command that names the state folder.
#[derive(Clone, Debug, Args)]
pub(crate) struct StateArg {
    /// State folder of the service
    #[arg(
        long = "state",
        env = "ROSTRO_STATE",
        value_name = "DIR",
        default_value = "rostro_state"
    )]
    pub(crate) folder: PathBuf,
}

/// State folder of a command that reads a folder or a database.
#[derive(Clone, Debug)]
pub(crate) struct OptionalState {
    pub(crate) folder: PathBuf,
    /// Whether the command line names it. A service's environment has it next to its database.
    pub(crate) is_typed: bool,
}

impl FromArgMatches for OptionalState {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let StateArg { folder } = StateArg::from_arg_matches(matches)?;
        Ok(Self {
            folder,
            is_typed: matches.value_source("folder") == Some(ValueSource::CommandLine),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for OptionalState {
    fn augment_args(command: Command) -> Command {
        StateArg::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        StateArg::augment_args_for_update(command)
    }
}
