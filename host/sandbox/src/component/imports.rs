//! Names of a component's imports and exports, and the allow-list of imports.

use wasmparser::{Parser, Payload};

use rostro_common::text::sanitize_name;

use super::error::ComponentError;
use super::version::{self, WORLD_VERSION};
use crate::half::Half;
use crate::limits::MAX_COMPONENT_BYTES;

/// Interfaces that a component may import, without their versions.
///
/// Those of WASI are inert: they reach no files, arguments, variables or sockets, standard input is
/// empty, and standard output is discarded. Files are allowed because the standard library of every
/// Rust component imports them. No function of theirs can be called without an opened directory.
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

/// Names of a component's imports and exports, read without compiling it.
#[derive(Debug, Default)]
pub struct Interface {
    /// Names of the imports.
    pub imports: Vec<String>,
    /// Names of the exports.
    pub exports: Vec<String>,
}

impl Interface {
    /// Reads the names from a component's bytes.
    ///
    /// # Errors
    ///
    /// If the bytes are not a component.
    pub fn parse(bytes: &[u8]) -> Result<Self, ComponentError> {
        check_header(bytes)?;
        let invalid = |error: wasmparser::BinaryReaderError| ComponentError::Invalid(error.into());
        let mut interface = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(invalid)? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let name = export.map_err(invalid)?.name.name;
                        interface.exports.push(name.to_owned());
                    }
                }
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let name = import.map_err(invalid)?.name.name;
                        interface.imports.push(name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(interface)
    }

    /// Returns the imports outside the allow-list.
    pub fn forbidden_imports(&self) -> impl Iterator<Item = &str> {
        self.imports
            .iter()
            .map(String::as_str)
            .filter(|name| !is_allowed(name))
    }
}

/// Returns the halves of a pipeline that a component exports, without compiling it.
///
/// # Errors
///
/// If the bytes are not a component, or export neither half.
pub fn halves(bytes: &[u8]) -> Result<Vec<Half>, ComponentError> {
    let Interface { imports, exports } = Interface::parse(bytes)?;
    check_versions(imports.iter().chain(&exports))?;
    let halves: Vec<Half> = Half::ALL
        .into_iter()
        .filter(|half| exports.iter().any(|export| is_export_of(*half, export)))
        .collect();
    if halves.is_empty() {
        return Err(missing_halves(exports));
    }
    Ok(halves)
}

/// Returns the error of a component that exports neither half.
pub(super) fn missing_halves(exports: Vec<String>) -> ComponentError {
    ComponentError::MissingExport {
        wanted: Half::ALL.map(export_name).join(" or "),
        found: exports,
    }
}

/// Refuses other files by their header, because the compiler would report an offset of bytes.
pub(super) fn check_header(bytes: &[u8]) -> Result<(), ComponentError> {
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

/// Returns the name of a half's interface in this host's version.
pub(super) fn export_name(half: Half) -> String {
    format!("rostro:pipeline/{}@{WORLD_VERSION}", half.name())
}

/// Returns true if an export is this half, in a version that this host runs.
pub(super) fn is_export_of(half: Half, export: &str) -> bool {
    export_version(half, export).is_some()
}

/// Returns the version of an export that is this half, if this host runs it.
pub(super) fn export_version(half: Half, export: &str) -> Option<&str> {
    pipeline_interface(export)
        .filter(|(name, version)| *name == half.name() && version::is_supported(version))
        .map(|(_, version)| version)
}

/// Splits the name of an interface of `rostro:pipeline` into name and version.
fn pipeline_interface(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("rostro:pipeline/")?.split_once('@')
}

/// Returns the version of `rostro:pipeline` in the name of an import or export, if this host does
/// not run it.
pub fn unsupported_version(name: &str) -> Option<&str> {
    pipeline_interface(name)
        .map(|(_, version)| version)
        .filter(|version| !version::is_supported(version))
}

/// Refuses names with a version of `rostro:pipeline` that this host does not run.
pub(super) fn check_versions<'a>(
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), ComponentError> {
    let unsupported = names.find_map(|name| unsupported_version(name));
    unsupported.map_or(Ok(()), |version| {
        Err(ComponentError::UnsupportedVersion {
            wanted: sanitize_name(version),
        })
    })
}

/// Returns true if the allow-list has the import.
pub(super) fn is_allowed(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let is_known_version = match interface.split('/').next() {
        Some("rostro:pipeline") => version::is_supported(version),
        Some("wasi:nn") => version == "0.2.0-rc-2024-10-28",
        _ => version.starts_with("0.2."),
    };
    is_known_version && ALLOWED_IMPORTS.contains(&interface)
}
