//! Local runtime: runs a pipeline in the command itself, without a service.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use rostro_common::cores::Cores;
use rostro_common::fs::read_at_most;
use rostro_inference::{LoadError, OnnxRuntime};
use rostro_models::runtime::{self, RuntimeError};
use rostro_models::{Pack, PackError};
use rostro_sandbox::component::error::ComponentError;
use rostro_sandbox::component::{CompiledComponent, functions};
use rostro_sandbox::engine::Engine;
use rostro_sandbox::half::Half;
use rostro_sandbox::limits::{LimitError, Limits, MAX_COMPONENT_BYTES};
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::stage::{StageError, StageRequest, Tuning};

use crate::config::{MODELS, RUNTIME, cores, default_pipeline, installed, key_value};

/// Timeout of each call of a component.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Flags for running a pipeline locally.
#[derive(Clone, Debug, Args)]
pub(crate) struct LocalArgs {
    /// Model pack to run it on
    #[arg(
        long,
        env = "ROSTRO_PACK",
        default_value = "testing",
        value_name = "PACK"
    )]
    pub pack: String,
    /// Folder with installed model packs [default: models/installed here, or
    /// above this program]
    #[arg(long, env = "ROSTRO_MODELS", value_name = "DIR")]
    models: Option<PathBuf>,
    /// Library of ONNX Runtime [default: the installed one]
    #[arg(long, env = "ROSTRO_ONNXRUNTIME", value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Folder with the installed ONNX Runtime [default: models/runtime here, or
    /// above this program]
    #[arg(long, env = "ROSTRO_RUNTIME", value_name = "DIR")]
    runtime: Option<PathBuf>,
    /// Component with the other half, for vision or a policy alone [default:
    /// insightface.wasm next to this program]
    #[arg(long = "beside", value_name = "FILE")]
    other_half: Option<PathBuf>,
    /// Folder for compiled components, which only you may write [default: none]
    #[arg(long, env = "ROSTRO_COMPILED", value_name = "DIR")]
    compiled: Option<PathBuf>,
    /// Setting of the pipeline (repeatable)
    #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = key_value)]
    settings: Vec<(String, String)>,
    /// Limit of the sandbox, as for `rostro serve` (repeatable)
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = key_value)]
    limits: Vec<(String, String)>,
}

/// Error that keeps a pipeline from running locally.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// A limit has an unknown name or an invalid value.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The sandbox cannot be set up.
    #[error("cannot set up the sandbox: {0:#}")]
    Engine(wasmtime::Error),
    /// ONNX Runtime is not installed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// ONNX Runtime cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The pack cannot be used.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A file cannot be read.
    #[error("cannot read {file}: {cause}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// The component of the other half cannot be read.
    #[error("cannot read {file} for the pipeline's other half: {cause}; name a component with --beside", file = file.display())]
    NoOtherHalf {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// The component of the other half does not complete the pipeline.
    #[error("{file} cannot be the pipeline's other half: {cause}; name another component with --beside", file = file.display())]
    OtherHalf {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: Box<ComponentError>,
    },
    /// A component cannot run on this host.
    #[error("{file}: {cause}; `rostro pipeline check` has details", file = file.display())]
    Component {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: Box<ComponentError>,
    },
    /// The pipeline cannot be staged.
    #[error("{file}: {cause}; `rostro pipeline check` has details", file = file.display())]
    Stage {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: Box<StageError>,
    },
}

/// Everything that a pipeline needs to run locally.
#[derive(Debug)]
pub(crate) struct LocalRuntime {
    pub engine: Engine,
    pub onnx: OnnxRuntime,
    pub pack: Pack,
    pub tuning: Tuning,
    pub cores: Cores,
    other_half: PathBuf,
}

impl LocalArgs {
    /// Returns the limits of guests.
    ///
    /// # Errors
    ///
    /// If a limit has an unknown name or an invalid value.
    pub(crate) fn limits(&self) -> Result<Limits, LimitError> {
        Limits::with(&self.limits.iter().cloned().collect())
    }

    /// Creates the sandbox for `concurrency` guests at a time.
    ///
    /// # Errors
    ///
    /// If a limit is invalid, or the folder for compiled components cannot be used.
    pub(crate) fn engine(&self, concurrency: usize) -> Result<Engine, LocalError> {
        let folder = self.compiled.as_ref().map(|folder| {
            std::fs::create_dir_all(folder)
                .and_then(|()| folder.canonicalize())
                .map_err(|cause| LocalError::Unreadable {
                    file: folder.clone(),
                    cause,
                })
        });
        Engine::with_cache(self.limits()?, concurrency, folder.transpose()?.as_deref())
            .map_err(LocalError::Engine)
    }

    /// Returns the settings of the pipeline.
    pub(crate) fn own(&self) -> BTreeMap<String, String> {
        self.settings.iter().cloned().collect()
    }

    /// Opens the model pack.
    ///
    /// # Errors
    ///
    /// If it is not installed, or damaged.
    pub(crate) fn open_pack(&self) -> Result<Pack, PackError> {
        Pack::open(
            &self.models.clone().unwrap_or_else(|| installed(MODELS)),
            &self.pack,
        )
    }

    /// Loads everything that a pipeline needs.
    ///
    /// # Errors
    ///
    /// [`LocalError`] names the missing part and its remedy.
    pub(crate) fn prepare(&self) -> Result<LocalRuntime, LocalError> {
        let pack = self.open_pack()?;
        let library = runtime::locate(
            self.onnxruntime.as_deref(),
            &self.runtime.clone().unwrap_or_else(|| installed(RUNTIME)),
        )?;
        let cores = Cores::new(cores());
        let onnx = OnnxRuntime::load(&library, cores.clone())?;
        let engine = self.engine(cores.count())?;
        let tuning = Tuning {
            detection: None,
            similarity: None,
            max_pixels: 40_000_000,
            own: self.own(),
        };
        let other_half = self.other_half.clone().unwrap_or_else(default_pipeline);
        Ok(LocalRuntime {
            engine,
            onnx,
            pack,
            tuning,
            cores,
            other_half,
        })
    }
}

impl LocalRuntime {
    /// Stages a component as a pipeline: alone, or with its other half.
    ///
    /// # Errors
    ///
    /// If it cannot be read, cannot run here, or does not fit the pack.
    pub(crate) fn revision(&self, file: &Path) -> Result<Arc<Revision>, LocalError> {
        let bytes =
            read_at_most(file, MAX_COMPONENT_BYTES).map_err(|cause| LocalError::Unreadable {
                file: file.to_owned(),
                cause,
            })?;
        let failed = |cause| LocalError::Component {
            file: file.to_owned(),
            cause: Box::new(cause),
        };
        let serves = functions(&bytes).map_err(failed)?;
        let own = CompiledComponent::load(&self.engine, &bytes).map_err(failed)?;
        let has = |half| serves.iter().any(|function| function.half() == half);
        let (vision, policy) = match (has(Half::Vision), has(Half::Policy)) {
            (true, true) => (own, None),
            (true, false) => (own, Some(self.load_other_half(Half::Policy)?)),
            _ => (self.load_other_half(Half::Vision)?, Some(own)),
        };
        let none = BTreeMap::new();
        let timeout = TIMEOUT.min(self.engine.limits().time());
        let request = StageRequest {
            runtime: &self.onnx,
            pack: &self.pack,
            vision,
            policy,
            limits: &none,
            settings: &none,
            tuning: &self.tuning,
        };
        let staged = Revision::stage(request, || (Instant::now() + timeout).into());
        staged.map_err(|cause| LocalError::Stage {
            file: file.to_owned(),
            cause: Box::new(cause),
        })
    }

    /// Loads the component of the other half.
    fn load_other_half(&self, half: Half) -> Result<CompiledComponent, LocalError> {
        let file = &self.other_half;
        let bytes =
            read_at_most(file, MAX_COMPONENT_BYTES).map_err(|cause| LocalError::NoOtherHalf {
                file: file.clone(),
                cause,
            })?;
        let other = CompiledComponent::load(&self.engine, &bytes).and_then(|other| {
            if other.has_half(half) {
                return Ok(other);
            }
            Err(ComponentError::MissingExport {
                wanted: half.name().to_owned(),
                found: other.exports().to_vec(),
            })
        });
        other.map_err(|cause| LocalError::OtherHalf {
            file: file.clone(),
            cause: Box::new(cause),
        })
    }
}
