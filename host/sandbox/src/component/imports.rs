//! What a component imports and exports by name, and which of it a pipeline may.

use wasmparser::{Parser, Payload};

use rostro_common::text::sanitize_name;

use super::{ComponentError, MAX_COMPONENT_BYTES};
use crate::component::version::{self, WORLD_VERSION};

/// The interfaces that a component may import, without their versions. Those of WASI are inert
/// here: there are no files, arguments, variables or sockets behind them, standard input is empty
/// and standard output goes nowhere. Files are on the list because every Rust component imports
/// them with its standard library; without an opened directory to begin at, none of their functions
/// can be called on anything.
const ALLOWED_IMPORTS: &[&str] = &[
    "rostro:pipeline/types",
    "rostro:pipeline/settings",
    "rostro:pipeline/telemetry",
    "rostro:pipeline/samples",
    "wasi:nn/graph",
    "wasi:nn/tensor",
    "wasi:nn/inference",
    "wasi:nn/errors",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
];

/// Which half of a pipeline a component is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// It sees.
    Vision,
    /// It decides.
    Policy,
}

impl Half {
    /// The interface's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Policy => "policy",
        }
    }

    /// Its interface as this host has it.
    pub(super) fn export(self) -> String {
        format!("rostro:pipeline/{}@{WORLD_VERSION}", self.name())
    }

    /// Whether an export is this half, of a version that this host runs.
    pub(super) fn is(self, export: &str) -> bool {
        self.version(export).is_some()
    }

    /// The version of an export that is this half, if this host runs it.
    pub(super) fn version(self, export: &str) -> Option<&str> {
        pipeline_interface(export)
            .filter(|(name, version)| *name == self.name() && version::is_run(version))
            .map(|(_, version)| version)
    }
}

/// Something of each half of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct PerHalf<T> {
    /// The vision half.
    pub vision: T,
    /// The policy half.
    pub policy: T,
}

impl<T> PerHalf<T> {
    /// That of one half.
    pub fn of(&self, half: Half) -> &T {
        match half {
            Half::Vision => &self.vision,
            Half::Policy => &self.policy,
        }
    }
}

/// What a component imports and exports by name, read from its bytes alone.
#[derive(Debug, Default)]
pub struct Interface {
    /// Names of the imports.
    pub imports: Vec<String>,
    /// Names of the exports.
    pub exports: Vec<String>,
}

impl Interface {
    /// The names of a component; nothing is compiled.
    ///
    /// # Errors
    ///
    /// If it is no component.
    pub fn of(bytes: &[u8]) -> Result<Self, ComponentError> {
        refuse_others(bytes)?;
        let invalid = |error: wasmparser::BinaryReaderError| ComponentError::Invalid(error.into());
        let mut names = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(invalid)? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        names
                            .exports
                            .push(export.map_err(invalid)?.name.name.to_owned());
                    }
                }
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        names
                            .imports
                            .push(import.map_err(invalid)?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(names)
    }

    /// The imports that no guest gets.
    pub fn forbidden(&self) -> impl Iterator<Item = &str> {
        self.imports
            .iter()
            .map(String::as_str)
            .filter(|name| !is_allowed(name))
    }
}

/// The halves of a pipeline that a component exports, read from its bytes alone: nothing is
/// compiled.
///
/// # Errors
///
/// If it is no component, or exports neither.
pub fn halves(bytes: &[u8]) -> Result<Vec<Half>, ComponentError> {
    let Interface { imports, exports } = Interface::of(bytes)?;
    refuse_other_worlds(imports.iter().chain(&exports))?;
    let halves: Vec<Half> = [Half::Vision, Half::Policy]
        .into_iter()
        .filter(|half| exports.iter().any(|export| half.is(export)))
        .collect();
    if halves.is_empty() {
        let wanted = format!("{} or {}", Half::Vision.export(), Half::Policy.export());
        return Err(ComponentError::MissingExport {
            wanted,
            found: exports,
        });
    }
    Ok(halves)
}

/// Refuses what is no component with words for what it is; the compiler's own would be about bytes.
pub(super) fn refuse_others(bytes: &[u8]) -> Result<(), ComponentError> {
    if bytes.len() > MAX_COMPONENT_BYTES {
        return Err(ComponentError::TooLarge { size: bytes.len() });
    }
    let what = match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => return Ok(()),
        Some(b"\0asm\x01\0\0\0") => "this is a core WebAssembly module, not a component",
        Some(header) if header.starts_with(b"\x7fELF") => {
            "this is a native or precompiled file, not a component"
        }
        _ => "this is not a WebAssembly component",
    };
    Err(ComponentError::NotAComponent { what })
}

/// An interface of ours, apart from its version.
fn pipeline_interface(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("rostro:pipeline/")?.split_once('@')
}

/// The version of `rostro:pipeline` that an import or export belongs to, if this host does not run
/// it.
pub fn other_world(name: &str) -> Option<&str> {
    pipeline_interface(name)
        .map(|(_, version)| version)
        .filter(|version| !version::is_run(version))
}

pub(super) fn refuse_other_worlds<'a>(
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), ComponentError> {
    let other = names.find_map(|name| other_world(name));
    other.map_or(Ok(()), |version| {
        Err(ComponentError::OtherWorld {
            wanted: sanitize_name(version),
        })
    })
}

pub(super) fn is_allowed(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let known_version = match interface.split('/').next() {
        Some("rostro:pipeline") => version::is_run(version),
        Some("wasi:nn") => version == "0.2.0-rc-2024-10-28",
        _ => version.starts_with("0.2."),
    };
    known_version && ALLOWED_IMPORTS.contains(&interface)
}
