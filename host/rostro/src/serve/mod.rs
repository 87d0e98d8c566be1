//! `rostro serve`: assembles the service, serves until a signal, and finishes accepted requests.

mod assemble;
mod background;
mod reload;
pub(crate) mod signals;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use rostro_api::admin;
use rostro_api::admin::reload::ReloadStatus;
use rostro_api::auth::secrets::{SecretsFile, SecretsFileError};
use rostro_api::metrics::Traffic;
use rostro_api::server::tls::{Tls, TlsError};
use rostro_api::server::{self, ConnectionTimeouts};
use rostro_api::{ApiKeyAuth, StartupGate, TrustedProxies};
use rostro_common::shutdown::Shutdown;
use rostro_database::DatabaseError;
use rostro_delivery::{DeliveryError, ReceiversError};
use rostro_gallery::groups::GroupsError;
use rostro_gallery::{GalleryError, StoreError};
use rostro_inference::LoadError;
use rostro_models::runtime::RuntimeError;
use rostro_sandbox::pipeline::self_test::SelfTestFolderError;
use rostro_service::deployment::{OpenError, StateError};
use rostro_service::people::PeopleError;
use rostro_service::types::SessionStoreError;

use self::assemble::assemble;
use self::background::{
    drop_outdated_streams, follow_changes, maintain_audit_log, maintain_sessions,
};
use self::reload::{Reload, reload_on_hangup};
use self::signals::{SignalKind, SignalStream, stop_on_signals};
use crate::config::{Address, AdminAddress, Config, ServeArgs, Source};
use crate::logging::dropped_lines;

/// Time after a stop signal for accepted requests, and for background work that cannot be
/// cancelled.
const GRACE: Duration = Duration::from_secs(30);

/// Shortest time for a node to join the fleet.
const MIN_JOIN: Duration = Duration::from_secs(10);

/// Upper bound of the timeout for a request's head and for an idle connection.
const MAX_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Error that keeps the service from starting, or ends it.
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
        "cannot set up the sandbox: {0:#}; raise the process's limit of addresses (`ulimit -v unlimited`), or lower --workers"
    )]
    Engine(wasmtime::Error),
    /// A component's file cannot be read.
    #[error("cannot read the component {path}: {cause}; name another with {flag}, or build the default pipeline with `cargo xtask guest`", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The flag that names it.
        flag: &'static str,
        /// The cause.
        cause: io::Error,
    },
    /// The configured pipeline cannot serve, or the stored revisions cannot be restored.
    #[error("cannot stage the pipeline {path}: {cause}", path = path.display())]
    Open {
        /// The pipeline's file.
        path: PathBuf,
        /// The cause.
        cause: Box<OpenError>,
    },
    /// The revision that the nodes of the database serve cannot serve here.
    #[error("{0}")]
    Shared(Box<OpenError>),
    /// The audit log cannot be written.
    #[error("{0}; name a state folder that this process may write with --state")]
    Audit(io::Error),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The API keys or the tokens cannot be used.
    #[error(transparent)]
    SecretsFile(#[from] SecretsFileError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The groups cannot be used.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// The photos of the self-test cannot be used.
    #[error(transparent)]
    SelfTest(#[from] SelfTestFolderError),
    /// The gallery cannot be used.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The node cannot join the fleet, or deleted people cannot be removed from the sessions.
    #[error(transparent)]
    Join(#[from] PeopleError),
    /// The sessions cannot be used.
    #[error(transparent)]
    Sessions(#[from] SessionStoreError),
    /// The file of receivers cannot be used.
    #[error(transparent)]
    Receivers(#[from] ReceiversError),
    /// The events of sessions cannot be delivered.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The address is in use, or belongs to another machine.
    #[error("cannot listen on {address}: {cause}; choose another address with {flag}")]
    Listen {
        /// The address.
        address: String,
        /// The flag that names it.
        flag: &'static str,
        /// The cause.
        cause: io::Error,
    },
    /// The operating system refuses threads or sockets.
    #[error("cannot run the service: {0}")]
    Io(#[from] io::Error),
}

impl From<StoreError> for ServeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Gallery(error) => Self::Gallery(error),
            StoreError::Groups(error) => Self::Groups(error),
        }
    }
}

/// Serves until a stop signal. `config` is the validated form of `args`, which were read from
/// `source`.
///
/// Threads may still be inside ONNX Runtime or Wasmtime when this returns, so that the process must
/// end by [`rostro_common::shutdown::exit`].
///
/// # Errors
///
/// [`ServeError`] with a remedy in its message.
pub(crate) fn run(config: Config, source: Source, args: ServeArgs) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(config.workers.min(config.machine.cores).get())
        .thread_name("rostro-http")
        .build()?;
    raise_descriptors();
    let shutdown = Shutdown::default();
    let result = runtime.block_on(async {
        // Replaces the signals' default actions first: from here on SIGHUP does not end the
        // process, and a stop is orderly.
        let hangups = SignalStream::new(SignalKind::HangUp);
        tokio::spawn(stop_on_signals(
            [SignalKind::Interrupt, SignalKind::Terminate].map(SignalStream::new),
            shutdown.clone(),
        ));
        // Cheap checks come first, so that a port in use is reported at once.
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
        let gate = StartupGate::default();
        // From here on callers wait, or get the answer that the service is starting.
        let front = gate.router(config.deadline, shutdown.clone());
        let admin_gate = StartupGate::default();
        if let Some(listener) = admin_listener {
            tracing::info!("admin interface on http://{}", listener.local_addr()?);
            let front = admin_gate.router(config.deadline, shutdown.clone());
            tokio::spawn(serve_until_stopped(
                listener,
                front,
                None,
                proxies.clone(),
                timeouts(&config),
                shutdown.clone(),
            ));
        }
        let mut serving = tokio::spawn(serve_until_stopped(
            listener,
            front,
            tls.clone(),
            proxies,
            timeouts(&config),
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
            // A stop signal arrived during the start.
            _ = &mut serving => {
                shutdown.wait(GRACE).await;
                return Ok(());
            }
        };
        let traffic = Traffic::default();
        tokio::spawn(follow_changes(
            Arc::downgrade(service.people()),
            Arc::downgrade(&deployment),
            shutdown.clone(),
        ));
        let service = Arc::new(service);
        let served = Arc::clone(&service);
        let (app, people) = rostro_api::app(
            Arc::clone(&service),
            config.bodies,
            &ApiKeyAuth::new(keys.clone()),
            &config.browsers,
            &traffic,
        );
        let joining = tokio::task::spawn_blocking({
            let people = Arc::clone(service.people());
            // The lease of a killed node with other settings must end first.
            let wait = MIN_JOIN.max(2 * config.fleet.lease);
            let scope = shutdown.scope(Instant::now() + config.wait_for_lock.max(wait));
            move || people.join(&scope)
        });
        joining.await.map_err(io::Error::other)??;
        let status = ReloadStatus::started();
        admin_gate.open(admin::app(
            Arc::clone(&service),
            traffic,
            tokens.clone(),
            status.clone(),
            dropped_lines,
            people,
        ));
        tokio::spawn(drop_outdated_streams(Arc::downgrade(&service)));
        tokio::spawn(maintain_sessions(Arc::downgrade(&service)));
        let in_force = Mutex::new(args);
        let reload = Reload {
            source,
            in_force,
            keys,
            tokens,
            tls,
            service,
            executor,
            settings: config.fleet.settings.clone(),
            deployment: Arc::clone(&deployment),
            status,
        };
        tokio::spawn(maintain_audit_log(Arc::clone(&deployment)));
        tokio::spawn(reload_on_hangup(hangups, Arc::new(reload)));
        gate.open(app);
        tracing::info!(
            "serving on {}://{address}",
            if is_secret { "https" } else { "http" }
        );
        serving.await.map_err(io::Error::other)?;
        if !shutdown.wait(GRACE).await {
            tracing::warn!("some requests or background work did not end in time");
        }
        let ended = tokio::task::spawn_blocking(move || {
            if let Err(error) = served.finish() {
                tracing::error!("cannot write the counts of sessions: {error}");
            }
        });
        let _ = ended.await;
        Ok(())
    });
    // Does not wait for the runtime's threads, which may be inside a call that cannot be cancelled.
    runtime.shutdown_background();
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

fn timeouts(config: &Config) -> ConnectionTimeouts {
    ConnectionTimeouts {
        head: config.deadline.min(MAX_HEAD_TIMEOUT),
        grace: GRACE,
    }
}

/// Binds the first address of a name that is free. With `loopback_only` it binds no address that
/// other machines reach.
async fn bind(
    address: &Address,
    flag: &'static str,
    loopback_only: bool,
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
    let allowed: Vec<SocketAddr> = resolved
        .into_iter()
        .filter(|address| !loopback_only || address.ip().is_loopback())
        .collect();
    TcpListener::bind(allowed.as_slice()).await.map_err(failed)
}

/// Raises the limit of file descriptors, because the connections of two ports need more than the
/// usual limit.
#[cfg(unix)]
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// Descriptors for the connections of both ports, and some for files.
    const ENOUGH: u64 = 2 * server::MAX_CONNECTIONS as u64 + 128;

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
            "the limit of {wanted} file descriptors is too low for all connections; raise it to {ENOUGH} (ulimit -n)"
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
    timeouts: ConnectionTimeouts,
    shutdown: Shutdown,
) {
    let tracked = shutdown.track();
    tokio::select! {
        _ = server::serve(listener, app, tls, proxies, timeouts, shutdown.begun()) => {}
        () = shutdown.hurried() => {}
    }
    drop(tracked);
}
