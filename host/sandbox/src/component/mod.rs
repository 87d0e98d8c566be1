//! Compiled and inspected component: imports, exports and instantiation.
//!
//! Untrusted bytes enter through [`CompiledComponent::load`]. It compiles them with Cranelift,
//! which is built for hostile input, and compares the imports with the allow-list. No code of the
//! component runs before that.

pub mod error;
pub mod imports;
pub mod version;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Store, UpdateDeadline};

use rostro_common::cancel::CancelScope;
use rostro_common::digest::Sha256Digest;
use rostro_inference::Models;

use crate::bindings::{policy::PolicyHostIndices, vision::VisionHostIndices};
use crate::engine::Engine;
use crate::guest::Guest;
use crate::guest::linker::add_to_linker;
use crate::guest::state::{GuestInputs, GuestState};
use crate::half::{Half, PerHalf};
use crate::limits::{Limits, Seconds};
use crate::wasmtime_errors;
use error::ComponentError;
use imports::{
    check_header, check_versions, export_name, export_version, is_allowed, is_export_of,
    missing_halves,
};

pub use imports::{Interface, halves, unsupported_version};

/// Component that may be instantiated, within limits.
#[derive(Clone)]
pub struct CompiledComponent {
    inner: Arc<CompiledParts>,
    limits: Arc<Limits>,
    /// Whether its memory is excluded from the budget that requests share.
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
    /// CPU time of its guests.
    seconds: PerHalf<Seconds>,
}

impl CompiledComponent {
    /// Compiles and inspects a component in binary form.
    ///
    /// # Errors
    ///
    /// If the bytes are not a component, import an interface outside the allow-list, or export
    /// neither half in a version that this host runs.
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Self, ComponentError> {
        check_header(bytes)?;
        let component = Component::new(engine.wasmtime(), bytes).map_err(|error| {
            wasmtime_errors::compile_limit(&error, engine.limits())
                .map_or(ComponentError::Invalid(error), ComponentError::Limit)
        })?;
        let names = component.component_type();
        let imports: Vec<String> = names
            .imports(engine.wasmtime())
            .map(|(name, _)| name.to_owned())
            .collect();
        let exports: Vec<String> = names
            .exports(engine.wasmtime())
            .map(|(name, _)| name.to_owned())
            .collect();
        check_versions(imports.iter().chain(&exports))?;
        let forbidden: BTreeSet<&String> =
            imports.iter().filter(|name| !is_allowed(name)).collect();
        if !forbidden.is_empty() {
            return Err(ComponentError::ForbiddenImports(
                forbidden.into_iter().cloned().collect(),
            ));
        }
        let mut linker = Linker::new(engine.wasmtime());
        add_to_linker(&mut linker).map_err(ComponentError::InterfaceMismatch)?;
        let pre = linker
            .instantiate_pre(&component)
            .map_err(ComponentError::InterfaceMismatch)?;
        let has_export = |half: Half| exports.iter().any(|export| is_export_of(half, export));
        let vision = has_export(Half::Vision)
            .then(|| VisionHostIndices::new(&pre))
            .transpose()
            .map_err(ComponentError::InterfaceMismatch)?;
        let policy = has_export(Half::Policy)
            .then(|| PolicyHostIndices::new(&pre))
            .transpose()
            .map_err(ComponentError::InterfaceMismatch)?;
        if vision.is_none() && policy.is_none() {
            return Err(missing_halves(exports));
        }
        let inner = CompiledParts {
            engine: engine.clone(),
            digest: Sha256Digest::of(bytes),
            pre,
            vision,
            policy,
            imports,
            exports,
            seconds: PerHalf::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            limits: Arc::new(engine.limits().clone()),
            outside_shared_memory: false,
        })
    }

    /// Replaces the limits.
    #[must_use]
    pub fn with_limits(self, limits: Arc<Limits>) -> Self {
        Self { limits, ..self }
    }

    /// Returns the component without a time limit, and with memory outside the shared budget. For
    /// staging: it yields to requests, and must not fail because of their load.
    #[must_use]
    pub(crate) fn without_time_limit(&self) -> Self {
        Self {
            outside_shared_memory: true,
            ..self
                .clone()
                .with_limits(Arc::new(self.limits.without_time_limit()))
        }
    }

    /// Returns the limits of its instances.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Fails unless the component exports a half of a pipeline.
    ///
    /// # Errors
    ///
    /// If it lacks the export.
    pub fn require(&self, half: Half) -> Result<(), ComponentError> {
        if self.has_half(half) {
            return Ok(());
        }
        Err(ComponentError::MissingExport {
            wanted: export_name(half),
            found: self.inner.exports.clone(),
        })
    }

    /// Returns true if the component exports a half of a pipeline.
    #[must_use]
    pub fn has_half(&self, half: Half) -> bool {
        match half {
            Half::Vision => self.inner.vision.is_some(),
            Half::Policy => self.inner.policy.is_some(),
        }
    }

    /// Returns true if the half asks for all its settings in `describe`, as of interface 0.1.2.
    pub(crate) fn has_complete_settings(&self, half: Half) -> bool {
        self.inner
            .exports
            .iter()
            .any(|export| export_version(half, export).is_some_and(version::has_complete_settings))
    }

    /// Returns the SHA-256 digest of the component's bytes.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.inner.digest
    }

    /// Returns the names of its imports.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.inner.imports
    }

    /// Returns the names of its exports.
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

    /// Returns the CPU time of its guests for a half.
    pub(crate) fn seconds(&self, half: Half) -> f64 {
        self.inner.seconds.of(half).get()
    }

    /// Makes a fresh instance in a store of its own, which stops when the scope ends.
    pub(crate) fn instantiate(
        &self,
        half: Half,
        inputs: GuestInputs,
        models: &Models,
        scope: &CancelScope,
    ) -> wasmtime::Result<Guest> {
        let CompiledParts { engine, pre, .. } = &*self.inner;
        let limits = &*self.limits;
        let end = limits.end(scope.deadline());
        let meter = engine.meters().of(half);
        let store_meter = if self.outside_shared_memory {
            meter.outside_shared_memory()
        } else {
            meter.clone()
        };
        let mut store = Store::new(
            engine.wasmtime(),
            GuestState::new(limits, store_meter, inputs, models, scope, end),
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
        // Instantiation may run code of the component.
        let model_time = store.data().model_time();
        let instance = meter.time(&model_time, self.inner.seconds.of(half), || {
            pre.instantiate(&mut store)
        })?;
        meter.count_instance();
        Ok(Guest { store, instance })
    }

    /// Runs work in a guest, and counts its CPU time for a half.
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
        f.debug_struct("CompiledComponent")
            .field("digest", &self.inner.digest)
            .field("exports", &self.inner.exports)
            .finish_non_exhaustive()
    }
}
