//! One component, compiled and inspected: what it imports, what it exports, and how it is instantiated.
//!
//! Anything a stranger gives us comes through [`Plugin::load`]. It is compiled (by Cranelift, which is built for hostile input) and
//! compared with the allow-list; nothing of it runs before that.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use wasmparser::{Parser, Payload};
use wasmtime::Store;
use wasmtime::component::{Component, Instance, InstancePre, Linker};

use crate::bindings::{policy::PolicyHostIndices, vision::VisionHostIndices};
use crate::digest::Sha256Digest;
use crate::engine::{Engine, ticks_until};
use crate::inference::Models;
use crate::limits::{LimitReached, Limits};
use crate::settings::Settings;
use crate::state::{GuestState, add_to_linker};

/// The version of `rostro:pipeline` that this host serves.
pub const WORLD_VERSION: &str = "0.1.0";

/// The largest component that is compiled. JavaScript and Python components bring their interpreters, 12 to 18 MB.
pub(crate) const MAX_COMPONENT_BYTES: usize = 64 << 20;

/// The interfaces that a component may import, without their versions. Those of WASI are inert here: there are no files,
/// arguments, variables or sockets behind them, standard input is empty and standard output goes nowhere. Files are
/// on the list because every Rust component imports them with its standard library; without an opened directory to begin at,
/// none of their functions can be called on anything.
const ALLOWED_IMPORTS: &[&str] = &[
    "rostro:pipeline/types",
    "rostro:pipeline/settings",
    "rostro:pipeline/telemetry",
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
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Policy => "policy",
        }
    }

    fn export(self) -> String {
        format!("rostro:pipeline/{}@{WORLD_VERSION}", self.name())
    }
}

/// Why a file is no component that this host can run.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// More bytes than are compiled.
    #[error("the component has {size} bytes or more; at most {MAX_COMPONENT_BYTES} are taken")]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// Not a component at all.
    #[error("{what}; build it for the target wasm32-wasip2")]
    NotAComponent {
        /// What it is instead.
        what: &'static str,
    },
    /// It has more of something than any guest gets.
    #[error("the component hits the {0}")]
    Limit(LimitReached),
    /// A component that does not compile.
    #[error("the component is not valid: {0:#}")]
    Invalid(wasmtime::Error),
    /// It imports what no guest gets.
    #[error(
        "the component imports {}, which this host does not offer; a pipeline may import rostro:pipeline@{WORLD_VERSION}, wasi:nn@0.2.0-rc-2024-10-28 \
         and of WASI 0.2 clocks, random and stdio",
        .0.join(", ")
    )]
    ForbiddenImports(Vec<String>),
    /// An interface is missing.
    #[error("the component does not export {wanted}; it exports {}", if .found.is_empty() { "nothing".to_owned() } else { .found.join(", ") })]
    MissingExport {
        /// The interface that was looked for.
        wanted: String,
        /// What it exports.
        found: Vec<String>,
    },
    /// An import or export has another type than the interface says.
    #[error(
        "the component was built against another rostro:pipeline than {WORLD_VERSION}: {0:#}; build it against this host's wit/rostro.wit"
    )]
    WrongWorld(wasmtime::Error),
}

/// A component that may be run, within limits.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
    limits: Arc<Limits>,
}

struct Inner {
    engine: Engine,
    digest: Sha256Digest,
    pre: InstancePre<GuestState>,
    vision: Option<VisionHostIndices>,
    policy: Option<PolicyHostIndices>,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Plugin {
    /// Compiles and inspects a component, from its binary form.
    ///
    /// # Errors
    ///
    /// If it is no component, imports anything forbidden, or exports neither or an unknown form of the two interfaces.
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Self, PluginError> {
        refuse_others(bytes)?;
        let component = Component::new(engine.wasmtime(), bytes).map_err(|error| not_compiled(error, engine.limits()))?;
        let names = component.component_type();
        let imports: Vec<String> = names.imports(engine.wasmtime()).map(|(name, _)| name.to_owned()).collect();
        let exports: Vec<String> = names.exports(engine.wasmtime()).map(|(name, _)| name.to_owned()).collect();
        let forbidden: BTreeSet<&String> = imports.iter().filter(|name| !is_allowed(name)).collect();
        if !forbidden.is_empty() {
            return Err(PluginError::ForbiddenImports(forbidden.into_iter().cloned().collect()));
        }
        let mut linker = Linker::new(engine.wasmtime());
        add_to_linker(&mut linker).map_err(PluginError::WrongWorld)?;
        let pre = linker.instantiate_pre(&component).map_err(PluginError::WrongWorld)?;
        let has = |half: Half| exports.contains(&half.export());
        let vision = has(Half::Vision).then(|| VisionHostIndices::new(&pre)).transpose().map_err(PluginError::WrongWorld)?;
        let policy = has(Half::Policy).then(|| PolicyHostIndices::new(&pre)).transpose().map_err(PluginError::WrongWorld)?;
        if vision.is_none() && policy.is_none() {
            let wanted = format!("{} or {}", Half::Vision.export(), Half::Policy.export());
            return Err(PluginError::MissingExport { wanted, found: exports });
        }
        let digest = Sha256Digest::of(bytes);
        let limits = Arc::new(engine.limits().clone());
        Ok(Self { inner: Arc::new(Inner { engine: engine.clone(), digest, pre, vision, policy, imports, exports }), limits })
    }

    /// The same component, held to these limits.
    #[must_use]
    pub fn within(self, limits: Arc<Limits>) -> Self {
        Self { limits, ..self }
    }

    /// The same component, not held to a time of its own: for what is no request, and done where others go first.
    #[must_use]
    pub(crate) fn unhurried(&self) -> Self {
        self.clone().within(Arc::new(self.limits.unhurried()))
    }

    /// What its instances are held to.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Fails unless the component can serve as that half of a pipeline.
    ///
    /// # Errors
    ///
    /// If it lacks the export.
    pub fn require(&self, half: Half) -> Result<(), PluginError> {
        if self.serves(half) {
            return Ok(());
        }
        Err(PluginError::MissingExport { wanted: half.export(), found: self.inner.exports.clone() })
    }

    /// Whether the component exports that half of a pipeline.
    #[must_use]
    pub fn serves(&self, half: Half) -> bool {
        match half {
            Half::Vision => self.inner.vision.is_some(),
            Half::Policy => self.inner.policy.is_some(),
        }
    }

    /// SHA-256 of the component's bytes.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.inner.digest
    }

    /// The interfaces that it imports.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.inner.imports
    }

    /// The interfaces that it exports.
    #[must_use]
    pub fn exports(&self) -> &[String] {
        &self.inner.exports
    }

    pub(crate) fn vision(&self) -> Option<&VisionHostIndices> {
        self.inner.vision.as_ref()
    }

    pub(crate) fn policy(&self) -> Option<&PolicyHostIndices> {
        self.inner.policy.as_ref()
    }

    /// A fresh instance in a store of its own, to be done by `deadline`.
    pub(crate) fn instantiate(&self, settings: Arc<Settings>, models: &Models, deadline: Instant) -> wasmtime::Result<Guest> {
        let Inner { engine, pre, .. } = &*self.inner;
        let limits = &*self.limits;
        let end = limits.end(deadline);
        let mut store = Store::new(engine.wasmtime(), GuestState::new(limits, settings, models, deadline, end));
        store.limiter(|state| state);
        store.set_hostcall_fuel(limits.transfer_bytes());
        store.set_max_component_handles(limits.handles());
        store.set_epoch_deadline(ticks_until(end));
        let instance = pre.instantiate(&mut store)?;
        Ok(Guest { store, instance })
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("digest", &self.inner.digest).field("exports", &self.inner.exports).finish_non_exhaustive()
    }
}

/// Why a component was not compiled: where it wants more than there is, by the limit's name, which Wasmtime does not know.
fn not_compiled(error: wasmtime::Error, limits: &Limits) -> PluginError {
    let cause = error.root_cause().to_string();
    let number_before = |end: &str| {
        let before = cause.split_once(end).and_then(|(before, _)| before.rsplit(' ').next());
        before.and_then(|number| number.parse().ok()).unwrap_or_default()
    };
    if cause.contains("core module instances") {
        let wanted = number_before(" core module instances");
        return PluginError::Limit(LimitReached::wanted("instances", limits.instances(), 0, wanted));
    }
    if cause.contains("minimum element size") {
        let wanted = number_before(" which exceeds the limit of");
        return PluginError::Limit(LimitReached::wanted("table-elements", limits.table_elements(), 0, wanted));
    }
    if cause.contains("minimum byte size") {
        let wanted = number_before(" which exceeds the limit of");
        return PluginError::Limit(LimitReached::memory(limits.memory_bytes(), 0, wanted));
    }
    PluginError::Invalid(error)
}

/// A running component.
pub(crate) struct Guest {
    pub(crate) store: Store<GuestState>,
    pub(crate) instance: Instance,
}

/// What a component imports and exports by name, read from its bytes alone.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

impl Names {
    /// The names of a component; nothing is compiled.
    ///
    /// # Errors
    ///
    /// If it is no component.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, PluginError> {
        refuse_others(bytes)?;
        let invalid = |error: wasmparser::BinaryReaderError| PluginError::Invalid(error.into());
        let mut names = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(invalid)? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        names.exports.push(export.map_err(invalid)?.name.name.to_owned());
                    }
                }
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        names.imports.push(import.map_err(invalid)?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(names)
    }

    /// The imports that no guest gets.
    pub(crate) fn forbidden(&self) -> impl Iterator<Item = &str> {
        self.imports.iter().map(String::as_str).filter(|name| !is_allowed(name))
    }
}

/// The halves of a pipeline that a component exports, read from its bytes alone: nothing is compiled.
///
/// # Errors
///
/// If it is no component, or exports neither.
pub(crate) fn halves(bytes: &[u8]) -> Result<Vec<Half>, PluginError> {
    let exports = Names::of(bytes)?.exports;
    let halves: Vec<Half> = [Half::Vision, Half::Policy].into_iter().filter(|half| exports.contains(&half.export())).collect();
    if halves.is_empty() {
        let wanted = format!("{} or {}", Half::Vision.export(), Half::Policy.export());
        return Err(PluginError::MissingExport { wanted, found: exports });
    }
    Ok(halves)
}

/// Refuses what is no component with words for what it is; the compiler's own would be about bytes.
fn refuse_others(bytes: &[u8]) -> Result<(), PluginError> {
    if bytes.len() > MAX_COMPONENT_BYTES {
        return Err(PluginError::TooLarge { size: bytes.len() });
    }
    let what = match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => return Ok(()),
        Some(b"\0asm\x01\0\0\0") => "this is a core WebAssembly module, not a component",
        Some(header) if header.starts_with(b"\x7fELF") => "this is a native or precompiled file, not a component",
        _ => "this is not a WebAssembly component",
    };
    Err(PluginError::NotAComponent { what })
}

fn is_allowed(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let known_version = match interface.split('/').next() {
        Some("rostro:pipeline") => version == WORLD_VERSION,
        Some("wasi:nn") => version == "0.2.0-rc-2024-10-28",
        _ => version.starts_with("0.2."),
    };
    known_version && ALLOWED_IMPORTS.contains(&interface)
}
