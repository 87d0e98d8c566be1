//! The `wasi:nn` backend: runs ONNX models for guests in ONNX Runtime.
//!
//! | module | content |
//! | --- | --- |
//! | this page | [`OnnxRuntime`], the loaded library, and [`Models`], which one revision may load |
//! | `model` | [`Model`], one network: checks inputs and distributes runs over the cores |
//! | [`precision`] | floats or 8-bit integers: the operator's mode and a guest's grant |
//! | `variant` | the 8-bit variant of a model, and where it is faster |
//! | `sessions` | pools of single-threaded and multi-threaded sessions |
//! | `signature` | inputs and outputs that a network declares |
//! | `tensor` | conversion of tensors between `wasi:nn` and ONNX Runtime |
//! | [`graph`] | a model as a graph of `wasi:nn` |
//! | [`model_time`] | processor time of a guest in models |
//! | `error`, [`metrics`] | errors and metrics |
//!
//! - Limits: a guest cannot load its own bytes, because no backend is registered and `load` fails.
//!   Tensors are checked before ONNX Runtime gets them. All runs together use at most one thread
//!   for each core: a single run uses all of them, eight runs use one each.
//! - Cost: one copy of an output tensor. Inputs are borrowed.
//!
//! Among the host's crates (rostro → api → service → sandbox → {inference, models}, service →
//! {gallery, index}, all → common) it uses only common, and the sandbox uses it. Sessions and
//! tensors of ONNX Runtime stay inside it.

mod error;
pub mod graph;
pub mod metrics;
mod model;
pub mod model_time;
pub mod precision;
mod sessions;
mod signature;
mod tensor;
mod variant;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;
use wasmtime_wasi_nn::Registry;
use wasmtime_wasi_nn::wit::WasiNnCtx;

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::digest::Sha256Digest;
use rostro_common::text::sanitize;

use crate::model_time::ModelTime;
use crate::precision::{PrecisionGrant, PrecisionMode};
use graph::{ModelRegistry, RunContext};
use model::WeakModel;

pub use error::ModelError;
pub use graph::LastFailure;
pub use metrics::ModelMeters;
pub use model::{Batching, Model};
pub use wasmtime_wasi_nn::Tensor;
pub use wasmtime_wasi_nn::backend::NamedTensor;
pub use wasmtime_wasi_nn::wit::TensorType;

/// ONNX Runtime, loaded into this process with one pool of threads for all models.
#[derive(Clone, Debug)]
pub struct OnnxRuntime {
    environment: Environment,
    cores: Cores,
    loaded: Arc<Mutex<Vec<(ModelKey, WeakModel)>>>,
    meters: ModelMeters,
    precision: PrecisionMode,
}

/// Identity of a loaded model. Revisions with equal keys share its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelKey {
    name: String,
    original: Sha256Digest,
    int8: Option<Sha256Digest>,
    batching: Batching,
}

/// ONNX bytes of a model.
#[derive(Clone, Copy, Debug)]
pub struct ModelBytes<'a> {
    /// The model in floats.
    pub original: &'a [u8],
    /// Its variant in 8-bit integers, with equal inputs and outputs.
    pub int8: Option<&'a [u8]>,
}

/// Error of ONNX Runtime's library.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not a loadable library, or has another version.
    #[error(
        "cannot load ONNX Runtime from {path}: {cause}; reinstall it with `rostro runtime install \
         --force`"
    )]
    Library {
        /// Path of the library.
        path: String,
        /// Error of the loader.
        cause: String,
    },
    /// The library rejects its configuration.
    #[error("cannot start ONNX Runtime: {0}")]
    Start(#[from] ort::Error),
}

/// Logs a message of ONNX Runtime, which would otherwise block on standard error. The level is
/// debug, because a failed call returns its error anyway, and guests can cause failures at will.
fn log(_: LogLevel, category: &str, _: &str, location: &str, message: &str) {
    tracing::debug!(category, location, "ONNX Runtime: {}", sanitize(message));
}

impl OnnxRuntime {
    /// Loads the library at `path` for `cores`.
    ///
    /// Multi-threaded runs share one pool that does not spin, because spinning threads would take
    /// cores from other work.
    ///
    /// # Errors
    ///
    /// If the library cannot be loaded or started, or if this process loaded it before.
    pub fn load(path: &Path, cores: Cores) -> Result<Self, LoadError> {
        let builder = ort::init_from(path).map_err(|error| LoadError::Library {
            path: path.display().to_string(),
            cause: error.to_string(),
        })?;
        let pool = GlobalThreadPoolOptions::default()
            .with_intra_threads(cores.count())?
            .with_inter_threads(1)?
            .with_spin_control(false)?;
        let environment = builder
            .with_name("rostro")
            .with_telemetry(false)
            .with_global_thread_pool(pool)
            .with_logger(Arc::new(log))
            .build()?;
        environment.set_log_level(LogLevel::Error);
        Ok(Self {
            environment,
            cores,
            loaded: Arc::default(),
            meters: ModelMeters::default(),
            precision: PrecisionMode::Float,
        })
    }

    /// Sets the precision of models that are loaded from now on; floats by default.
    #[must_use]
    pub fn with_precision(self, precision: PrecisionMode) -> Self {
        Self { precision, ..self }
    }

    /// Returns the precision of its models.
    #[must_use]
    pub fn precision(&self) -> PrecisionMode {
        self.precision
    }

    /// Returns the library's environment, for sessions other than those of the models.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns the metrics of the models.
    pub fn meters(&self) -> &ModelMeters {
        &self.meters
    }

    /// Prepares a model from its ONNX bytes, or returns a model from the same bytes that is still
    /// in use.
    ///
    /// # Errors
    ///
    /// If ONNX Runtime cannot run the bytes, or if the variant has other inputs or outputs.
    pub fn model(
        &self,
        name: &str,
        bytes: ModelBytes<'_>,
        batching: Batching,
    ) -> Result<Model, ModelError> {
        let bytes = match self.precision {
            PrecisionMode::Float => ModelBytes {
                int8: None,
                ..bytes
            },
            PrecisionMode::Auto | PrecisionMode::Int8 => bytes,
        };
        let key = ModelKey {
            name: name.to_owned(),
            original: Sha256Digest::of(bytes.original),
            int8: bytes.int8.map(Sha256Digest::of),
            batching,
        };
        // Locked during the preparation, so that two staged revisions do not prepare the same model
        // twice.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|(_, model)| model.is_used());
        if let Some(model) = loaded
            .iter()
            .filter(|(other, _)| *other == key)
            .find_map(|(_, model)| model.get())
        {
            return Ok(model);
        }
        let model = Model::new(
            &self.environment,
            self.cores.clone(),
            &self.meters,
            name,
            bytes,
            batching,
            self.precision,
        )?;
        loaded.push((key, model.weak()));
        Ok(model)
    }
}

/// Models of one revision by their name for `load-by-name`.
#[derive(Clone, Debug, Default)]
pub struct Models(Arc<HashMap<String, Model>>);

impl Models {
    /// Creates a set of models.
    #[must_use]
    pub fn new(models: impl IntoIterator<Item = (String, Model)>) -> Self {
        Self(Arc::new(models.into_iter().collect()))
    }

    /// Returns a model by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Model> {
        self.0.get(name)
    }

    /// Returns the `wasi:nn` context of a store that may use only these models. A failed run sets
    /// `failure`, every run adds to `time`, no run begins after `scope` ends, and `precision`
    /// permits and records 8-bit runs.
    pub fn context(
        &self,
        failure: &LastFailure,
        time: &ModelTime,
        scope: &CancelScope,
        precision: &PrecisionGrant,
    ) -> WasiNnCtx {
        let context = RunContext {
            failure: failure.clone(),
            time: time.clone(),
            scope: scope.clone(),
            precision: precision.clone(),
        };
        let graphs = self
            .0
            .iter()
            .map(|(name, model)| (name.clone(), graph::graph(model, &context)))
            .collect();
        WasiNnCtx::new([], Registry::from(ModelRegistry(graphs)))
    }
}
