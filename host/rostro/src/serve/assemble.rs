//! Assembly of the service: opens gallery, state and models, and stages the configured pipeline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::fs::read_at_most;
use rostro_common::shutdown::Shutdown;
use rostro_database::{Database, Node, PostgresStore, schema};
use rostro_delivery::{Delivery, Receivers};
use rostro_gallery::{
    CsvGallery, FolderStore, StateFiles, Store, StoreError, UNSENT_LINES, UnsentLines,
    remove_templates,
};
use rostro_inference::OnnxRuntime;
use rostro_models::runtime;
use rostro_sandbox::engine::Engine;
use rostro_sandbox::limits::MAX_COMPONENT_BYTES;
use rostro_sandbox::pipeline::self_test::SelfTest;
use rostro_service::audit::Audit;
use rostro_service::deployment::{Configured, Deployment, OpenError, RevisionBuilder, StateFolder};
use rostro_service::executor::Executor;
use rostro_service::people::{People, ViewReport};
use rostro_service::{ArchiveFolder, Service};
use rostro_sessions::shared::SharedSessions;
use rostro_sessions::{SESSIONS, SessionStore};

use super::ServeError;
use crate::allocator;
use crate::config::{Config, UnknownSettingsAction, fleet};

/// Problems of the gallery that the log names one by one, at most.
const MAX_PROBLEMS: usize = 20;

/// Builds everything behind the interfaces from the configuration.
///
/// # Errors
///
/// [`ServeError`] names the part that cannot be used.
pub(super) fn assemble(
    config: &Config,
    shutdown: &Shutdown,
) -> Result<(Service, Arc<Deployment>, Executor), ServeError> {
    // One wait for both locks, because the process that holds one holds the other, too.
    let lock_scope = shutdown.scope(Instant::now() + config.wait_for_lock);
    let (store, shared, state) = open_store(config, &lock_scope, shutdown)?;
    let archives = ArchiveFolder::new(state.folder().to_owned(), config.archive_bytes);
    let library = runtime::locate(config.onnxruntime.as_deref(), &config.runtime)?;
    let cores = Cores::new(config.machine.cores);
    let onnx = OnnxRuntime::load(&library, cores.clone())?.with_precision(config.precision);
    let compiled = state.compiled(config.compiled.as_deref())?;
    let engine = Engine::with_cache(config.limits.clone(), config.workers.get(), Some(&compiled))
        .map_err(ServeError::Engine)?;
    let engine = engine.with_memory(config.guest_bytes);
    let state_folder = state.folder().to_owned();
    let sessions = Arc::new(open_sessions(config, &state_folder, shared)?);
    let people = People::new(Arc::clone(&store), config.search, cores.clone());
    let people = Arc::new(people.with_sessions(Arc::clone(&sessions)));
    let builder = RevisionBuilder {
        engine,
        onnx,
        models: config.models.clone(),
        tuning: config.tuning.clone(),
        people: Arc::clone(&people),
        self_test: SelfTest::new(config.self_test.as_deref(), config.deadline)?,
        shutdown: shutdown.clone(),
        start_cores: Cores::new(config.workers.min(config.machine.cores)),
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
    let node = config.database.as_ref().map(|_| config.fleet.node.clone());
    let audit = Audit::new(store, state.folder(), config.keep_audit, node);
    let opened = Deployment::open(builder, state, audit, &configured, config.breaker);
    let (deployment, report) = opened.map_err(|cause| match cause {
        OpenError::Shared { .. } | OpenError::NoEntry(_) => ServeError::Shared(Box::new(cause)),
        cause => ServeError::Open {
            path: config.pipeline.clone(),
            cause: Box::new(cause),
        },
    })?;
    allocator::return_unused();
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
    report_sizes(config);
    report_gallery(&report, &people.left_alone(), config);
    live.report_if_all_people_are_lost();
    let removed = people.remove_deleted_from_sessions()?;
    if removed > 0 {
        tracing::info!(
            people = removed,
            "removed from sessions, because they were deleted"
        );
    }
    let receivers = match &config.webhooks {
        Some(file) => Receivers::read(file)?,
        None => Receivers::default(),
    };
    let delivery = Delivery::start(receivers, Arc::clone(&sessions), &state_folder)?;
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
            sessions,
            delivery,
        ),
        deployment,
        executor,
    ))
}

/// The people, the sessions in the database, and the locked state folder.
type OpenedStore = (Arc<dyn Store>, Option<Arc<dyn SharedSessions>>, StateFolder);

/// Opens the people, in the database if one is configured, otherwise in the folder, and the state
/// folder. The folder of the people is locked first.
fn open_store(
    config: &Config,
    lock_scope: &CancelScope,
    shutdown: &Shutdown,
) -> Result<OpenedStore, ServeError> {
    let open_state = || StateFolder::open(&config.state, lock_scope, shutdown.clone());
    let Some(options) = &config.database else {
        let gallery = FolderStore::open_locked(&config.gallery, lock_scope)?;
        report_quarantined(gallery.files(), config);
        let state = open_state()?;
        let files = StateFiles::open(state.folder()).map_err(ServeError::Audit)?;
        return Ok((Arc::new(gallery.with_state(files)), None, state));
    };
    let files = CsvGallery::open_locked(&config.gallery, lock_scope)?;
    let state = open_state()?;
    // Those of a folder gallery with the same state folder.
    remove_templates(state.folder()).map_err(StoreError::from)?;
    let unsent = UnsentLines::open(state.folder()).map_err(|error| {
        let file = state.folder().join(UNSENT_LINES);
        let text = format!("cannot write the audit log {}: {error}", file.display());
        ServeError::Audit(std::io::Error::new(error.kind(), text))
    })?;
    let database = Database::open(options)?;
    schema::check(&database)?;
    schema::check_rights(&database)?;
    tracing::info!(database = %options, "people are in a database");
    if fleet::outlasts_deadline(config.fleet.lease, config.deadline) {
        tracing::warn!(
            "deletions answer 504 while a node is dead, because they wait 1.1 times --lease ({} s) and give up after --deadline ({} s); \
             lower --lease on all nodes, or raise --deadline",
            config.fleet.lease.as_secs_f64(),
            config.deadline.as_secs_f64()
        );
    }
    let node = Node {
        files,
        unsent: unsent.into(),
    };
    let store = PostgresStore::open_node(database, node, config.fleet.clone())?;
    let shared = store.sessions();
    Ok((Arc::new(store), Some(shared), state))
}

/// Opens the sessions, and logs the damaged ones. Those of a database are used once this node has
/// joined.
fn open_sessions(
    config: &Config,
    state_folder: &Path,
    shared: Option<Arc<dyn SharedSessions>>,
) -> Result<SessionStore, ServeError> {
    if let Some(shared) = shared {
        let folder = state_folder.join(SESSIONS);
        if folder.is_dir() {
            tracing::warn!(
                "sessions are in the database; those in {} are not used, and deletions of people do not reach them: remove the folder",
                folder.display()
            );
        }
        return Ok(SessionStore::of_node(shared, config.sessions));
    }
    let (sessions, damaged) = SessionStore::open(state_folder, config.sessions)?;
    for journal in damaged {
        tracing::error!("{journal}");
    }
    sessions.sweep(Timestamp::now())?;
    Ok(sessions)
}

/// Logs the quarantined files that can be restored.
fn report_quarantined(gallery: &CsvGallery, config: &Config) {
    let quarantined = gallery.quarantined_files().unwrap_or_default();
    for file in quarantined
        .iter()
        .filter(|file| file.target.is_some())
        .take(MAX_PROBLEMS)
    {
        tracing::warn!(
            "{} was set aside as damaged and is whole: run `rostro gallery check --restore --gallery {}` while the service is stopped",
            file.path.display().to_string().escape_debug(),
            config.gallery.display()
        );
    }
}

/// Logs the budgets, and the machine that they were derived from.
fn report_sizes(config: &Config) {
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
            "the people of the gallery may need {} MiB more than this process may use; raise its memory limit, because \
             the system kills a process that exceeds it",
            config.memory_short_mib
        );
    }
}

/// Logs the state of the gallery. `left_alone` counts the unusable files by reason.
fn report_gallery(
    report: &ViewReport,
    left_alone: &BTreeMap<&'static str, usize>,
    config: &Config,
) {
    for problem in report.problems.iter().take(MAX_PROBLEMS) {
        tracing::warn!("{}", problem.to_string().escape_debug());
    }
    let files: usize = left_alone.values().sum();
    if files > 0 {
        let reasons: Vec<String> = left_alone
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        tracing::error!(
            "{files} files of the gallery cannot be used, and their people are not recognised ({}); `rostro gallery check --gallery {}` lists remedies",
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
             if no id was ever given to another person, stop the service and run `rostro gallery trust-contracts`"
        );
    }
    tracing::info!(people = report.known, kept_templates = report.kept_templates, gallery = %config.gallery.display(), "gallery loaded");
}
