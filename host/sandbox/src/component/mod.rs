//! Compiled and inspected component: imports, exports and instantiation.
//!
//! Untrusted bytes enter through [`CompiledComponent::load`]. It compiles them with Cranelift,
//! which is built for hostile input, and compares the imports with the allow-list. No code of the
//! component runs before that.

pub mod error;
pub(crate) mod exports;
mod function;
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

use crate::engine::Engine;
use crate::guest::Guest;
use crate::guest::linker::add_to_linker;
use crate::guest::state::{GuestInputs, GuestState};
use crate::half::{Half, PerHalf};
use crate::limits::{Limits, Seconds};
use crate::wasmtime_errors;
use error::ComponentError;
use exports::Exports;
use imports::{check_header, check_versions, is_allowed};
use version::Minor;

pub use function::Function;
pub use imports::{Interface, functions, unsupported_version};

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
    functions: Exports,
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
    /// no function of a pipeline in a version that this host runs.
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
        let functions = Exports::find(&pre, &exports)?;
        let inner = CompiledParts {
            engine: engine.clone(),
            digest: Sha256Digest::of(bytes),
            pre,
            functions,
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

    /// Returns true if the component has a function of a pipeline.
    #[must_use]
    pub fn has(&self, function: Function) -> bool {
        self.inner.functions.has(function)
    }

    /// Returns true if the component has a function of a half.
    #[must_use]
    pub fn has_half(&self, half: Half) -> bool {
        match half {
            Half::Vision => self.has(Function::Vision),
            Half::Policy => Function::RULES
                .into_iter()
                .any(|function| self.has(function)),
        }
    }

    /// Returns the minor version of `rostro:pipeline` that it was built for.
    #[must_use]
    pub fn minor(&self) -> Minor {
        self.inner.functions.minor()
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

    pub(crate) fn functions(&self) -> &Exports {
        &self.inner.functions
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
