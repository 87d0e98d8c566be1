//! `rostro runtime`: installs ONNX Runtime, which runs the models.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use rostro_models::install::InstallOutcome;
use rostro_models::runtime::{RuntimeError, VERSION, install};

use crate::terminal::say;

/// Subcommand of `rostro runtime`.
#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Install the library, from the Python wheel `onnxruntime`
    Install {
        /// Wheel or library to install, instead of fetching one with pip
        #[arg(long, value_name = "WHEEL|LIBRARY")]
        from: Option<PathBuf>,
        /// Replace an installed library
        #[arg(long)]
        force: bool,
    },
}

/// Runs a command in the folder `runtime`.
///
/// # Errors
///
/// [`RuntimeError`] if the library cannot be fetched or written.
pub(crate) fn run(command: RuntimeCommand, runtime: &Path) -> Result<(), RuntimeError> {
    let RuntimeCommand::Install { from, force } = command;
    match install(from.as_deref(), force, runtime)? {
        InstallOutcome::Already(path) => say(&format!(
            "ONNX Runtime {VERSION} is installed at {}",
            path.display()
        )),
        InstallOutcome::Now(path) => say(&format!(
            "installed ONNX Runtime {VERSION} at {}",
            path.display()
        )),
    }
    Ok(())
}
