//! Which revisions there are, what becomes of each, and which serves a request.
//!
//! A revision is staged in the background ([`staging`], [`builder`]), and then activated, or set
//! beside the active one as canary or shadow. Every change is worked out on a copy of the
//! [`record`], written, and only then put in force, by one swap of the [`routes`]: a crash leaves
//! the state before or after it. Requests never wait for a change.

pub mod agreement;
mod breaker;
pub mod builder;
mod change;
mod configured;
mod counterparts;
mod folder;
mod live;
mod private;
mod push;
mod record;
mod routes;
mod staging;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;

use rostro_common::digest::Sha256Digest;
use rostro_common::ids::PersonId;
use rostro_gallery::Removal;
use rostro_models::PackError;
use rostro_sandbox::component::MAX_COMPONENT_BYTES;
use rostro_sandbox::settings::names::UnknownSettings;

use crate::audit::{Action, ActionOutcome, Audit};
use crate::people::{PeopleError, PersonLock, ViewReport};
use configured::{StartChoice, choose};
use counterparts::counterparts;
use record::{Record, RevisionEntry, RevisionInfo, RevisionSpec, Status};
use routes::{Canary, Routes, Shadow, ShareCounter};

pub use crate::audit::Actor;
pub use agreement::{Agreement, Counts, IdentifiedFace};
pub(crate) use breaker::TripCounts;
pub(crate) use builder::MakeError;
pub use builder::RevisionBuilder;
pub use change::{ChangeError, ChangeOutcome};
pub use configured::{Configured, ConfiguredTexts};
pub(crate) use counterparts::Counterpart;
pub use folder::FolderAction;
pub(crate) use live::{Outcome, ReadyRevision, is_at_fault};
pub use push::PushRequest;
pub use record::{StateError, Store};
pub use routes::{Preference, RoutedRevision};
pub(crate) use staging::step_back;
pub use status::{RevisionState, RevisionStatus, Statuses};

/// The most revisions beside the active and the previous one that are kept ready: each holds its
/// compiled code, and an index of the people if its embeddings or its policy are others.
const READY: usize = 4;

/// The most revisions that are remembered after they failed or were retired.
const REMEMBERED: usize = 50;

/// All revisions, and which of them serves.
#[derive(Debug)]
pub struct Deployment {
    builder: RevisionBuilder,
    store: Store,
    audit: Audit,
    routes: ArcSwap<Routes>,
    state: Mutex<DeploymentState>,
    queue: staging::StagingQueue,
    /// Failures in a row after which a revision is taken out.
    breaker: AtomicU32,
}

/// What is known of the revisions; held while something is changed.
#[derive(Debug)]
struct DeploymentState {
    record: Record,
    /// Those that could serve at once.
    ready: HashMap<Sha256Digest, Arc<ReadyRevision>>,
    /// Those that were let go, as long as a request still uses them.
    leaving: HashMap<Sha256Digest, Weak<ReadyRevision>>,
    /// The shares in force, which count.
    canary: Option<Arc<ShareCounter>>,
    shadow: Option<(Arc<ShareCounter>, Arc<Agreement>)>,
    /// Revisions that the breaker took out.
    broken: u64,
    /// Times that it would have, and nothing could take the revision's place.
    stuck: u64,
    /// Both by the rule that fired.
    trips: TripCounts,
}

/// Why revisions cannot be taken up at the start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What is remembered cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The configured pack cannot be used.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The configured pipeline cannot serve.
    #[error("{0}")]
    Make(#[from] MakeError),
    /// The configured pipeline does not know a setting of the configuration.
    #[error(
        "{0}; correct the setting, or allow it for a pipeline that will be pushed with --unknown-settings warn"
    )]
    UnknownSettings(#[from] UnknownSettings),
    /// The operating system refuses a file or a thread.
    #[error("cannot begin to stage: {0}")]
    Io(#[from] std::io::Error),
}

impl Deployment {
    /// Takes up what was remembered, or begins with what is configured, as [`choose`] says.
    ///
    /// # Errors
    ///
    /// If nothing can serve.
    pub fn open(
        builder: RevisionBuilder,
        store: Store,
        audit: Audit,
        configured: &Configured,
        breaker: u32,
    ) -> Result<(Arc<Self>, ViewReport), OpenError> {
        let mut record = store.read()?;
        if let Some(contract) = record.legacy.as_ref().and_then(|text| text.parse().ok()) {
            builder.people.adopt_legacy(&contract);
        }
        let spec = RevisionSpec {
            vision: store.keep(&configured.vision)?,
            policy: configured
                .policy
                .as_ref()
                .map(|bytes| store.keep(bytes))
                .transpose()?,
            pack: configured.pack.clone(),
            limits: BTreeMap::new(),
        };
        let wanted = builder.id(&spec)?;
        let choice = choose(&record, wanted, &configured.texts);
        let restored = match choice {
            StartChoice::Configured => None,
            StartChoice::Remembered | StartChoice::RememberedAndStaged => {
                remembered(&builder, &store, &audit, &mut record)
            }
        };
        let (live, report, how) = match restored {
            Some((live, report)) => (live, report, ActionOutcome::Restored),
            None => {
                let (live, report) = builder.make(&store, wanted, &spec)?;
                (live, report, ActionOutcome::Configured)
            }
        };
        let id = live.id();
        check_settings(
            &builder,
            &live,
            id == wanted && !configured.may_lack_settings,
        )?;
        let before = record.clone();
        if record.active != Some(id) {
            record.retire_previous();
            record.previous = record.active.filter(|active| *active != id);
            record.rolled_back = false;
        }
        record.clear_roles(id);
        record.active = Some(id);
        if record.configured != Some(wanted) {
            record.retire_configured();
        }
        record.configured = Some(wanted);
        record.configured_texts = Some(configured.texts.clone());
        record
            .legacy
            .get_or_insert_with(|| live.revision.contract().id.to_string());
        if record.entry(wanted).is_none() {
            record.revisions.push(RevisionEntry {
                id: wanted,
                spec,
                about: None,
                since: now(),
                enrol: false,
                status: Status::Staging,
            });
        }
        let is_staged_only = choice == StartChoice::RememberedAndStaged && id != wanted;
        if let Some(entry) = record.entry_mut(wanted).filter(|_| is_staged_only) {
            // It may have failed or been retired before.
            entry.status = Status::Staging;
        }
        if let Some(entry) = record.entry_mut(id) {
            entry.about = Some(about(&live));
            entry.status = Status::Staged;
        }
        // What else was ready is made ready again, behind the scenes.
        let waiting: Vec<Sha256Digest> = record
            .revisions
            .iter()
            .filter(|entry| entry.id != id && is_wanted(&record, entry))
            .map(|entry| entry.id)
            .collect();
        for id in &waiting {
            if let Some(entry) = record.entry_mut(*id) {
                entry.status = Status::Staging;
            }
        }
        if record != before {
            store.write(&record)?;
        }
        store.sweep(&record);
        let ready = HashMap::from([(id, Arc::clone(&live))]);
        let counterparts = counterparts(&record, &ready, &live);
        let routes = Routes {
            active: live,
            canary: None,
            shadow: None,
            counterparts,
        };
        let state = DeploymentState {
            ready,
            leaving: HashMap::new(),
            canary: record
                .canary
                .map(|beside| Arc::new(ShareCounter::new(beside.share))),
            shadow: record
                .shadow
                .map(|beside| (Arc::new(ShareCounter::new(beside.share)), Arc::default())),
            broken: 0,
            stuck: 0,
            trips: TripCounts::default(),
            record,
        };
        let (queue, jobs) = staging::queue();
        let deployment = Self {
            builder,
            store,
            audit,
            routes: ArcSwap::from_pointee(routes),
            state: Mutex::new(state),
            queue,
            breaker: AtomicU32::new(breaker),
        };
        let deployment = Arc::new(deployment);
        deployment
            .audit
            .note(&Actor::part("start"), Action::Activate, Some(id), how, "");
        if is_staged_only {
            let (new, active) = (wanted.short(), id.short());
            let detail = format!(
                "the configured files changed; {active}, which an operator activated, stays active, and this one is staged"
            );
            deployment.audit.note(
                &Actor::part("start"),
                Action::Configure,
                Some(wanted),
                ActionOutcome::Unchanged,
                &detail,
            );
            tracing::warn!(
                revision = new,
                "the configured pipeline is another than at the last start and is staged only, because an operator activated {active}; have it \
                 serve with `rostro pipeline activate {new}`"
            );
        }
        staging::start(&deployment, jobs)?;
        for id in waiting {
            // The thread lives as long as this does.
            let _ = deployment.queue.send(id);
        }
        Ok((deployment, report))
    }

    /// Locks the state folder again if another program replaced its lock.
    pub fn check_lock(&self) {
        self.store.check_lock();
    }

    /// What serves a request that begins now.
    pub(crate) fn take(&self, preference: Preference) -> RoutedRevision {
        self.routes.load().take(preference)
    }

    /// The revision that serves.
    pub fn active(&self) -> Arc<ReadyRevision> {
        Arc::clone(&self.routes.load().active)
    }

    /// Returns what an enrolment that begins now is embedded for: the active revision, and one for
    /// each other contract that may serve next.
    pub(crate) fn enrolling(&self) -> (Arc<ReadyRevision>, Vec<Counterpart>) {
        let routes = self.routes.load();
        (Arc::clone(&routes.active), routes.counterparts.clone())
    }

    /// Counts the files of the gallery that cannot be used by reasons.
    pub fn files_left_alone(&self) -> BTreeMap<&'static str, usize> {
        self.builder.people.left_alone()
    }

    /// Removes a person, whatever contract they are known by. Who it was is not written down.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be written.
    pub(crate) fn delete_person(
        &self,
        lock: &PersonLock,
        actor: &Actor,
    ) -> Result<Removal, PeopleError> {
        let deleted = self.builder.people.remove(lock);
        let outcome = match &deleted {
            Ok(removed) => ActionOutcome::of_change(removed.was_there),
            Err(_) => ActionOutcome::Failed,
        };
        self.audit
            .note_people(actor, Action::DeletePerson, outcome, [lock.id()]);
        deleted
    }

    /// The audit log.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Records an action on a person, of whom the audit log has a keyed hash.
    pub(crate) fn note_person(
        &self,
        actor: &Actor,
        action: Action,
        outcome: ActionOutcome,
        id: &PersonId,
    ) {
        self.audit.note_people(actor, action, outcome, [id]);
    }

    /// Records an action on many people with one write.
    pub(crate) fn note_people<'p>(
        &self,
        actor: &Actor,
        action: Action,
        outcome: ActionOutcome,
        ids: impl IntoIterator<Item = &'p PersonId>,
    ) {
        self.audit.note_people(actor, action, outcome, ids);
    }

    /// Records an action on the gallery or a group as a whole.
    pub(crate) fn note_gallery(&self, actor: &Actor, action: Action, outcome: ActionOutcome) {
        self.audit.note(actor, action, None, outcome, "");
    }

    /// The most bytes that a component may have.
    pub const MOST_BYTES: usize = MAX_COMPONENT_BYTES;

    /// Swaps the routes for those that the record says, and lets go what nothing needs any more.
    fn put_in_force(&self, state: &mut DeploymentState) {
        let DeploymentState {
            record,
            ready,
            leaving,
            canary,
            shadow,
            ..
        } = state;
        let of = |id: Option<Sha256Digest>| id.and_then(|id| ready.get(&id)).cloned();
        let Some(active) = of(record.active) else {
            return;
        };
        if active.id() != self.routes.load().active.id() {
            active.report_if_everybody_is_lost();
        }
        let canary = of(record.canary.map(|beside| beside.id))
            .zip(canary.clone())
            .map(|(live, share)| Canary { live, share });
        let shadow = of(record.shadow.map(|beside| beside.id)).zip(shadow.clone());
        let shadow = shadow.map(|(live, (share, agreement))| Shadow {
            live,
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
                .is_some_and(|entry| entry.status == Status::Staged)
        };
        for (id, live) in ready.extract_if(|id, _| !is_needed(id)) {
            leaving.insert(id, Arc::downgrade(&live));
        }
        leaving.retain(|_, live| live.strong_count() > 0);
        self.store.sweep(&state.record);
    }

    /// Writes down an upload that was refused before it was whole.
    pub fn note_refused(&self, actor: &Actor, action: Action, why: &str) {
        self.audit
            .note(actor, action, None, ActionOutcome::Refused, &shortened(why));
    }

    /// Writes down what came of a change; `how` says more of it than its name does.
    fn note(
        &self,
        actor: &Actor,
        action: Action,
        how: &str,
        outcome: &Result<ChangeOutcome, ChangeError>,
    ) {
        match outcome {
            Ok(ChangeOutcome { id, changed }) => self.audit.note(
                actor,
                action,
                Some(*id),
                ActionOutcome::of_change(*changed),
                how,
            ),
            Err(error) => {
                let why = [how, &shortened(&error.to_string())]
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>()
                    .join("; ");
                self.audit.note(
                    actor,
                    action,
                    error.revision(),
                    ActionOutcome::Refused,
                    &why,
                );
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, DeploymentState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The revision that was active. Where it cannot serve any more, the one before it.
fn remembered(
    builder: &RevisionBuilder,
    store: &Store,
    audit: &Audit,
    record: &mut Record,
) -> Option<(Arc<ReadyRevision>, ViewReport)> {
    for id in [record.active, record.previous].into_iter().flatten() {
        let Some(entry) = record.entry(id) else {
            continue;
        };
        match builder.make(store, id, &entry.spec) {
            Ok(made) => return Some(made),
            // The record stays as it is for the next start.
            Err(MakeError::Stopping) => return None,
            Err(error) => {
                tracing::error!(revision = id.short(), "cannot be restored: {error}");
                audit.note(
                    &Actor::part("start"),
                    Action::Restore,
                    Some(id),
                    ActionOutcome::Failed,
                    &shortened(&error.to_string()),
                );
                if let Some(entry) = record.entry_mut(id) {
                    entry.status = Status::Failed(error.to_string());
                }
            }
        }
    }
    None
}

/// Fails if the configured pipeline does not know a setting, which is then misspelt or meant for
/// another; of a revision that was pushed the log says so.
fn check_settings(
    builder: &RevisionBuilder,
    live: &ReadyRevision,
    is_strict: bool,
) -> Result<(), UnknownSettings> {
    match live.revision.setting_names().check(&builder.tuning.own) {
        Err(unknown) if is_strict => Err(unknown),
        Err(unknown) => {
            tracing::warn!(revision = live.id().short(), "{unknown}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Whether a revision is to be ready after a start.
fn is_wanted(record: &Record, entry: &RevisionEntry) -> bool {
    let plays = [
        record.previous,
        record.canary.map(|beside| beside.id),
        record.shadow.map(|beside| beside.id),
    ]
    .contains(&Some(entry.id));
    plays || matches!(entry.status, Status::Staged | Status::Staging)
}

fn about(live: &ReadyRevision) -> RevisionInfo {
    let revision = &live.revision;
    let policy = revision.policy_identity();
    RevisionInfo {
        name: revision.name().to_owned(),
        version: revision.version().to_owned(),
        policy: policy.name.clone(),
        policy_version: policy.version.clone(),
        contract: revision.contract().id.to_string(),
    }
}

/// A reason as long as anybody reads: some of it is a stranger's words.
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
