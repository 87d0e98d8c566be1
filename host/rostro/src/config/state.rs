//! The state folder of commands that read what a service left.

use std::path::PathBuf;

use clap::Args;

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
