//! `rostro serve`: puts the parts together, serves until told to stop, and finishes what was accepted.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::config::{Config, cores};
use crate::cores::Cores;
use crate::engine::Engine;
use crate::executor::Executor;
use crate::gallery::{CsvGallery, GalleryError};
use crate::http;
use crate::inference::{LoadError, OnnxRuntime};
use crate::limits::Limits;
use crate::models::{Pack, PackError};
use crate::people::{People, PeopleError, Report};
use crate::plugin::{Plugin, PluginError};
use crate::revision::{Revision, StageError};
use crate::router::Router;
use crate::runtime::{self, RuntimeError};
use crate::service::Service;

/// How long the start may take in guests: describing themselves, and making a template of each person.
const START: Duration = Duration::from_secs(120);

/// How long requests that were accepted may go on after the service was told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// How long work whose request was given up may go on after that.
const LAST_WORK: Duration = Duration::from_secs(2);

/// Why the service cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The pack cannot be used.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// ONNX Runtime is not installed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// ONNX Runtime cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The sandbox cannot be set up.
    #[error("cannot set up the sandbox: {0:#}")]
    Engine(wasmtime::Error),
    /// A component's file cannot be read.
    #[error("cannot read the component {path}: {cause}; give one with {flag}, or build the default pipeline with `cargo xtask guest`", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The flag that names it.
        flag: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// A component's file is no component that can run.
    #[error("cannot use the component {path}: {cause}", path = path.display())]
    Plugin {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: PluginError,
    },
    /// The pipeline does not fit its models.
    #[error("cannot stage the pipeline {path}: {cause}", path = path.display())]
    Stage {
        /// The pipeline's file.
        path: PathBuf,
        /// Why.
        cause: Box<StageError>,
    },
    /// The gallery cannot be used.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The people in it cannot be prepared.
    #[error("cannot prepare the people of the gallery: {0}")]
    People(#[from] PeopleError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {cause}; choose another address with --listen")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The operating system refuses threads or sockets.
    #[error("cannot go on: {0}")]
    Io(#[from] io::Error),
}

/// Serves until the process is told to stop.
///
/// # Errors
///
/// [`ServeError`], whose message says how to mend it.
pub(crate) fn run(config: Config) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(config.workers.get().min(cores().get()))
        .thread_name("rostro-http")
        .build()?;
    let served = runtime.block_on(async {
        // The cheapest thing that can be wrong comes first: a taken port is told at once.
        let listener = bind(config.listen).await?;
        let address = listener.local_addr()?;
        let service = tokio::task::block_in_place(|| assemble(&config))?;
        let app = http::app(Arc::new(service), config.bodies);
        tracing::info!("serving on http://{address}");
        serve_until_told(listener, app).await?;
        Ok(())
    });
    // Work that nobody waits for any more, such as a run of a model, does not hold up the end.
    runtime.shutdown_timeout(LAST_WORK);
    if served.is_ok() {
        tracing::info!("stopped");
    }
    served
}

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|cause| ServeError::Listen { address, cause })
}

/// Everything behind the interface, from the configuration.
fn assemble(config: &Config) -> Result<Service, ServeError> {
    let deadline = Instant::now() + START;
    let gallery = CsvGallery::open(&config.gallery)?;
    let pack = Pack::open(&config.models, &config.pack)?;
    let library = runtime::locate(config.onnxruntime.as_deref(), &config.runtime)?;
    let cores = Cores::new(cores());
    let onnx = OnnxRuntime::load(&library, cores.clone())?;
    let engine = Engine::new(Limits::default(), config.workers.get()).map_err(ServeError::Engine)?;
    let revision = stage(config, &onnx, &pack, &engine, deadline)?;
    let thresholds = revision.thresholds();
    tracing::info!(
        pipeline = revision.name(),
        version = revision.version(),
        policy = revision.policy_identity().name,
        digest = %revision.digest(),
        pack = pack.name(),
        contract = %revision.contract().id,
        detection_threshold = %thresholds.detection,
        similarity_threshold = %thresholds.similarity,
        "pipeline staged"
    );
    tracing::info!(workers = config.workers.get(), queue = config.queue, onnx_threads = cores.all(), "sized for {} cores", cores.all());
    let (people, report) = People::load(Box::new(gallery), &revision, config.search, cores.clone(), deadline)?;
    tell(&report, config);
    let executor = Executor::new(config.workers, config.queue, config.deadline, cores);
    Ok(Service::new(Router::new(revision), people, executor))
}

fn stage(config: &Config, onnx: &OnnxRuntime, pack: &Pack, engine: &Engine, deadline: Instant) -> Result<Arc<Revision>, ServeError> {
    let load = |path: &PathBuf, flag: &'static str| {
        let bytes = std::fs::read(path).map_err(|cause| ServeError::Unreadable { path: path.clone(), flag, cause })?;
        Plugin::load(engine, &bytes).map_err(|cause| ServeError::Plugin { path: path.clone(), cause })
    };
    let vision = load(&config.pipeline, "--pipeline")?;
    let policy = config.policy.as_ref().map(|path| load(path, "--policy")).transpose()?;
    Revision::stage(onnx, pack, vision, policy, &config.tuning, deadline)
        .map_err(|cause| ServeError::Stage { path: config.pipeline.clone(), cause: Box::new(cause) })
}

fn tell(report: &Report, config: &Config) {
    for problem in &report.problems {
        tracing::warn!("left alone: {}", problem.to_string().escape_debug());
    }
    if report.need_enrolment > 0 {
        tracing::warn!(people = report.need_enrolment, "enrolled with another recogniser: not matched until they are enrolled again");
    }
    tracing::info!(people = report.known, gallery = %config.gallery.display(), "gallery loaded");
}

/// Serves until a signal, then lets accepted requests finish within [`GRACE`].
async fn serve_until_told(listener: TcpListener, app: axum::Router) -> io::Result<()> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let graceful = async move {
        told_to_stop().await;
        tracing::info!("stopping: no new requests; those accepted have {} s", GRACE.as_secs());
        let _ = stop.send(());
    };
    let server = axum::serve(listener, app).with_graceful_shutdown(graceful);
    let too_long = async {
        if stopped.await.is_ok() {
            tokio::time::sleep(GRACE).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        served = async { server.await } => served,
        () = too_long => {
            tracing::warn!("some requests were not done in time");
            Ok(())
        }
    }
}

async fn told_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(terminate) => terminate,
            Err(error) => {
                tracing::warn!("cannot listen for SIGTERM: {error}");
                let _ = interrupt.await;
                return;
            }
        };
        tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = interrupt.await;
}
