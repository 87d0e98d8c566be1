//! `rostro pipeline check`: inspects a component without serving it.

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::checked::{self, InvalidOutput};
use crate::engine::Engine;
use crate::limits::Limits;
use crate::plugin::{Half, Plugin, PluginError, WORLD_VERSION};
use crate::printed::say;
use crate::run::{Run, RunError};
use crate::settings::Settings;

/// How long a component may take to say what it is.
const DESCRIBE: Duration = Duration::from_secs(5);

/// Why a component is not usable.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file cannot be read.
    #[error("cannot read {file}: {cause}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The sandbox cannot be set up.
    #[error("cannot set up the sandbox: {0:#}")]
    Engine(wasmtime::Error),
    /// It is no component that can run.
    #[error("{file}: {cause}", file = file.display())]
    Plugin {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: PluginError,
    },
    /// It fails when it is asked what it is.
    #[error("{file}: describing itself, {cause}", file = file.display())]
    Describe {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: RunError,
    },
    /// It breaks a rule of the interface.
    #[error("{file}: {cause}", file = file.display())]
    Output {
        /// The file.
        file: PathBuf,
        /// Which.
        cause: InvalidOutput,
    },
}

/// Prints what a component is, if this host can run it.
///
/// # Errors
///
/// [`CheckError`] says why it cannot.
pub(super) fn check(file: PathBuf) -> Result<(), CheckError> {
    let bytes = std::fs::read(&file).map_err(|cause| CheckError::Unreadable { file: file.clone(), cause })?;
    let engine = Engine::new(Limits::default(), NonZeroUsize::MIN.get()).map_err(CheckError::Engine)?;
    let plugin = Plugin::load(&engine, &bytes).map_err(|cause| CheckError::Plugin { file: file.clone(), cause })?;
    say(&format!("{}", file.display()));
    say(&format!("  size       {} bytes", bytes.len()));
    say(&format!("  sha256     {}", plugin.digest()));
    say(&format!("  world      rostro:pipeline@{WORLD_VERSION}, {}", world(&plugin)));
    let deadline = Instant::now() + DESCRIBE;
    let settings = Settings::default();
    if plugin.serves(Half::Vision) {
        let description =
            Run::describe(&plugin, &settings, deadline).map_err(|cause| CheckError::Describe { file: file.clone(), cause })?;
        let description = checked::description(description).map_err(|cause| CheckError::Output { file, cause })?;
        say(&format!("  name       {} {}", description.identity.name, description.identity.version));
        say(&format!("  models     {}", description.models.join(", ")));
        let contract = description.contract;
        say(&format!("  embedding  {} aligned by {}, fed by {}", contract.recognizer, contract.alignment, contract.preprocessing));
    } else {
        let identity =
            Run::describe_policy(&plugin, &settings, deadline).map_err(|cause| CheckError::Describe { file: file.clone(), cause })?;
        let identity = checked::identity(identity).map_err(|cause| CheckError::Output { file, cause })?;
        say(&format!("  name       {} {}", identity.name, identity.version));
    }
    say(&format!(
        "  imports    {}",
        if plugin.imports().is_empty() { "nothing".to_owned() } else { plugin.imports().join("\n             ") }
    ));
    say("this host can run it");
    Ok(())
}

fn world(plugin: &Plugin) -> &'static str {
    match (plugin.serves(Half::Vision), plugin.serves(Half::Policy)) {
        (true, true) => "a whole pipeline (for --pipeline, or for its policy alone --policy)",
        (true, false) => "vision alone (for --pipeline beside a --policy)",
        (false, _) => "policy alone (for --policy)",
    }
}
