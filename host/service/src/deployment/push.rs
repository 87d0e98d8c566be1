//! Push: a component's way to a staged revision, or to the reason why it cannot serve.
//!
//! [`Deployment::push`] writes the revision to the record and queues it. The staging thread makes
//! it ([`Deployment::stage_now`]) and records the result.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_common::digest::Sha256Digest;
use rostro_common::text::sanitize_name;
use rostro_sandbox::component::error::ComponentError;
use rostro_sandbox::component::{Function, functions};
use rostro_sandbox::half::Half;
use rostro_sandbox::limits::MAX_COMPONENT_BYTES;
use rostro_sandbox::settings::declared::VALUE;

use super::builder::{StagedRevision, StagingOutcome};
use super::record::{Record, RevisionEntry, RevisionSpec, Status};
use super::{
    Actor, ChangeError, ChangeOutcome, Deployment, DeploymentState, READY, REMEMBERED,
    ReadyRevision, StateError, now, shortened,
};
use crate::audit::{Action, ActionOutcome};

/// A component to push, and how to use it.
#[derive(Debug, Default)]
pub struct PushRequest {
    /// The component.
    pub bytes: Vec<u8>,
    /// The model pack. None for the active revision's.
    pub pack: Option<String>,
    /// Whether to use only the component's policy, with the active revision's vision.
    pub policy_only: bool,
    /// Expected digest of the bytes.
    pub digest: Option<Sha256Digest>,
    /// Limits tighter than the service's, by name.
    pub limits: BTreeMap<String, String>,
    /// Settings of its own, by name.
    pub settings: BTreeMap<String, String>,
    /// Whether enrolments are embedded for it before it is activated.
    pub enrol: bool,
}

/// Settings to change in a copy of a revision.
#[derive(Debug, Default)]
pub struct Reconfiguration {
    /// Settings of its own that it gets, by name.
    pub settings: BTreeMap<String, String>,
    /// Names of settings of its own that it loses.
    pub unset: Vec<String>,
}

impl Deployment {
    /// Adds a component as a revision, to be staged in the background. A known revision is staged
    /// again only if it failed or was retired.
    ///
    /// # Errors
    ///
    /// If it cannot become a revision at all.
    pub fn push(&self, request: PushRequest, actor: &Actor) -> Result<ChangeOutcome, ChangeError> {
        let mut detail = format!("SHA-256 {}", Sha256Digest::of(&request.bytes));
        let PushRequest { bytes, enrol, .. } = &request;
        let enrol = *enrol;
        let outcome = self
            .spec(&request)
            .and_then(|spec| self.add_revision(&spec, Some(bytes), enrol));
        if let Ok(ChangeOutcome { id, .. }) = outcome {
            detail.push_str(&self.spec_detail(id));
        }
        if enrol {
            detail.push_str(", sees enrolment photos");
        }
        self.record_change(actor, Action::Push, &detail, &outcome);
        outcome
    }

    /// Adds a revision of the same components as another one with other settings, to be staged in
    /// the background.
    ///
    /// # Errors
    ///
    /// If the other revision is unknown or its components are gone.
    pub fn configure(
        &self,
        id: Sha256Digest,
        change: &Reconfiguration,
        actor: &Actor,
    ) -> Result<ChangeOutcome, ChangeError> {
        let outcome = self
            .reconfigured(id, change)
            .and_then(|(spec, enrol)| self.add_revision(&spec, None, enrol));
        let mut detail = format!("of {}", id.short());
        if let Ok(ChangeOutcome { id, .. }) = outcome {
            detail.push_str(&self.spec_detail(id));
        }
        self.record_change(actor, Action::ChangeSettings, &detail, &outcome);
        outcome
    }

    /// Returns the parts of a revision with changed settings, and whether it sees enrolments.
    fn reconfigured(
        &self,
        id: Sha256Digest,
        change: &Reconfiguration,
    ) -> Result<(RevisionSpec, bool), ChangeError> {
        let state = self.locked();
        let entry = state.record.entry(id);
        let entry = entry.ok_or_else(|| ChangeError::Unknown(id.to_string()))?;
        if !entry.status.needs_components() {
            return Err(ChangeError::Retired(id.short()));
        }
        let mut spec = entry.spec.clone();
        if let Some(name) = change
            .unset
            .iter()
            .find(|name| !spec.settings.contains_key(*name))
        {
            return Err(ChangeError::NotSet {
                revision: id.short(),
                name: sanitize_name(name),
            });
        }
        spec.settings.retain(|name, _| !change.unset.contains(name));
        spec.settings.extend(change.settings.clone());
        check_settings(&spec.settings)?;
        Ok((spec, entry.enrol))
    }

    /// Returns a revision's own limits and settings for the audit log.
    fn spec_detail(&self, id: Sha256Digest) -> String {
        let state = self.locked();
        let pairs = |texts: &BTreeMap<String, String>| {
            let pairs = texts.iter().map(|(name, value)| format!("{name}={value}"));
            shortened(&pairs.collect::<Vec<_>>().join(", "))
        };
        let mut detail = String::new();
        if let Some(RevisionEntry { spec, .. }) = state.record.entry(id) {
            if !spec.limits.is_empty() {
                detail.push_str(&format!(", held to {}", pairs(&spec.limits)));
            }
            if !spec.settings.is_empty() {
                detail.push_str(&format!(", with {}", pairs(&spec.settings)));
            }
        }
        detail
    }

    /// Adds a revision. Without `bytes`, the components are stored already.
    fn add_revision(
        &self,
        spec: &RevisionSpec,
        bytes: Option<&Vec<u8>>,
        enrol: bool,
    ) -> Result<ChangeOutcome, ChangeError> {
        let id = self.builder.id(spec)?;
        let former_id = self.builder.former_id(spec);
        let mut state = self.locked();
        let store = &**self.builder.people.store();
        let outcome = self.commit_locked(&mut state, |draft| {
            let record = &mut draft.record;
            if let Some(entry) = record.entry_mut(id)
                && entry.status.is_wanted()
            {
                entry.enrol |= enrol;
                if let Some(bytes) = bytes.filter(|_| store.is_shared()) {
                    // What the database has may be damaged.
                    self.state_folder.keep_in(store, bytes)?;
                }
                return Ok(id);
            }
            // The active and the previous revision are allowed in addition.
            let wanted = record.revisions.iter();
            let wanted = wanted.filter(|entry| entry.status.is_wanted());
            if wanted.count() >= READY + 2 {
                return Err(ChangeError::TooMany { most: READY + 2 });
            }
            // Under the lock, because another change sweeps components that no revision needs.
            if let Some(bytes) = bytes {
                self.state_folder.keep_in(store, bytes)?;
            }
            record.revisions.retain(|entry| entry.id != id);
            record.revisions.push(RevisionEntry {
                id,
                former_id,
                spec: spec.clone(),
                about: None,
                since: now(),
                enrol,
                status: Status::Staging,
            });
            record.forget_old(REMEMBERED);
            Ok(id)
        })?;
        // A node that could not serve it tries again.
        let has_failed = state.failures.remove(&id).is_some();
        if (outcome.changed || has_failed) && !state.ready.contains_key(&id) {
            let _ = self.queue.send(id);
        }
        Ok(outcome)
    }

    /// Returns the parts of the revision that a push makes, with the active revision's half where
    /// the component has none.
    fn spec(&self, request: &PushRequest) -> Result<RevisionSpec, ChangeError> {
        let digest = Sha256Digest::of(&request.bytes);
        if let Some(expected) = request.digest.filter(|expected| *expected != digest) {
            return Err(ChangeError::OtherBytes {
                expected,
                received: digest,
                size: request.bytes.len(),
            });
        }
        if request.bytes.len() > MAX_COMPONENT_BYTES {
            return Err(ComponentError::TooLarge {
                size: request.bytes.len(),
            }
            .into());
        }
        // The functions follow from the component's type, which is cheap to read. Bytes that are
        // no component are refused at once.
        let functions = functions(&request.bytes)?;
        let has_vision = functions.contains(&Function::Vision);
        let has_rule = functions
            .iter()
            .any(|function| function.half() == Half::Policy);
        // The active policy has the rules that vision lacks.
        let has_policy = match has_vision && !request.policy_only {
            true => Function::RULES
                .iter()
                .all(|function| functions.contains(function)),
            false => has_rule,
        };
        let revision = self.active();
        let active = &revision.spec;
        let (vision, policy) = match (has_vision, has_policy) {
            (true, true) if !request.policy_only => (digest, None),
            // A component without all rules keeps the active policy.
            (true, false) if !request.policy_only => {
                (digest, Some(active.policy.unwrap_or(active.vision)))
            }
            (_, true) => (active.vision, Some(digest)),
            (_, false) => return Err(ChangeError::NoPolicy),
        };
        // The active half that stays keeps its limits.
        let service = self.builder.engine.limits();
        let mut limits = if policy.is_some() {
            service.at_most(&active.limits)?.named(active.limits.keys())
        } else {
            BTreeMap::new()
        };
        limits.extend(
            service
                .tightened(&request.limits)?
                .named(request.limits.keys()),
        );
        // So does it keep its settings, and the half that is replaced loses its own.
        let kept = match policy {
            Some(policy) if policy == digest => Some(Half::Vision),
            Some(_) => Some(Half::Policy),
            None => None,
        };
        let mut settings = active.settings.clone();
        settings.retain(|name, _| kept.is_some_and(|half| revision.revision.may_know(half, name)));
        settings.extend(request.settings.clone());
        check_settings(&settings)?;
        Ok(RevisionSpec {
            vision,
            policy,
            pack: request.pack.clone().unwrap_or_else(|| active.pack.clone()),
            limits,
            settings,
        })
    }

    /// Stages a revision on the staging thread, and records the result.
    pub(super) fn stage_now(&self, id: Sha256Digest) {
        let Some(spec) = self.spec_to_stage(id) else {
            return;
        };
        let begun = Instant::now();
        let outcome = self.builder.stage(&self.state_folder, id, &spec);
        if self.builder.shutdown.has_begun() {
            // Its status stays `staging`, so the next start stages it again.
            return;
        }
        match outcome {
            StagingOutcome::Ready(staged) => self.record_staged(id, staged, begun.elapsed()),
            StagingOutcome::Failed(reason) => self.record_failed(id, &reason),
            StagingOutcome::Interrupted(reason) => self.record_interrupted(id, reason),
            StagingOutcome::Panicked => self.record_failed(
                id,
                "staging failed unexpectedly; the service's log has the cause",
            ),
        }
    }

    /// Makes a revision available that was staged in this time.
    fn record_staged(&self, id: Sha256Digest, staged: StagedRevision, time: Duration) {
        let StagedRevision { ready, report } = staged;
        for problem in &report.problems {
            tracing::warn!("{}", problem.to_string().escape_debug());
        }
        let detail = format!(
            "{} {} in {} ms; {} people, {} to be enrolled again, {} files that cannot be used",
            ready.revision.name(),
            ready.revision.version(),
            time.as_millis(),
            report.known,
            report.need_enrolment,
            report.problems.len()
        );
        match self.add_ready(id, ready) {
            Ok(()) => self.audit_staging(id, ActionOutcome::Staged, &detail),
            Err(error) => self.record_unwritten(id, ActionOutcome::Staged, &error),
        }
    }

    /// Records that a revision cannot serve.
    fn record_failed(&self, id: Sha256Digest, reason: &str) {
        match self.mark_failed(id, reason) {
            Ok(()) => self.audit_staging(id, ActionOutcome::Failed, reason),
            Err(error) => self.record_unwritten(id, ActionOutcome::Failed, &error),
        }
    }

    /// Records that the database interrupted staging, which is repeated when it answers again.
    fn record_interrupted(&self, id: Sha256Digest, reason: String) {
        tracing::warn!(revision = id.short(), "cannot stage it now: {reason}");
        let mut state = self.locked();
        state.failures.insert(id, reason);
        state.interrupted.insert(id);
        self.report(&state);
    }

    /// Returns the parts of a revision that is wanted and not ready.
    fn spec_to_stage(&self, id: Sha256Digest) -> Option<RevisionSpec> {
        let state = self.locked();
        let entry = state.record.entry(id)?;
        (entry.status.is_wanted() && !state.ready.contains_key(&id)).then(|| entry.spec.clone())
    }

    /// Marks a revision as failed whose `outcome` cannot be written. In memory only: it can be
    /// pushed again. A stop says nothing about the revision.
    fn record_unwritten(&self, id: Sha256Digest, outcome: ActionOutcome, error: &ChangeError) {
        if matches!(error, ChangeError::State(StateError::Stopping)) {
            return;
        }
        let reason = shortened(&format!(
            "it was {}, and that cannot be written: {error}",
            outcome.name()
        ));
        self.audit_staging(id, ActionOutcome::Failed, &reason);
        if let Some(entry) = self.locked().record.entry_mut(id) {
            entry.status = Status::Failed(reason);
        }
    }

    fn audit_staging(&self, id: Sha256Digest, outcome: ActionOutcome, detail: &str) {
        let actor = Actor::part("staging");
        self.audit
            .note(&actor, Action::Stage, Some(id), outcome, detail);
    }

    /// Makes a staged revision available. A revision that was retired meanwhile is dropped.
    fn add_ready(&self, id: Sha256Digest, ready: Arc<ReadyRevision>) -> Result<(), ChangeError> {
        let mut state = self.locked();
        let is_shared = self.builder.people.store().is_shared();
        state.ready.insert(id, ready);
        match self.mark_staged(&mut state, id) {
            Ok(()) => Ok(()),
            // The next look for changes records it.
            Err(error) if is_shared => {
                tracing::warn!(
                    revision = id.short(),
                    "cannot record that it is staged: {error}"
                );
                self.apply_record(&mut state);
                Ok(())
            }
            Err(error) => {
                state.ready.remove(&id);
                Err(error)
            }
        }
    }

    /// Records that a revision is staged, unless that is recorded.
    pub(super) fn mark_staged(
        &self,
        state: &mut DeploymentState,
        id: Sha256Digest,
    ) -> Result<(), ChangeError> {
        let info = state.ready.get(&id).map(|ready| ready.info());
        let outcome = self.commit_locked(state, |draft| {
            if let Some(entry) = staging_entry(&mut draft.record, id) {
                entry.about.clone_from(&info);
                entry.status = Status::Staged;
            }
            Ok(id)
        })?;
        if !outcome.changed {
            // It was retired meanwhile, or another node recorded it.
            self.apply_record(state);
        }
        Ok(())
    }

    /// Writes the reason of a failure, unless the revision was retired meanwhile. Of a shared
    /// record, the failure is this node's alone.
    fn mark_failed(&self, id: Sha256Digest, reason: &str) -> Result<(), ChangeError> {
        let mut state = self.locked();
        if self.builder.people.store().is_shared() {
            state.failures.insert(id, reason.to_owned());
            self.report(&state);
            return Ok(());
        }
        self.commit_locked(&mut state, |draft| {
            if let Some(entry) = staging_entry(&mut draft.record, id) {
                entry.status = Status::Failed(reason.to_owned());
                draft.record.clear_roles(id);
            }
            Ok(id)
        })?;
        Ok(())
    }
}

/// Returns the entry of a revision that is still being staged.
fn staging_entry(record: &mut Record, id: Sha256Digest) -> Option<&mut RevisionEntry> {
    record
        .entry_mut(id)
        .filter(|entry| entry.status == Status::Staging)
}

/// Most settings of one revision's own.
const SETTINGS: usize = 64;

/// Longest name of a setting, in bytes.
const SETTING_NAME: usize = 64;

/// Refuses settings beyond what a component can declare. Staging compares them with what it does.
fn check_settings(settings: &BTreeMap<String, String>) -> Result<(), ChangeError> {
    let invalid = settings
        .iter()
        .find(|(name, value)| name.len() > SETTING_NAME || value.len() > VALUE);
    match invalid {
        Some((name, _)) => Err(ChangeError::Setting(sanitize_name(name))),
        None if settings.len() > SETTINGS => Err(ChangeError::TooManySettings { most: SETTINGS }),
        None => Ok(()),
    }
}
