//! Names of a component's imports and exports, and the allow-list of imports.

use wasmparser::{Parser, Payload};

use rostro_common::text::sanitize_name;

use super::error::ComponentError;
use super::function::Function;
use super::version::{self, Minor, WORLD_VERSION};
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

/// Returns the functions of a pipeline that a component exports, without compiling it.
///
/// # Errors
///
/// If the bytes are not a component, or export none.
pub fn functions(bytes: &[u8]) -> Result<Vec<Function>, ComponentError> {
    let Interface { imports, exports } = Interface::parse(bytes)?;
    check_versions(imports.iter().chain(&exports))?;
    let versions = exported_versions(&exports)?;
    let functions = [Function::Vision].into_iter().chain(Function::RULES);
    Ok(functions
        .filter(|function| versions.has(function.interface(versions.minor)))
        .collect())
}

/// Interfaces of a pipeline that a component exports.
pub(super) struct ExportedVersions<'a> {
    interfaces: Vec<&'a str>,
    /// Minor version of all of them.
    pub(super) minor: Minor,
    /// Whether a component for 0.1 asks for all its settings in `describe`.
    pub(super) has_complete_settings: bool,
}

impl ExportedVersions<'_> {
    /// Returns true if the component exports an interface.
    pub(super) fn has(&self, interface: &str) -> bool {
        self.interfaces.contains(&interface)
    }
}

/// Finds the interfaces of a pipeline among the names of exports.
///
/// # Errors
///
/// If no function is exported, or if functions have different minor versions.
pub(super) fn exported_versions(
    exports: &[String],
) -> Result<ExportedVersions<'_>, ComponentError> {
    let found: Vec<(&str, &str, Minor)> = exports
        .iter()
        .filter_map(|export| {
            let (name, version) = pipeline_interface(export)?;
            Some((name, version, Minor::of(version)?))
        })
        .collect();
    let has_function = |minor: Minor| {
        let names: &[&str] = match minor {
            Minor::V0_1 => &["vision", "policy"],
            Minor::V0_2 => &["vision", "review", "template", "decide"],
        };
        found
            .iter()
            .any(|(name, _, of)| *of == minor && names.contains(name))
    };
    let minor = match (has_function(Minor::V0_1), has_function(Minor::V0_2)) {
        (false, false) => return Err(missing_functions(exports)),
        (true, true) => return Err(ComponentError::MixedVersions),
        (true, false) => Minor::V0_1,
        (false, true) => Minor::V0_2,
    };
    let of_minor = || found.iter().filter(move |(_, _, of)| *of == minor);
    let versions = ExportedVersions {
        interfaces: of_minor().map(|(name, _, _)| *name).collect(),
        minor,
        has_complete_settings: of_minor()
            .all(|(_, version, _)| version::has_complete_settings(version)),
    };
    match minor {
        Minor::V0_2 if !versions.has("about") => Err(ComponentError::MissingExport {
            wanted: format!("rostro:pipeline/about@{}", minor.latest()),
            found: exports.to_vec(),
        }),
        Minor::V0_1 | Minor::V0_2 => Ok(versions),
    }
}

/// Returns the error of a component that exports no function of a pipeline.
fn missing_functions(exports: &[String]) -> ComponentError {
    ComponentError::MissingExport {
        wanted: format!(
            "rostro:pipeline/about@{version} with rostro:pipeline/vision@{version} or a rule",
            version = WORLD_VERSION
        ),
        found: exports.to_vec(),
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
