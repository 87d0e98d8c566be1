//! One component, compiled and inspected: what it imports, what it exports, and how it is
//! instantiated.
//!
//! Anything a stranger gives us comes through [`CompiledComponent::load`]. It is compiled (by Cranelift, which
//! is built for hostile input) and compared with the allow-list; nothing of it runs before that.

pub mod frames;
pub mod imports;
pub mod version;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use wasmtime::component::{Component, Instance, InstancePre, Linker};
use wasmtime::{Store, UpdateDeadline};

use rostro_common::cancel::CancelScope;
use rostro_common::digest::Sha256Digest;
use rostro_common::text::{sanitize, sanitize_names};
use rostro_inference::Models;

use crate::bindings::{policy::PolicyHostIndices, vision::VisionHostIndices};
use crate::component::version::{WORLD_VERSION, run_versions};
use crate::engine::Engine;
use crate::guest::state::{GuestInputs, GuestState, add_to_linker};
use crate::limits::{LimitReached, Limits, Seconds};
use imports::{is_allowed, refuse_other_worlds, refuse_others};

pub use imports::Half;
pub use imports::{Interface, PerHalf, halves, other_world};

/// The largest component that is compiled. JavaScript and Python components bring their
/// interpreters, 12 to 18 MB.
pub const MAX_COMPONENT_BYTES: usize = 64 << 20;

/// Why a file is no component that this host can run.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
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
    #[error("the component is not valid: {}", sanitize(&format!("{:#}", .0)))]
    Invalid(wasmtime::Error),
    /// It was built for an interface of ours that this host has not.
    #[error(
        "the component was built for rostro:pipeline@{wanted}, and this host has {WORLD_VERSION}: build it against a rostro-sdk (or \
         wit/rostro.wit) of version {runs}, or run it on a host that has {wanted}", runs = run_versions()
    )]
    OtherWorld {
        /// The version that it was built for.
        wanted: String,
    },
    /// It imports what no guest gets.
    #[error(
        "the component imports {}, which this host does not offer; a pipeline may import rostro:pipeline@{WORLD_VERSION}, wasi:nn@0.2.0-rc-2024-10-28 \
         and of WASI 0.2 clocks, random and stdio",
        sanitize_names(.0)
    )]
    ForbiddenImports(Vec<String>),
    /// An interface is missing.
    #[error("the component does not export {wanted}; it exports {}", if .found.is_empty() { "nothing".to_owned() } else { sanitize_names(.found) })]
    MissingExport {
        /// The interface that was looked for.
        wanted: String,
        /// What it exports.
        found: Vec<String>,
    },
    /// An import or export has another type than the interface says.
    #[error(
        "an interface of the component is not what rostro:pipeline@{WORLD_VERSION} says: {0:#}; build it against this host's wit/rostro.wit"
    )]
    WrongWorld(wasmtime::Error),
}

/// A component that may be run, within limits.
#[derive(Clone)]
pub struct CompiledComponent {
    inner: Arc<CompiledParts>,
    limits: Arc<Limits>,
    /// Whether its memory is not of what requests share.
    outside_shared_memory: bool,
}

struct CompiledParts {
    engine: Engine,
    digest: Sha256Digest,
    pre: InstancePre<GuestState>,
    vision: Option<VisionHostIndices>,
    policy: Option<PolicyHostIndices>,
    imports: Vec<String>,
    exports: Vec<String>,
    /// What its guests took of the processor.
    seconds: PerHalf<Seconds>,
}

impl CompiledComponent {
    /// Compiles and inspects a component, from its binary form.
    ///
    /// # Errors
    ///
    /// If it is no component, imports anything forbidden, or exports neither or an unknown form of
    /// the two interfaces.
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Self, ComponentError> {
        refuse_others(bytes)?;
        let component = Component::new(engine.wasmtime(), bytes)
            .map_err(|error| not_compiled(error, engine.limits()))?;
        let names = component.component_type();
        let imports: Vec<String> = names
            .imports(engine.wasmtime())
            .map(|(name, _)| name.to_owned())
            .collect();
        let exports: Vec<String> = names
            .exports(engine.wasmtime())
            .map(|(name, _)| name.to_owned())
            .collect();
        refuse_other_worlds(imports.iter().chain(&exports))?;
        let forbidden: BTreeSet<&String> =
            imports.iter().filter(|name| !is_allowed(name)).collect();
        if !forbidden.is_empty() {
            return Err(ComponentError::ForbiddenImports(
                forbidden.into_iter().cloned().collect(),
            ));
        }
        let mut linker = Linker::new(engine.wasmtime());
        add_to_linker(&mut linker).map_err(ComponentError::WrongWorld)?;
        let pre = linker
            .instantiate_pre(&component)
            .map_err(ComponentError::WrongWorld)?;
        let has = |half: Half| exports.iter().any(|export| half.is(export));
        let vision = has(Half::Vision)
            .then(|| VisionHostIndices::new(&pre))
            .transpose()
            .map_err(ComponentError::WrongWorld)?;
        let policy = has(Half::Policy)
            .then(|| PolicyHostIndices::new(&pre))
            .transpose()
            .map_err(ComponentError::WrongWorld)?;
        if vision.is_none() && policy.is_none() {
            let wanted = format!("{} or {}", Half::Vision.export(), Half::Policy.export());
            return Err(ComponentError::MissingExport {
                wanted,
                found: exports,
            });
        }
        let digest = Sha256Digest::of(bytes);
        let limits = Arc::new(engine.limits().clone());
        let inner = CompiledParts {
            engine: engine.clone(),
            digest,
            pre,
            vision,
            policy,
            imports,
            exports,
            seconds: PerHalf::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            limits,
            outside_shared_memory: false,
        })
    }

    /// The same component, held to these limits.
    #[must_use]
    pub fn within(self, limits: Arc<Limits>) -> Self {
        Self { limits, ..self }
    }

    /// The same component, not held to a time of its own, nor to the memory that requests share:
    /// for what is no request, is done where others go first, and must not fail for their pictures.
    #[must_use]
    pub(crate) fn without_time_limit(&self) -> Self {
        Self {
            outside_shared_memory: true,
            ..self
                .clone()
                .within(Arc::new(self.limits.without_time_limit()))
        }
    }

    /// What its instances are held to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Fails unless the component can serve as that half of a pipeline.
    ///
    /// # Errors
    ///
    /// If it lacks the export.
    pub fn require(&self, half: Half) -> Result<(), ComponentError> {
        if self.serves(half) {
            return Ok(());
        }
        Err(ComponentError::MissingExport {
            wanted: half.export(),
            found: self.inner.exports.clone(),
        })
    }

    /// Whether the component exports that half of a pipeline.
    #[must_use]
    pub fn serves(&self, half: Half) -> bool {
        match half {
            Half::Vision => self.inner.vision.is_some(),
            Half::Policy => self.inner.policy.is_some(),
        }
    }

    /// Whether the half was built for an interface of which components ask for all their settings
    /// in `describe`: 0.1.2 and later.
    pub(crate) fn asks_for_all_settings(&self, half: Half) -> bool {
        self.inner
            .exports
            .iter()
            .any(|export| half.version(export).is_some_and(version::is_asking))
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

    /// Time on the processor that its guests took so far for that half.
    pub(crate) fn seconds(&self, half: Half) -> f64 {
        self.inner.seconds.of(half).get()
    }

    /// A fresh instance in a store of its own, made for that half, which is stopped when it is not
    /// wanted any more.
    pub(crate) fn instantiate(
        &self,
        half: Half,
        given: GuestInputs,
        models: &Models,
        scope: &CancelScope,
    ) -> wasmtime::Result<Guest> {
        let CompiledParts { engine, pre, .. } = &*self.inner;
        let limits = &*self.limits;
        let end = limits.end(scope.deadline());
        let meter = engine.meters().of(half);
        let counted = if self.outside_shared_memory {
            meter.apart()
        } else {
            meter.clone()
        };
        let mut store = Store::new(
            engine.wasmtime(),
            GuestState::new(limits, counted, given, models, scope, end),
        );
        store.limiter(|state| state);
        store.set_hostcall_fuel(limits.transfer_bytes());
        store.set_max_component_handles(limits.handles());
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            Ok(if store.data().is_overdue() {
                UpdateDeadline::Interrupt
            } else {
                UpdateDeadline::Continue(1)
            })
        });
        // Its own code may begin here.
        let model_time = store.data().model_time();
        let instance = meter.time(&model_time, self.inner.seconds.of(half), || {
            pre.instantiate(&mut store)
        })?;
        meter.note_instance();
        Ok(Guest { store, instance })
    }

    /// Has a guest work for that half.
    pub(crate) fn call<T>(
        &self,
        half: Half,
        guest: &mut Guest,
        work: impl FnOnce(&mut Guest) -> T,
    ) -> T {
        let model_time = guest.store.data().model_time();
        self.inner
            .engine
            .meters()
            .of(half)
            .time(&model_time, self.inner.seconds.of(half), || work(guest))
    }
}

impl fmt::Debug for CompiledComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("digest", &self.inner.digest)
            .field("exports", &self.inner.exports)
            .finish_non_exhaustive()
    }
}

/// Why a component was not compiled: where it wants more than there is, by the limit's name, which
/// Wasmtime does not know.
fn not_compiled(error: wasmtime::Error, limits: &Limits) -> ComponentError {
    let cause = error.root_cause().to_string();
    let number_before = |end: &str| {
        let before = cause
            .split_once(end)
            .and_then(|(before, _)| before.rsplit(' ').next());
        before
            .and_then(|number| number.parse().ok())
            .unwrap_or_default()
    };
    if cause.contains("core module instances") {
        let wanted = number_before(" core module instances");
        return ComponentError::Limit(LimitReached::wanted(
            "instances",
            limits.instances(),
            0,
            wanted,
        ));
    }
    if cause.contains("minimum element size") {
        let wanted = number_before(" which exceeds the limit of");
        return ComponentError::Limit(LimitReached::wanted(
            "table-elements",
            limits.table_elements(),
            0,
            wanted,
        ));
    }
    if cause.contains("minimum byte size") {
        let wanted = number_before(" which exceeds the limit of");
        return ComponentError::Limit(LimitReached::memory(limits.memory_bytes(), 0, wanted));
    }
    ComponentError::Invalid(error)
}

/// A running component.
pub(crate) struct Guest {
    pub(crate) store: Store<GuestState>,
    pub(crate) instance: Instance,
}
