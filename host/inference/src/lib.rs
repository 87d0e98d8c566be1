//! The wasi-nn backend: ONNX models, run by ONNX Runtime.
//!
//! What it is: [`OnnxRuntime`] is the loaded library with one pool of threads for the process; a
//! [`Model`] is one network with its sessions; [`Models`] is what one revision may load by name. No
//! type of `wasi:nn` leaves this module.
//!
//! What bounds it: a guest cannot bring bytes of its own (no backend is registered, so `load`
//! fails), tensors are checked before ONNX Runtime sees them, and runs use no more threads together
//! than there are cores: one run alone all, eight one each.
//!
//! What it costs: one copy of a tensor on its way out of ONNX Runtime; inputs are borrowed as they
//! lie.

pub mod graph;
pub mod metrics;
mod model;
pub mod model_time;
mod sessions;
mod tensor;

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
use graph::{ModelRegistry, RunContext};
use model::WeakModel;

pub use graph::LastFailure;
pub use metrics::ModelMeters;
pub use model::{Batching, Model, ModelError};
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
}

/// What makes two models one: revisions that run on the same weights share their sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelKey {
    name: String,
    bytes: Sha256Digest,
    batching: Batching,
}

/// Why ONNX Runtime could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not a library that can be loaded, or one of another version.
    #[error(
        "cannot load ONNX Runtime from {path}: {cause}; reinstall it with `rostro runtime install --force`"
    )]
    Library {
        /// Where it was looked for.
        path: String,
        /// What the loader says.
        cause: String,
    },
    /// The library refused its configuration.
    #[error("cannot start ONNX Runtime: {0}")]
    Start(#[from] ort::Error),
}

/// Logs what ONNX Runtime says, which would otherwise write to standard error itself and wait for
/// its reader. A failure is also the result of the call that failed, and guests cause some at will,
/// so these lines are for debugging.
fn log(_: LogLevel, category: &str, _: &str, location: &str, message: &str) {
    tracing::debug!(category, location, "ONNX Runtime: {}", sanitize(message));
}

impl OnnxRuntime {
    /// Loads the library at `path`, to work on `cores`.
    ///
    /// Runs with all cores share one pool that does not spin: threads that spin take the cores of
    /// those that work.
    ///
    /// # Errors
    ///
    /// If the library cannot be loaded or started, or if it was in this process before.
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
        })
    }

    /// The library's environment, for whoever runs sessions beside those of the models.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// How its models fare.
    pub fn meters(&self) -> &ModelMeters {
        &self.meters
    }

    /// Prepares a model from its ONNX bytes, or gives the one that was prepared from the same bytes
    /// and is still in use.
    ///
    /// # Errors
    ///
    /// If the bytes are no model that ONNX Runtime can run.
    pub fn model(&self, name: &str, bytes: &[u8], batching: Batching) -> Result<Model, ModelError> {
        let likeness = ModelKey {
            name: name.to_owned(),
            bytes: Sha256Digest::of(bytes),
            batching,
        };
        // Held while one is prepared: two revisions staged at a time must not prepare the same
        // twice.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|(_, model)| model.is_used());
        if let Some(model) = loaded
            .iter()
            .filter(|(other, _)| *other == likeness)
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
        )?;
        loaded.push((likeness, model.weak()));
        Ok(model)
    }
}

/// The models of one revision, by the name that `load-by-name` takes.
#[derive(Clone, Debug, Default)]
pub struct Models(Arc<HashMap<String, Model>>);

impl Models {
    /// A set of models by name.
    #[must_use]
    pub fn new(models: impl IntoIterator<Item = (String, Model)>) -> Self {
        Self(Arc::new(models.into_iter().collect()))
    }

    /// The model of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Model> {
        self.0.get(name)
    }

    /// What a store needs to serve `wasi:nn` with these models and nothing else; runs that fail
    /// tell `failure` why, the time that they take is added to `time`, and none begins that is not
    /// wanted any more.
    pub fn context(
        &self,
        failure: &LastFailure,
        time: &ModelTime,
        scope: &CancelScope,
    ) -> WasiNnCtx {
        let lent = RunContext {
            failure: failure.clone(),
            time: time.clone(),
            scope: scope.clone(),
        };
        let graphs = self
            .0
            .iter()
            .map(|(name, model)| (name.clone(), graph::graph(model, &lent)))
            .collect();
        WasiNnCtx::new([], Registry::from(ModelRegistry(graphs)))
    }
}
