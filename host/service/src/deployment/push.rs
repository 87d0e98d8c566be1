//! From a component that an operator gives to a revision that can serve, or the reason why it
//! cannot.

use std::collections::BTreeMap;
use std::sync::Arc;

use rostro_common::digest::Sha256Digest;
use rostro_sandbox::component::error::ComponentError;
use rostro_sandbox::component::halves;
use rostro_sandbox::half::Half;
use rostro_sandbox::limits::MAX_COMPONENT_BYTES;

use super::record::{RevisionEntry, RevisionSpec, Status};
use super::{
    Actor, ChangeError, ChangeOutcome, Deployment, READY, REMEMBERED, ReadyRevision, StateError,
    about, now, shortened,
};
use crate::audit::{Action, ActionOutcome};
use crate::people::ViewReport;

/// A component, or two, that an operator gives.
#[derive(Debug, Default)]
pub struct PushRequest {
    /// The component.
    pub bytes: Vec<u8>,
    /// The pack; the active revision's if none is said.
    pub pack: Option<String>,
    /// Whether only the component's policy is wanted, with the active revision's vision.
    pub policy_only: bool,
    /// The digest that the bytes should have.
    pub digest: Option<Sha256Digest>,
    /// Limits tighter than the service's, by name.
    pub limits: BTreeMap<String, String>,
    /// Whether enrolments are embedded for it from now on, although it is not activated.
    pub enrol: bool,
}

impl Deployment {
    /// Takes up a component, to be staged in the background; answers with the revision that it
    /// becomes. One that is known is not staged again unless it failed or was retired.
    ///
    /// # Errors
    ///
    /// If it cannot become a revision at all.
    pub fn push(&self, given: PushRequest, actor: &Actor) -> Result<ChangeOutcome, ChangeError> {
        let digest = Sha256Digest::of(&given.bytes);
        let enrols = if given.enrol {
            ", sees enrolment photos"
        } else {
            ""
        };
        let outcome = self.take_up(given);
        let limits = outcome
            .as_ref()
            .ok()
            .and_then(|outcome| Some(self.locked().record.entry(outcome.id)?.spec.limits.clone()));
        let limits: Vec<String> = limits
            .unwrap_or_default()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let held = if limits.is_empty() {
            String::new()
        } else {
            format!(", held to {}", limits.join(", "))
        };
        let how = format!("SHA-256 {digest}{held}{enrols}");
        self.note(actor, Action::Push, &how, &outcome);
        outcome
    }

    fn take_up(&self, given: PushRequest) -> Result<ChangeOutcome, ChangeError> {
        let digest = Sha256Digest::of(&given.bytes);
        if let Some(wanted) = given.digest.filter(|wanted| *wanted != digest) {
            return Err(ChangeError::OtherBytes {
                wanted,
                given: digest,
                size: given.bytes.len(),
            });
        }
        if given.bytes.len() > MAX_COMPONENT_BYTES {
            return Err(ComponentError::TooLarge {
                size: given.bytes.len(),
            }
            .into());
        }
        // What it serves is in its type: cheap to learn, and told at once if it is no component.
        let serves = halves(&given.bytes)?;
        let active = self.active_ingredients();
        let (sees, decides) = (
            serves.contains(&Half::Vision),
            serves.contains(&Half::Policy),
        );
        let pack = given.pack.unwrap_or_else(|| active.pack.clone());
        let (vision, policy) = match (sees, decides) {
            (true, true) if !given.policy_only => (digest, None),
            // Vision alone goes on with the policy in force.
            (true, false) if !given.policy_only => {
                (digest, Some(active.policy.unwrap_or(active.vision)))
            }
            (_, true) => (active.vision, Some(digest)),
            (_, false) => return Err(ChangeError::NoPolicy),
        };
        // The half that stays is held as it was.
        let service = self.builder.engine.limits();
        let mut limits = if policy.is_some() {
            service.at_most(&active.limits)?.named(active.limits.keys())
        } else {
            BTreeMap::new()
        };
        limits.extend(service.tightened(&given.limits)?.named(given.limits.keys()));
        let spec = RevisionSpec {
            vision,
            policy,
            pack,
            limits,
        };
        let id = self.builder.id(&spec)?;
        let mut state = self.locked();
        if let Some(entry) = state
            .record
            .entry(id)
            .filter(|entry| matches!(entry.status, Status::Staging | Status::Staged))
        {
            if entry.enrol || !given.enrol {
                return Ok(ChangeOutcome { id, changed: false });
            }
            let mut record = state.record.clone();
            if let Some(entry) = record.entry_mut(id) {
                entry.enrol = true;
            }
            self.store.write(&record)?;
            state.record = record;
            self.put_in_force(&mut state);
            return Ok(ChangeOutcome { id, changed: true });
        }
        let waiting = state
            .record
            .revisions
            .iter()
            .filter(|entry| matches!(entry.status, Status::Staging | Status::Staged));
        // The active and the previous one are not counted.
        if waiting.count() >= READY + 2 {
            return Err(ChangeError::TooMany { most: READY + 2 });
        }
        // Under the lock: a change of something else sweeps out what no revision needs.
        self.store.keep(&given.bytes)?;
        let mut record = state.record.clone();
        record.revisions.retain(|entry| entry.id != id);
        record.revisions.push(RevisionEntry {
            id,
            former_id: None,
            spec,
            about: None,
            since: now(),
            enrol: given.enrol,
            status: Status::Staging,
        });
        record.forget_old(REMEMBERED);
        self.store.write(&record)?;
        state.record = record;
        drop(state);
        let _ = self.queue.send(id);
        Ok(ChangeOutcome { id, changed: true })
    }

    fn active_ingredients(&self) -> RevisionSpec {
        let state = self.locked();
        let active = state.record.active.and_then(|id| state.record.entry(id));
        // There is always an active revision, and it has an entry.
        active.map_or_else(
            || RevisionSpec {
                vision: Sha256Digest([0; 32]),
                policy: None,
                pack: String::new(),
                limits: BTreeMap::new(),
            },
            |entry| entry.spec.clone(),
        )
    }

    /// Stages a revision, on the thread that does so.
    pub(super) fn stage_now(&self, id: Sha256Digest) {
        let Some(spec) = self
            .locked()
            .record
            .entry(id)
            .filter(|entry| entry.status == Status::Staging)
            .map(|entry| entry.spec.clone())
        else {
            return;
        };
        let begun = std::time::Instant::now();
        // A bug in staging must not end the thread that does it.
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.builder.make(&self.store, id, &spec)
        }));
        if self.builder.shutdown.has_begun() {
            // The record keeps it as staging, and the next start stages it again.
            return;
        }
        let made = match made {
            Ok(Ok((live, report))) => Ok((live, report)),
            Ok(Err(error)) => Err(shortened(&error.to_string())),
            Err(_) => Err("staging failed unexpectedly; the service's log says why".to_owned()),
        };
        for problem in made.iter().flat_map(|(_, report)| &report.problems) {
            tracing::warn!("{}", problem.to_string().escape_debug());
        }
        let detail = match &made {
            Ok((live, report)) => format!(
                "{} {} in {} ms; {} people, {} to be enrolled again, {} files that cannot be used",
                live.revision.name(),
                live.revision.version(),
                begun.elapsed().as_millis(),
                report.known,
                report.need_enrolment,
                report.problems.len()
            ),
            Err(reason) => reason.clone(),
        };
        let outcome = if made.is_ok() {
            ActionOutcome::Staged
        } else {
            ActionOutcome::Failed
        };
        match self.take_in(id, made) {
            Ok(()) => self.audit.note(
                &Actor::part("staging"),
                Action::Stage,
                Some(id),
                outcome,
                &detail,
            ),
            Err(StateError::Stopping) => {}
            Err(error) => {
                let reason = shortened(&format!(
                    "it was {}, and that cannot be written: {error}",
                    outcome.name()
                ));
                self.audit.note(
                    &Actor::part("staging"),
                    Action::Stage,
                    Some(id),
                    ActionOutcome::Failed,
                    &reason,
                );
                // For this process alone: it can be pushed again.
                if let Some(entry) = self.locked().record.entry_mut(id) {
                    entry.status = Status::Failed(reason);
                }
            }
        }
    }

    /// Takes up what came of staging. A revision that was retired meanwhile is dropped again.
    fn take_in(
        &self,
        id: Sha256Digest,
        made: Result<(Arc<ReadyRevision>, ViewReport), String>,
    ) -> Result<(), StateError> {
        let mut state = self.locked();
        let mut record = state.record.clone();
        let Some(entry) = record
            .entry_mut(id)
            .filter(|entry| entry.status == Status::Staging)
        else {
            return Ok(());
        };
        let live = match made {
            Ok((live, _)) => {
                entry.about = Some(about(&live));
                entry.status = Status::Staged;
                Some(live)
            }
            Err(reason) => {
                entry.status = Status::Failed(reason);
                record.clear_roles(id);
                None
            }
        };
        self.store.write(&record)?;
        state.record = record;
        if let Some(live) = live {
            state.ready.insert(id, live);
        }
        self.put_in_force(&mut state);
        Ok(())
    }
}
