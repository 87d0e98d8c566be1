//! Revisions: staging, activation, and the routes of requests.
//!
//! A revision is staged in the background (`staging`, [`builder`]), and then activated, or set
//! next to the active one as canary or shadow (`change`). Every change is worked out on a copy of
//! the `record`, written to the `state_folder`, and only then applied, by one swap of the `routes`:
//! a crash leaves the state before or after it. Requests never wait for a change. `recovery`
//! restores the state at a start, and `follow` applies what other nodes change.

pub mod agreement;
pub mod builder;
mod change;
mod counterparts;
mod folder;
mod follow;
mod push;
mod ready;
mod record;
mod recovery;
mod routes;
mod staging;
mod state_folder;
mod status;
mod trip;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;

use rostro_common::digest::Sha256Digest;
use rostro_common::ids::PersonId;
use rostro_gallery::Deletion;
use rostro_models::PackError;
use rostro_sandbox::limits::MAX_COMPONENT_BYTES;
use rostro_sandbox::settings::names::UnknownSettings;

use crate::audit::{Action, ActionOutcome, Audit};
use crate::people::{PeopleError, PersonLock, ViewReport};
use builder::{Occasion, StagedRevision};
use change::MAX_CONFLICTS;
use counterparts::counterparts;
use ready::breaker::ClientNumbers;
use record::Record;
use recovery::{ConfiguredEntry, RecoveryPlan, StartedRevision};

pub use crate::audit::Actor;
pub use agreement::{Agreement, Counts, IdentifiedFace};
pub(crate) use builder::MakeError;
pub use builder::RevisionBuilder;
pub use change::{ChangeError, ChangeOutcome, RevisionChange};
pub(crate) use counterparts::{Counterpart, EnrollTargets};
pub use folder::FolderAction;
pub use follow::FollowError;
pub use push::{PushRequest, Reconfiguration};
pub(crate) use ready::breaker::TripCounts;
pub(crate) use ready::{Outcome, ReadyRevision};
pub use record::ConfiguredTexts;
pub use record::copy::{RevisionCopy, RevisionCopyError, copy_revisions};
pub use record::needed::{NeededComponent, needed_components};
pub use recovery::Configured;
pub(crate) use routes::{Canary, Routes, Shadow, ShareCounter};
pub use routes::{Preference, RoutedRevision};
pub(crate) use staging::lower_priority;
pub use state_folder::{StateError, StateFolder};
pub use status::{NodeStatus, RevisionState, RevisionStatus, Statuses};

/// The most revisions that are kept ready in addition to the active and the previous one. Each
/// holds its compiled code, and an index of the people if its embeddings or its policy differ.
const READY: usize = 4;

/// The most failed and retired revisions in the record.
const REMEMBERED: usize = 50;

/// All revisions, and the routes of requests to them.
#[derive(Debug)]
pub struct Deployment {
    builder: RevisionBuilder,
    state_folder: StateFolder,
    audit: Audit,
    routes: ArcSwap<Routes>,
    state: Mutex<DeploymentState>,
    queue: staging::StagingQueue,
    /// Failures in a row after which the circuit breaker takes a revision out.
    breaker: AtomicU32,
    /// Whether the active revision of the record is staged here.
    serves_active: AtomicBool,
    /// Whether this node is not ready, because the active revision fails here alone.
    is_tripped: AtomicBool,
    clients: ClientNumbers,
    /// Number of answers without a lease.
    stale_answers: AtomicU64,
}

/// The record and the revisions in memory. Locked during a change.
#[derive(Debug)]
struct DeploymentState {
    record: Record,
    /// Revisions that can serve at once.
    ready: HashMap<Sha256Digest, Arc<ReadyRevision>>,
    /// Revisions of a shared record that this node cannot serve, with the reasons.
    failures: HashMap<Sha256Digest, String>,
    /// Those of them whose staging the database interrupted.
    interrupted: HashSet<Sha256Digest>,
    /// Retired revisions that a request still uses.
    leaving: HashMap<Sha256Digest, Weak<ReadyRevision>>,
    /// Counters of the current shares.
    canary: Option<Arc<ShareCounter>>,
    shadow: Option<(Arc<ShareCounter>, Arc<Agreement>)>,
    /// Number of revisions that the breaker took out.
    broken: u64,
    /// Number of times that the breaker tripped and no other revision could serve.
    stuck: u64,
    /// Both by the rule that fired.
    trips: TripCounts,
}

/// Reason why no revision can serve at a start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The configured pack cannot be used.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The configured pipeline cannot serve.
    #[error("{0}")]
    Make(#[from] MakeError),
    /// The revision that the other nodes serve cannot serve here.
    #[error(
        "the revision {} is active in the database, and cannot serve on this node: {cause}",
        .id.short()
    )]
    Shared {
        /// The revision.
        id: Sha256Digest,
        /// The reason.
        cause: Box<MakeError>,
    },
    /// The record has no entry of its active revision.
    #[error("the record of revisions in the database has no entry of its active revision {0}")]
    NoEntry(Sha256Digest),
    /// The configured pipeline does not know a setting of the configuration.
    #[error(
        "{0}; correct the setting, or allow it for a pipeline that will be pushed with --unknown-settings warn"
    )]
    UnknownSettings(#[from] UnknownSettings),
    /// The operating system refuses a file or a thread.
    #[error("cannot start staging: {0}")]
    Io(#[from] std::io::Error),
}

impl Deployment {
    /// Restores the state of the record, or begins with the configured pipeline, as
    /// `RecoveryPlan` decides.
    ///
    /// # Errors
    ///
    /// If no revision can serve.
    pub fn open(
        builder: RevisionBuilder,
        state_folder: StateFolder,
        audit: Audit,
        configured: &Configured,
        breaker: u32,
    ) -> Result<(Arc<Self>, ViewReport), OpenError> {
        let store = Arc::clone(builder.people.store());
        let mut conflicts = 0;
        let start = loop {
            let before = state_folder.read(&*store)?;
            let start = match before.active {
                Some(active) if store.is_shared() => {
                    Start::by_shared_record(&builder, &state_folder, configured, before, active)
                }
                _ => Start::by_plan(&builder, &state_folder, &audit, configured, before),
            };
            match start {
                // Another node has written the first record, by which this one serves then.
                Err(OpenError::State(StateError::Conflict)) if conflicts < MAX_CONFLICTS => {
                    conflicts += 1;
                }
                start => break start?,
            }
        };
        let Start {
            record,
            staged: StagedRevision { ready, report },
            staged_again,
            plan,
            outcome,
        } = start;
        let active = ready.id();
        state_folder.sweep(&record);
        let (queue, jobs) = staging::queue();
        let store = builder.people.store();
        let number = store.is_shared().then(|| store.archive_number()).flatten();
        let clients = ClientNumbers::new(number.map(|number| number.gallery));
        let state = DeploymentState::new(record, &ready, store.is_shared());
        let deployment = Arc::new(Self {
            builder,
            state_folder,
            audit,
            routes: ArcSwap::from_pointee(Routes {
                counterparts: counterparts(&state.record, &state.ready, &ready),
                active: ready,
                canary: None,
                shadow: None,
            }),
            state: Mutex::new(state),
            queue,
            breaker: AtomicU32::new(breaker),
            serves_active: AtomicBool::new(true),
            is_tripped: AtomicBool::new(false),
            clients,
            stale_answers: AtomicU64::new(0),
        });
        deployment.report_start(plan.as_ref(), active, outcome);
        deployment.report(&deployment.locked());
        deployment.judge_fleet();
        staging::start(&deployment, jobs)?;
        for id in staged_again {
            // The receiving thread lives as long as the deployment.
            let _ = deployment.queue.send(id);
        }
        Ok((deployment, report))
    }

    /// Writes the start to the audit log, and warns if the configured revision does not serve.
    fn report_start(
        &self,
        plan: Option<&RecoveryPlan>,
        active: Sha256Digest,
        outcome: ActionOutcome,
    ) {
        let actor = Actor::part("start");
        self.audit
            .note(&actor, Action::Activate, Some(active), outcome, "");
        let Some(plan) = plan.filter(|plan| plan.is_configured_staged(active)) else {
            return;
        };
        let (new, active) = (plan.configured.short(), active.short());
        let detail = format!(
            "the configured files changed; {active}, which an operator activated, stays active, and this one is staged"
        );
        self.audit.note(
            &actor,
            Action::Configure,
            Some(plan.configured),
            ActionOutcome::Unchanged,
            &detail,
        );
        tracing::warn!(
            revision = new,
            "the configured pipeline changed since the last start and is only staged, because an operator activated {active}; activate it with \
             `rostro pipeline activate {new}`"
        );
    }

    /// Locks the state folder again if another program replaced its lock.
    pub fn check_lock(&self) {
        self.state_folder.check_lock();
    }

    /// Returns the revision that serves a request that begins now, and its shadow.
    pub(crate) fn route(&self, preference: Preference) -> RoutedRevision {
        self.routes.load().route(preference)
    }

    /// Returns the routes at this moment.
    pub(crate) fn routes(&self) -> Arc<Routes> {
        self.routes.load_full()
    }

    /// Returns the revision that serves.
    pub fn active(&self) -> Arc<ReadyRevision> {
        Arc::clone(&self.routes.load().active)
    }

    /// Returns the revisions for which an enrolment that begins now is embedded.
    pub(crate) fn enroll_targets(&self) -> EnrollTargets {
        let routes = self.routes.load();
        EnrollTargets {
            active: Arc::clone(&routes.active),
            counterparts: routes.counterparts.clone(),
        }
    }

    /// Returns the number of unusable files of the gallery by reason.
    pub fn files_left_alone(&self) -> BTreeMap<&'static str, usize> {
        self.builder.people.left_alone()
    }

    /// Deletes a person with the samples of all contracts. The logs do not identify the person.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be written.
    pub(crate) fn delete_person(
        &self,
        lock: &PersonLock,
        actor: &Actor,
    ) -> Result<Deletion, PeopleError> {
        let deleted = self.builder.people.delete(lock);
        let outcome = match &deleted {
            Ok(removed) => ActionOutcome::of_change(removed.was_there),
            Err(_) => ActionOutcome::Failed,
        };
        self.audit
            .note_people(actor, Action::DeletePerson, outcome, [lock.id()]);
        deleted
    }

    /// Returns the audit log.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Records an action on a person. The audit log has a keyed hash of the id.
    pub(crate) fn record_person(
        &self,
        actor: &Actor,
        action: Action,
        outcome: ActionOutcome,
        id: &PersonId,
    ) {
        self.audit.note_people(actor, action, outcome, [id]);
    }

    /// Records an action on many people with one write.
    pub(crate) fn record_people<'p>(
        &self,
        actor: &Actor,
        action: Action,
        outcome: ActionOutcome,
        ids: impl IntoIterator<Item = &'p PersonId>,
    ) {
        self.audit.note_people(actor, action, outcome, ids);
    }

    /// Records an action on the gallery or a group as a whole.
    pub(crate) fn record_gallery(&self, actor: &Actor, action: Action, outcome: ActionOutcome) {
        self.audit.note(actor, action, None, outcome, "");
    }

    /// Largest size of a component in bytes.
    pub const MOST_BYTES: usize = MAX_COMPONENT_BYTES;

    /// Swaps the routes for those of the record, and releases revisions that have no use any more.
    fn apply_record(&self, state: &mut DeploymentState) {
        let DeploymentState {
            record,
            ready,
            failures,
            leaving,
            canary,
            shadow,
            ..
        } = &mut *state;
        let find = |id: Option<Sha256Digest>| id.and_then(|id| ready.get(&id)).cloned();
        let active = find(record.active);
        self.serves_active.store(active.is_some(), Ordering::SeqCst);
        let Some(active) = active else {
            tracing::warn!("this node answers nothing until it has staged the active revision");
            return self.report(state);
        };
        if active.id() != self.routes.load().active.id() {
            active.report_if_all_people_are_lost();
        }
        let canary = find(record.canary.map(|share| share.id))
            .zip(canary.clone())
            .map(|(ready, share)| Canary { ready, share });
        let shadow = find(record.shadow.map(|share| share.id))
            .zip(shadow.clone())
            .map(|(ready, (share, agreement))| Shadow {
                ready,
                share,
                agreement,
            });
        let counterparts = counterparts(record, ready, &active);
        self.routes.store(Arc::new(Routes {
            active,
            canary,
            shadow,
            counterparts,
        }));
        let is_needed = |id: &Sha256Digest| {
            record
                .entry(*id)
                .is_some_and(|entry| entry.status.is_wanted())
        };
        failures.retain(|id, _| is_needed(id));
        for (id, revision) in ready.extract_if(|id, _| !is_needed(id)) {
            leaving.insert(id, Arc::downgrade(&revision));
        }
        leaving.retain(|_, revision| revision.strong_count() > 0);
        self.state_folder.sweep(record);
        self.report(state);
    }

    /// Records an upload that was refused before it was complete.
    pub fn record_refused(&self, actor: &Actor, action: Action, reason: &str) {
        self.audit.note(
            actor,
            action,
            None,
            ActionOutcome::Refused,
            &shortened(reason),
        );
    }

    /// Records the outcome of a change. `detail` is written in addition to the action's name.
    fn record_change(
        &self,
        actor: &Actor,
        action: Action,
        detail: &str,
        outcome: &Result<ChangeOutcome, ChangeError>,
    ) {
        match outcome {
            Ok(ChangeOutcome { id, changed, .. }) => self.audit.note(
                actor,
                action,
                Some(*id),
                ActionOutcome::of_change(*changed),
                detail,
            ),
            Err(error) => {
                let mut reason = shortened(&error.to_string());
                if !detail.is_empty() {
                    reason = format!("{detail}; {reason}");
                }
                self.audit.note(
                    actor,
                    action,
                    error.revision(),
                    ActionOutcome::Refused,
                    &reason,
                );
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, DeploymentState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a start serves.
struct Start {
    record: Record,
    staged: StagedRevision,
    /// Further revisions to stage.
    staged_again: Vec<Sha256Digest>,
    /// None if the record is another node's.
    plan: Option<RecoveryPlan>,
    outcome: ActionOutcome,
}

impl Start {
    /// Starts by the record and the configuration of this service.
    fn by_plan(
        builder: &RevisionBuilder,
        state_folder: &StateFolder,
        audit: &Audit,
        configured: &Configured,
        mut before: Record,
    ) -> Result<Self, OpenError> {
        let store = &**builder.people.store();
        if let Some(contract) = before.legacy.as_ref().and_then(|text| text.parse().ok()) {
            builder.people.adopt_legacy(&contract);
        }
        let spec = configured.store(state_folder, store)?;
        let has_adopted_ids = before.adopt_current_ids(&spec, |pack| builder.manifest(pack));
        let plan = RecoveryPlan::new(&before, builder.id(&spec)?, &configured.texts);
        let mut record = before.clone();
        let StartedRevision { staged, outcome } =
            recovery::start(&plan, &spec, &mut record, builder, state_folder, audit)?;
        let active = staged.ready.id();
        let is_strict = active == plan.configured && !configured.may_lack_settings;
        recovery::check_settings(builder, &staged.ready, is_strict)?;
        let staged_again = plan.update(
            &mut record,
            active,
            staged.ready.info(),
            ConfiguredEntry {
                former_id: builder.former_id(&spec),
                spec,
                texts: &configured.texts,
            },
            now(),
        );
        if has_adopted_ids || record != before {
            state_folder.write(store, &record)?;
        }
        Ok(Self {
            record,
            staged,
            staged_again,
            plan: Some(plan),
            outcome,
        })
    }

    /// Starts by a record that other nodes serve by. The configured pipeline does not count.
    fn by_shared_record(
        builder: &RevisionBuilder,
        state_folder: &StateFolder,
        configured: &Configured,
        record: Record,
        active: Sha256Digest,
    ) -> Result<Self, OpenError> {
        if let Some(contract) = record.legacy.as_ref().and_then(|text| text.parse().ok()) {
            builder.people.adopt_legacy(&contract);
        }
        let spec = record.entry(active).map(|entry| &entry.spec);
        let spec = spec.ok_or(OpenError::NoEntry(active))?;
        let staged = builder.make(state_folder, active, spec, Occasion::Configure);
        let staged = staged.map_err(|cause| OpenError::Shared {
            id: active,
            cause: Box::new(cause),
        })?;
        recovery::check_settings(builder, &staged.ready, false)?;
        configured.warn_unless_active(builder, &record, active);
        let others = record.revisions.iter();
        let others = others.filter(|entry| entry.id != active && entry.status.is_wanted());
        Ok(Self {
            staged_again: others.map(|entry| entry.id).collect(),
            record,
            staged,
            plan: None,
            outcome: ActionOutcome::Restored,
        })
    }
}

impl DeploymentState {
    /// Returns the state of a record of which only the active revision is ready.
    fn new(record: Record, active: &Arc<ReadyRevision>, is_shared: bool) -> Self {
        Self {
            ready: HashMap::from([(active.id(), Arc::clone(active))]),
            failures: HashMap::new(),
            interrupted: HashSet::new(),
            leaving: HashMap::new(),
            canary: record
                .canary
                .map(|canary| share_counter(canary.share, is_shared)),
            shadow: record
                .shadow
                .map(|shadow| (share_counter(shadow.share, is_shared), Arc::default())),
            broken: 0,
            stuck: 0,
            trips: TripCounts::default(),
            record,
        }
    }
}

/// Returns the counter of a share. On a node of a fleet its phase is random, so that all nodes
/// together take the share of few requests, too.
fn share_counter(share: f64, is_shared: bool) -> Arc<ShareCounter> {
    let phase = if is_shared { fastrand::f64() } else { 0.0 };
    Arc::new(ShareCounter::new(share, phase))
}

/// Returns a reason cut to a readable length, because a component's messages can be long.
fn shortened(reason: &str) -> String {
    const LONGEST: usize = 4096;
    match reason.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", reason.get(..end).unwrap_or_default()),
        None => reason.to_owned(),
    }
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}
