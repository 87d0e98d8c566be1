//! `rostro serve`: puts the parts together, serves until told to stop, and finishes what was
//! accepted.

pub(crate) mod reload;
pub(crate) mod signals;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use rostro_api::admin;
use rostro_api::admin::reload::ReloadStatus;
use rostro_api::auth::secrets::{SecretsFile, SecretsFileError};
use rostro_api::metrics::Traffic;
use rostro_api::server::tls::{Tls, TlsError};
use rostro_api::server::{self, ConnectionTimeouts};
use rostro_api::{ApiKeyAuth, StartupGate, TrustedProxies};
use rostro_common::cores::Cores;
use rostro_common::fs::read_at_most;
use rostro_common::shutdown::Shutdown;
use rostro_gallery::groups::{Groups, GroupsError};
use rostro_gallery::ledger::Ledger;
use rostro_gallery::{CsvGallery, GalleryError};
use rostro_inference::{LoadError, OnnxRuntime};
use rostro_models::runtime::{self, RuntimeError};
use rostro_sandbox::component::MAX_COMPONENT_BYTES;
use rostro_sandbox::engine::Engine;
use rostro_sandbox::pipeline::self_test::{SelfTest, SelfTestFolderError};
use rostro_service::audit::Audit;
use rostro_service::deployment::{
    Configured, Deployment, OpenError, RevisionBuilder, StateError, Store,
};
use rostro_service::executor::Executor;
use rostro_service::people::{PendingPeople, People, ViewReport};
use rostro_service::{ArchiveFolder, Service};

use crate::config::{Address, AdminAddress, Config, ServeArgs, Source, UnknownSettingsAction};
use crate::logging::dropped_lines;
use crate::serve::reload::Reload;
use crate::serve::signals::{SignalKind, SignalStream};

/// Time for accepted requests, and for background work that cannot be cancelled, once the service
/// was told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// How long callers may take for the head of a request, or leave a connection idle, at most.
const HEAD: Duration = Duration::from_secs(30);

/// How often to look for files that another program writes into the gallery.
const LOOK: Duration = Duration::from_secs(2);

/// The most problems of the gallery that the log names one by one.
const PROBLEMS: usize = 20;

/// Why the service cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// ONNX Runtime is not installed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// ONNX Runtime cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The sandbox cannot be set up.
    #[error(
        "cannot set up the sandbox: {0:#}; allow the process more addresses (`ulimit -v unlimited`), or lower --workers"
    )]
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
    /// The configured pipeline cannot serve, or what is remembered cannot be taken up.
    #[error("cannot stage the pipeline {path}: {cause}", path = path.display())]
    Open {
        /// The pipeline's file.
        path: PathBuf,
        /// Why.
        cause: Box<OpenError>,
    },
    /// The audit log cannot be written.
    #[error("{0}; name a state folder that this process may write with --state")]
    Audit(io::Error),
    /// What is remembered cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The API keys or the tokens cannot be used.
    #[error(transparent)]
    SecretsFile(#[from] SecretsFileError),
    /// The groups cannot be used.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// The operator's pictures cannot be used.
    #[error(transparent)]
    SelfTest(#[from] SelfTestFolderError),
    /// The gallery cannot be used.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {cause}; choose another address with {flag}")]
    Listen {
        /// The address.
        address: String,
        /// The flag that names it.
        flag: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// The operating system refuses threads or sockets.
    #[error("cannot go on: {0}")]
    Io(#[from] io::Error),
}

/// Serves until the process is told to stop. The configuration is what the arguments from this
/// source mean. Threads may still be inside ONNX Runtime or Wasmtime when this returns, so that the
/// process must end by [`rostro_common::shutdown::exit`].
///
/// # Errors
///
/// [`ServeError`], whose message says how to mend it.
pub(crate) fn run(config: Config, source: Source, args: ServeArgs) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(config.workers.min(config.machine.cores).get())
        .thread_name("rostro-http")
        .build()?;
    raise_descriptors();
    let shutdown = Shutdown::default();
    let served = runtime.block_on(async {
        // From here on a hang-up is no end, and an end is an orderly one.
        let hangups = SignalStream::new(SignalKind::HangUp);
        tokio::spawn(stop_when_told(
            [SignalKind::Interrupt, SignalKind::Terminate].map(SignalStream::new),
            shutdown.clone(),
        ));
        // The cheapest things that can be wrong come first: a taken port is told at once.
        let listener = bind(&config.listen, "--listen", false).await?;
        let address = listener.local_addr()?;
        let admin_listener = match &config.admin {
            AdminAddress::Off => None,
            AdminAddress::At(address) => {
                Some(bind(address, "--admin", config.admin_token_file.is_none()).await?)
            }
        };
        let keys = config
            .api_keys
            .as_deref()
            .map(SecretsFile::read)
            .transpose()?;
        let tls = config
            .tls
            .as_ref()
            .map(|(certificate, key)| Tls::new(certificate, key))
            .transpose()?;
        let is_secret = tls.is_some();
        let tokens = config
            .admin_token_file
            .as_deref()
            .map(SecretsFile::read)
            .transpose()?;
        let config = Arc::new(config);
        let proxies = TrustedProxies::new(config.trusted_proxies.clone());
        let gate = StartupGate::new();
        // From here on whoever asks is told that the service is starting, or waits.
        let front = gate.router(config.deadline, shutdown.clone());
        let admin_gate = StartupGate::new();
        if let Some(listener) = admin_listener {
            tracing::info!("admin interface on http://{}", listener.local_addr()?);
            let front = admin_gate.router(config.deadline, shutdown.clone());
            tokio::spawn(serve_until_stopped(
                listener,
                front,
                None,
                proxies.clone(),
                patience(&config),
                shutdown.clone(),
            ));
        }
        let mut serving = tokio::spawn(serve_until_stopped(
            listener,
            front,
            tls.clone(),
            proxies,
            patience(&config),
            shutdown.clone(),
        ));
        let assembling = tokio::task::spawn_blocking({
            let (config, shutdown, tracked) =
                (Arc::clone(&config), shutdown.clone(), shutdown.track());
            move || {
                let assembled = assemble(&config, &shutdown);
                drop(tracked);
                assembled
            }
        });
        let (service, deployment, executor) = tokio::select! {
            assembled = assembling => assembled.map_err(io::Error::other)??,
            // Told to stop before it could begin.
            _ = &mut serving => {
                shutdown.wait(GRACE).await;
                return Ok(());
            }
        };
        let traffic = Traffic::default();
        tokio::spawn(watch_folders(
            Arc::downgrade(service.people()),
            Arc::downgrade(&deployment),
            shutdown.clone(),
        ));
        let service = Arc::new(service);
        let (app, people) = rostro_api::app(
            Arc::clone(&service),
            config.bodies,
            &ApiKeyAuth::new(keys.clone()),
            &config.browsers,
            &traffic,
        );
        let status = ReloadStatus::started();
        admin_gate.open(admin::app(
            Arc::clone(&deployment),
            executor.clone(),
            traffic,
            tokens.clone(),
            status.clone(),
            dropped_lines,
            people,
        ));
        let in_force = Mutex::new(args);
        let reload = Reload {
            source,
            in_force,
            keys,
            tokens,
            tls,
            service,
            executor,
            deployment: Arc::clone(&deployment),
            status,
        };
        tokio::spawn(remove_old_audit_lines(Arc::clone(&deployment)));
        tokio::spawn(reload_when_told(hangups, Arc::new(reload)));
        gate.open(app);
        tracing::info!(
            "serving on {}://{address}",
            if is_secret { "https" } else { "http" }
        );
        serving.await.map_err(io::Error::other)?;
        if !shutdown.wait(GRACE).await {
            tracing::warn!("some requests or background work did not end in time");
        }
        Ok(())
    });
    // Its threads are not waited for any longer.
    runtime.shutdown_background();
    if served.is_ok() {
        tracing::info!("stopped");
    }
    served
}

fn patience(config: &Config) -> ConnectionTimeouts {
    ConnectionTimeouts {
        head: config.deadline.min(HEAD),
        grace: GRACE,
    }
}

/// Binds the first of an address's meanings that can be had; where only loopback addresses are
/// safe, one of those.
async fn bind(
    address: &Address,
    flag: &'static str,
    is_for_loopback: bool,
) -> Result<TcpListener, ServeError> {
    let failed = |cause| ServeError::Listen {
        address: address.to_string(),
        flag,
        cause,
    };
    let resolved = {
        let address = address.clone();
        tokio::task::spawn_blocking(move || address.resolve())
            .await
            .map_err(io::Error::other)?
            .map_err(failed)?
    };
    let safe: Vec<SocketAddr> = resolved
        .into_iter()
        .filter(|address| !is_for_loopback || address.ip().is_loopback())
        .collect();
    TcpListener::bind(safe.as_slice()).await.map_err(failed)
}

/// Everything behind the interfaces, from the configuration.
fn assemble(
    config: &Config,
    shutdown: &Shutdown,
) -> Result<(Service, Arc<Deployment>, Executor), ServeError> {
    // One wait for both: whoever has the one has the other, too.
    let lock_scope = shutdown.scope(Instant::now() + config.wait_for_lock);
    let gallery = CsvGallery::lock(&config.gallery, &lock_scope)?;
    tell_set_aside(&gallery, config);
    let store = Store::open(&config.state, &lock_scope, shutdown.clone())?;
    let archives = ArchiveFolder::new(store.folder().to_owned(), config.archive_bytes);
    let library = runtime::locate(config.onnxruntime.as_deref(), &config.runtime)?;
    let cores = Cores::new(config.machine.cores);
    let onnx = OnnxRuntime::load(&library, cores.clone())?;
    let compiled = store.compiled(config.compiled.as_deref())?;
    let engine = Engine::with_cache(config.limits.clone(), config.workers.get(), Some(&compiled))
        .map_err(ServeError::Engine)?;
    let engine = engine.with_memory(config.guest_bytes);
    let people = People::new(
        Box::new(gallery),
        Groups::open(&config.gallery)?,
        config.search,
        cores.clone(),
    );
    let people = Arc::new(people.with_ledger(Ledger::open(&config.gallery)));
    let builder = RevisionBuilder {
        engine,
        onnx,
        models: config.models.clone(),
        tuning: config.tuning.clone(),
        people: Arc::clone(&people),
        self_test: SelfTest::new(config.self_test.as_deref(), config.deadline)?,
        shutdown: shutdown.clone(),
    };
    let read = |path: &PathBuf, flag: &'static str| {
        read_at_most(path, MAX_COMPONENT_BYTES).map_err(|cause| ServeError::Unreadable {
            path: path.clone(),
            flag,
            cause,
        })
    };
    let configured = Configured {
        vision: read(&config.pipeline, "--pipeline")?,
        policy: config
            .policy
            .as_ref()
            .map(|path| read(path, "--policy"))
            .transpose()?,
        pack: config.pack.clone(),
        texts: config.texts.clone(),
        may_lack_settings: config.unknown_settings == UnknownSettingsAction::Warn,
    };
    let audit = Audit::open(store.folder(), config.keep_audit).map_err(ServeError::Audit)?;
    let opened = Deployment::open(builder, store, audit, &configured, config.breaker);
    let (deployment, report) = opened.map_err(|cause| ServeError::Open {
        path: config.pipeline.clone(),
        cause: Box::new(cause),
    })?;
    let live = deployment.active();
    let revision = &live.revision;
    let thresholds = revision.thresholds();
    tracing::info!(
        pipeline = revision.name(),
        version = revision.version(),
        policy = revision.policy_identity().name,
        digest = %revision.digest(),
        contract = %revision.contract().id,
        detection_threshold = %thresholds.detection,
        similarity_threshold = %thresholds.similarity,
        "pipeline active"
    );
    tell_size(config);
    tell(&report, &people.left_alone(), config);
    live.report_if_all_people_are_lost();
    if let Some(folder) = &config.pipelines {
        deployment.watch(folder, config.pipelines_action)?;
    }
    let executor = Executor::new(
        config.workers,
        config.queue,
        config.deadline,
        cores,
        shutdown.clone(),
    );
    Ok((
        Service::new(
            Arc::clone(&deployment),
            people,
            executor.clone(),
            config.review,
            archives,
        ),
        deployment,
        executor,
    ))
}

/// Takes in people whose files are copied into the gallery while the service runs, and locks
/// folders again whose locks are replaced.
async fn watch_folders(people: Weak<People>, deployment: Weak<Deployment>, shutdown: Shutdown) {
    let mut looks = PendingPeople::default();
    let mut failed = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.begun() => return,
        }
        let (Some(people), Some(deployment)) = (people.upgrade(), deployment.upgrade()) else {
            return;
        };
        let look = tokio::task::spawn_blocking(move || {
            deployment.check_lock();
            let result = people.rescan(&mut looks);
            (looks, result)
        });
        // A panic of it is a bug, and no reason not to look again.
        let Ok((again, result)) = look.await else {
            looks = PendingPeople::default();
            continue;
        };
        looks = again;
        match &result {
            Ok(0) => {}
            Ok(people) => tracing::info!(
                people,
                "taken in from files that another program wrote into the gallery"
            ),
            Err(error) if !failed => {
                tracing::warn!("new files of the gallery are not seen: {error}")
            }
            Err(_) => {}
        }
        failed = result.is_err();
    }
}

/// Names files that were set aside and can be restored.
fn tell_set_aside(gallery: &CsvGallery, config: &Config) {
    let aside = gallery.all_set_aside().unwrap_or_default();
    for file in aside
        .iter()
        .filter(|file| file.place.is_some())
        .take(PROBLEMS)
    {
        tracing::warn!(
            "{} was set aside as damaged and is whole: run `rostro gallery check --restore --gallery {}` while the service is stopped",
            file.path.display().to_string().escape_debug(),
            config.gallery.display()
        );
    }
}

/// Logs the budgets, and the machine that they follow.
fn tell_size(config: &Config) {
    let Config {
        machine,
        workers,
        queue,
        guest_bytes,
        bodies,
        ..
    } = config;
    let memory = machine.memory.as_ref().map_or_else(String::new, |memory| {
        format!(", {} MiB ({})", memory.mib(), memory.limited_by.display())
    });
    tracing::info!(
        workers = workers.get(),
        queue,
        onnx_threads = machine.cores.get(),
        max_guests_mib = guest_bytes >> 20,
        memory_mib = config.limits.memory_bytes() >> 20,
        max_bodies_mib = bodies.memory_bytes >> 20,
        max_body_mib = bodies.body_bytes >> 20,
        max_image_mib = bodies.image_bytes >> 20,
        max_megapixels = config.tuning.max_pixels / 1_000_000,
        "sized for {} cores{memory}",
        machine.cores
    );
    if config.memory_short_mib > 0 {
        tracing::warn!(
            "the people of the gallery may take {} MiB more than this process has; allow it more memory, because the system ends processes that \
             exceed their limit",
            config.memory_short_mib
        );
    }
}

/// Reports what was found in the gallery. `left_alone` counts the files that cannot be used.
fn tell(report: &ViewReport, left_alone: &BTreeMap<&'static str, usize>, config: &Config) {
    for problem in report.problems.iter().take(PROBLEMS) {
        tracing::warn!("{}", problem.to_string().escape_debug());
    }
    let files: usize = left_alone.values().sum();
    if files > 0 {
        let reasons: Vec<String> = left_alone
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        tracing::error!(
            "{files} files of the gallery are left alone, and nobody is recognised by them ({}); run `rostro gallery check --gallery {}` for what to do",
            reasons.join(", "),
            config.gallery.display()
        );
    }
    if report.need_enrolment > 0 {
        tracing::warn!(
            people = report.need_enrolment,
            "enrolled with another recogniser: not matched until they are enrolled again"
        );
    }
    if report.unknown_age > 0 {
        tracing::warn!(
            files = report.unknown_age,
            "samples of other recognisers may be older than their person's last enrolment: not matched until the person is enrolled again; \
             if nobody was enrolled under another's id, stop the service and run `rostro gallery trust-contracts`"
        );
    }
    tracing::info!(people = report.known, gallery = %config.gallery.display(), "gallery loaded");
}

/// Takes as many file descriptors as the system gives: two ports with their connections need more
/// than what is usual.
#[cfg(unix)]
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// Both ports' connections, and some for files.
    const ENOUGH: u64 = 2 * server::CONNECTIONS as u64 + 128;

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    if getrlimit(Resource::Nofile)
        .current
        .is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum,
            },
        )
    {
        tracing::warn!("cannot raise the number of file descriptors: {error}");
    }
    if wanted < ENOUGH {
        tracing::warn!(
            "at most {wanted} file descriptors: not every one of the connections that are taken in has one; allow {ENOUGH} (ulimit -n)"
        );
    }
}

#[cfg(not(unix))]
fn raise_descriptors() {}

/// Serves until the shutdown begins, then lets accepted requests finish within [`GRACE`].
async fn serve_until_stopped(
    listener: TcpListener,
    app: axum::Router,
    tls: Option<Tls>,
    proxies: TrustedProxies,
    patience: ConnectionTimeouts,
    shutdown: Shutdown,
) {
    let tracked = shutdown.track();
    tokio::select! {
        _ = server::serve(listener, app, tls, proxies, patience, shutdown.begun()) => {}
        () = shutdown.hurried() => {}
    }
    drop(tracked);
}

/// Begins the shutdown at the first signal, and ends it at the second.
async fn stop_when_told(mut ends: [SignalStream; 2], shutdown: Shutdown) {
    let [interrupt, terminate] = &mut ends;
    let mut next = async || {
        tokio::select! {
            () = interrupt.next() => {}
            () = terminate.next() => {}
        }
    };
    next().await;
    tracing::info!(
        "stopping: no new requests; those accepted have {} s. A second signal ends the process at once",
        GRACE.as_secs()
    );
    shutdown.begin();
    next().await;
    tracing::warn!("stopping at once");
    shutdown.hurry();
}

/// Removes lines of the audit log that are too old, once a day.
async fn remove_old_audit_lines(deployment: Arc<Deployment>) {
    loop {
        tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
        let deployment = Arc::clone(&deployment);
        if let Err(error) =
            tokio::task::spawn_blocking(move || deployment.audit().remove_old()).await
        {
            tracing::error!("old lines of the audit log were not removed: {error}");
        }
    }
}

/// Reads again what may change while the service runs, whenever it is told to.
async fn reload_when_told(mut hangups: SignalStream, reload: Arc<Reload>) {
    loop {
        hangups.next().await;
        let status = reload.status.clone();
        let reload = Arc::clone(&reload);
        // A panic of it is a bug, and no reason not to listen to the next.
        if let Err(error) = tokio::task::spawn_blocking(move || reload.reload()).await {
            let failure = format!("not everything was read again: {error}");
            tracing::error!("{failure}");
            status.record(vec![failure]);
        }
    }
}
