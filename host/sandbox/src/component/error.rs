//! Reasons for refusing a component.

use rostro_common::text::{sanitize, sanitize_names};

use super::version::run_versions;
use crate::limits::{LimitReached, MAX_COMPONENT_BYTES};

/// Reason for refusing a component.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The file is larger than any component that is compiled.
    #[error("the component has {size} bytes or more; at most {MAX_COMPONENT_BYTES} are taken")]
    TooLarge {
        /// Size in bytes.
        size: usize,
    },
    /// The file is not a component.
    #[error("{what}; build it for the target wasm32-wasip2")]
    NotAComponent {
        /// Description of the file.
        what: &'static str,
    },
    /// The component needs more than the limits allow.
    #[error("the component hits the {0}")]
    Limit(LimitReached),
    /// The component does not compile.
    #[error("the component is not valid: {}", sanitize(&format!("{:#}", .0)))]
    Invalid(wasmtime::Error),
    /// The component targets an interface version that this host does not support.
    #[error(
        "the component was built for rostro:pipeline@{wanted}, and this host has {runs}: build it \
         against a rostro-sdk (or wit/) of such a version, or run it on a host that has {wanted}",
        runs = run_versions()
    )]
    UnsupportedVersion {
        /// Version that the component targets.
        wanted: String,
    },
    /// The component imports interfaces outside the allow-list.
    #[error(
        "the component imports {}, which this host does not offer; a pipeline may import \
         rostro:pipeline ({runs}), wasi:nn@0.2.0-rc-2024-10-28 and of WASI 0.2 clocks, random and \
         stdio",
        sanitize_names(.0),
        runs = run_versions()
    )]
    ForbiddenImports(Vec<String>),
    /// The component lacks an interface.
    #[error(
        "the component does not export {wanted}; it exports {}",
        if .found.is_empty() { "nothing".to_owned() } else { sanitize_names(.found) }
    )]
    MissingExport {
        /// Missing interface.
        wanted: String,
        /// Exported interfaces.
        found: Vec<String>,
    },
    /// An import or export has another type than the interface.
    #[error(
        "an interface of the component is not what rostro:pipeline says: {0:#}; build it against \
         this host's wit/"
    )]
    InterfaceMismatch(wasmtime::Error),
    /// The component has functions of two minor versions.
    #[error(
        "the component exports functions of two versions of rostro:pipeline; build all of it \
         against one of {runs}",
        runs = run_versions()
    )]
    MixedVersions,
}
