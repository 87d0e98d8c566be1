//! Changes of roles by operators and by the circuit breaker. Each asks for a state, so repeating it
//! changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_common::digest::Sha256Digest;
use rostro_gallery::{GalleryError, NodeRevisions, PendingChange, SharedChange};
use rostro_models::PackError;
use rostro_sandbox::component::error::ComponentError;
use rostro_sandbox::limits::LimitError;

use super::agreement::Agreement;
use super::ready::ReadyRevision;
use super::record::{Record, Status, TrafficShare};
use super::state_folder::StateError;
use super::{Actor, Deployment, DeploymentState, share_counter};
use crate::audit::Action;

/// Times that a change is worked out again because another node wrote the record.
pub(super) const MAX_CONFLICTS: usize = 10;

/// Time to wait for other nodes to serve by a changed record.
const NODES_TIMEOUT: Duration = Duration::from_secs(30);

/// The fewest digits of an id that identify a revision.
const SHORTEST: usize = 4;

/// A change that an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RevisionChange {
    /// Make a revision the active one, and keep the one before it ready as the previous one.
    Activate {
        /// The revision.
        id: Sha256Digest,
        /// Whether people may become unknown, because they were enrolled under another contract.
        allow_contract_change: bool,
        /// Whether nodes that have not staged it may stop answering until they have.
        partial: bool,
    },
    /// Make the previous revision the active one again.
    RollBack {
        /// Whether nodes that have not staged it may stop answering until they have.
        partial: bool,
    },
    /// Let a revision answer a share of the requests, and those that ask for it.
    Canary {
        /// The revision.
        id: Sha256Digest,
        /// The share, 0 to 1.
        share: f64,
        /// Whether people may become unknown to these requests.
        allow_contract_change: bool,
    },
    /// Let a revision see a share of the requests, and compare its answers with the active one's.
    Shadow {
        /// The revision.
        id: Sha256Digest,
        /// The share, 0 to 1.
        share: f64,
    },
    /// Take a revision away after the requests that it works on.
    Retire {
        /// The revision.
        id: Sha256Digest,
    },
    /// End a revision's role as canary. It stays ready.
    EndCanary {
        /// The revision.
        id: Sha256Digest,
    },
    /// End a revision's role as shadow. It stays ready.
    EndShadow {
        /// The revision.
        id: Sha256Digest,
    },
}

impl RevisionChange {
    fn audit_action(self) -> Action {
        match self {
            Self::Activate { .. } => Action::Activate,
            Self::RollBack { .. } => Action::Rollback,
            Self::Canary { .. } => Action::Canary,
            Self::Shadow { .. } => Action::Shadow,
            Self::Retire { .. } => Action::Retire,
            Self::EndCanary { .. } => Action::EndCanary,
            Self::EndShadow { .. } => Action::EndShadow,
        }
    }

    /// Returns what the audit log has in addition to the action's name.
    fn audit_detail(self) -> String {
        const ALLOWED: &str = "change of contract allowed";
        match self {
            Self::Activate {
                allow_contract_change,
                partial,
                ..
            } => [(allow_contract_change, ALLOWED), (partial, "partial")]
                .into_iter()
                .filter_map(|(is_set, text)| is_set.then_some(text))
                .collect::<Vec<_>>()
                .join(", "),
            Self::Canary {
                share,
                allow_contract_change: true,
                ..
            } => format!("share {share}, {ALLOWED}"),
            Self::Canary { share, .. } | Self::Shadow { share, .. } => format!("share {share}"),
            Self::RollBack { partial: true } => "partial".to_owned(),
            Self::RollBack { .. }
            | Self::Retire { .. }
            | Self::EndCanary { .. }
            | Self::EndShadow { .. } => String::new(),
        }
    }
}

/// Result of a change that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeOutcome {
    /// The revision that was changed.
    pub id: Sha256Digest,
    /// Whether the state differs from the one before.
    pub changed: bool,
    /// The change that made the state, also if it was made before.
    pub(super) shared: SharedChange,
}

/// Reason why a change is refused.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The revision does not exist.
    #[error("there is no revision {0}; `rostro pipeline list` shows which there are")]
    Unknown(String),
    /// The digits do not identify one revision.
    #[error("several revisions may begin with `{0}`; give more of its digits, at least {SHORTEST}")]
    Ambiguous(String),
    /// The revision cannot serve now.
    #[error("the revision {} {state}", .id.short())]
    NotReady {
        /// The revision.
        id: Sha256Digest,
        /// Its state, as a predicate.
        state: String,
    },
    /// Nodes cannot serve the revision now.
    #[error(
        "the revision {} is not staged on {}; wait until it is, or activate it or roll back with --partial, which takes these nodes out of service until then",
        .id.short(),
        .nodes.join(", ")
    )]
    NotReadyOnNodes {
        /// The revision.
        id: Sha256Digest,
        /// The nodes, each with the reason.
        nodes: Vec<String>,
    },
    /// The change was made, and a node may not have applied it.
    #[error(transparent)]
    Pending(#[from] PendingChange),
    /// The nodes cannot be asked.
    #[error("cannot find out what the nodes have staged: {0}")]
    Nodes(#[from] GalleryError),
    /// The revision does not recognise people that the active one does.
    #[error(
        "revision {} changes the embedding contract; {people} people must be re-enrolled before they can be recognised. Pass \
         --allow-contract-change to continue",
        .id.short()
    )]
    Contract {
        /// The revision.
        id: Sha256Digest,
        /// Number of people affected.
        people: usize,
    },
    /// The revision is active.
    #[error("the revision {} is active; activate another first, then it can be retired, or be canary or shadow", .0.short())]
    Active(Sha256Digest),
    /// The revision has the other role next to the active one.
    #[error("the revision {} is the {role}; end that first (`rostro pipeline {role} --off`)", .id.short())]
    OtherRole {
        /// The revision.
        id: Sha256Digest,
        /// `canary` or `shadow`.
        role: &'static str,
    },
    /// No previous revision exists.
    #[error(
        "there is no previous revision to go back to; name one with `rostro pipeline activate`"
    )]
    NoPrevious,
    /// The share is out of range.
    #[error("a share must be between 0 and 1")]
    Share,
    /// The maximum of ready revisions is reached.
    #[error("{most} revisions are ready or being staged, which is the maximum; retire one first")]
    TooMany {
        /// The maximum.
        most: usize,
    },
    /// The revision's components are gone.
    #[error("the revision {0} is retired; push its component again with the settings")]
    Retired(String),
    /// A setting to unset is not one of the revision's own.
    #[error(
        "the revision {revision} has no setting `{name}` of its own; `rostro pipeline list --json` \
         shows those that it has"
    )]
    NotSet {
        /// The revision.
        revision: String,
        /// Name of the setting.
        name: String,
    },
    /// A setting is longer than a component can declare.
    #[error("the setting `{0}` has a name of over 64 bytes or a value of over 4096")]
    Setting(String),
    /// A revision has too many settings.
    #[error("a revision has at most {most} settings of its own")]
    TooManySettings {
        /// The maximum.
        most: usize,
    },
    /// The bytes do not have the expected digest.
    #[error(
        "{size} bytes with the SHA-256 {received} arrived, not those with {expected}: send it again"
    )]
    OtherBytes {
        /// The expected digest.
        expected: Sha256Digest,
        /// The digest of the bytes.
        received: Sha256Digest,
        /// Number of bytes.
        size: usize,
    },
    /// A policy was asked for, and the component has none.
    #[error("the component exports no policy; push it without --policy-only (policy_only)")]
    NoPolicy,
    /// The bytes are not a usable component.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// One of its own limits is invalid.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// Its pack cannot be used.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The record cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
}

impl ChangeError {
    /// Returns the revision that the error is about.
    pub(super) fn revision(&self) -> Option<Sha256Digest> {
        match self {
            Self::NotReady { id, .. }
            | Self::NotReadyOnNodes { id, .. }
            | Self::OtherRole { id, .. }
            | Self::Contract { id, .. }
            | Self::Active(id) => Some(*id),
            _ => None,
        }
    }
}

/// A change in progress, on a copy of the record.
pub(super) struct ChangeDraft<'b> {
    pub record: Record,
    pub state: &'b DeploymentState,
}

impl ChangeDraft<'_> {
    /// Applies a change to the copy. Returns the revision that it is about.
    fn apply(&mut self, change: RevisionChange) -> Result<Sha256Digest, ChangeError> {
        match change {
            RevisionChange::Activate {
                id,
                allow_contract_change,
                ..
            } => self.activate(id, allow_contract_change),
            RevisionChange::RollBack { .. } => self.roll_back(),
            RevisionChange::Canary {
                id,
                share,
                allow_contract_change,
            } => {
                if self.record.shadow.is_some_and(|shadow| shadow.id == id) {
                    return Err(ChangeError::OtherRole { id, role: "shadow" });
                }
                let before = self.record.canary;
                self.record.canary = Some(self.share(id, share, before, allow_contract_change)?);
                Ok(id)
            }
            RevisionChange::Shadow { id, share } => {
                if self.record.canary.is_some_and(|canary| canary.id == id) {
                    return Err(ChangeError::OtherRole { id, role: "canary" });
                }
                self.record.shadow = Some(self.share(id, share, self.record.shadow, true)?);
                Ok(id)
            }
            RevisionChange::Retire { id } => {
                if self.record.active == Some(id) {
                    return Err(ChangeError::Active(id));
                }
                self.record.clear_roles(id);
                if let Some(entry) = self.record.entry_mut(id) {
                    entry.status = Status::Retired;
                }
                Ok(id)
            }
            RevisionChange::EndCanary { id } => {
                self.record.canary = self.record.canary.filter(|canary| canary.id != id);
                Ok(id)
            }
            RevisionChange::EndShadow { id } => {
                self.record.shadow = self.record.shadow.filter(|shadow| shadow.id != id);
                Ok(id)
            }
        }
    }

    fn activate(
        &mut self,
        id: Sha256Digest,
        allow_contract_change: bool,
    ) -> Result<Sha256Digest, ChangeError> {
        if self.record.active == Some(id) {
            return Ok(id);
        }
        let ready = self.ready(id)?;
        self.check_contract(&ready, allow_contract_change)?;
        ready.health.reset();
        self.record.clear_roles(id);
        self.record.retire_previous();
        self.record.previous = self.record.active.replace(id);
        self.record.rolled_back = false;
        Ok(id)
    }

    /// Activates the previous revision. There is no previous one afterwards, and a second roll back
    /// changes nothing.
    fn roll_back(&mut self) -> Result<Sha256Digest, ChangeError> {
        let Some(previous) = self.record.previous else {
            let rolled_back = self.record.active.filter(|_| self.record.rolled_back);
            return rolled_back.ok_or(ChangeError::NoPrevious);
        };
        self.activate_previous(previous)?;
        Ok(previous)
    }

    fn activate_previous(&mut self, previous: Sha256Digest) -> Result<(), ChangeError> {
        self.ready(previous)?.health.reset();
        self.record.clear_roles(previous);
        self.record.active = Some(previous);
        self.record.rolled_back = true;
        Ok(())
    }

    /// Marks a revision as failed. If it is active, the previous one serves.
    pub(super) fn take_out(
        &mut self,
        ready: &ReadyRevision,
        reason: &str,
    ) -> Result<Sha256Digest, ChangeError> {
        let id = ready.id();
        let current = self.state.ready.get(&id);
        // It may have been taken out, and staged again, since the request began.
        if !current.is_some_and(|current| std::ptr::eq(&**current, ready)) {
            return Ok(id);
        }
        if self.record.active == Some(id) {
            let previous = self
                .record
                .previous
                .filter(|previous| self.ready(*previous).is_ok())
                .ok_or(ChangeError::NoPrevious)?;
            self.activate_previous(previous)?;
        }
        self.record.clear_roles(id);
        if let Some(entry) = self
            .record
            .entry_mut(id)
            .filter(|entry| entry.status == Status::Staged)
        {
            entry.status = Status::Failed(reason.to_owned());
        }
        Ok(id)
    }

    /// Returns the share of a revision next to the active one, checked.
    fn share(
        &self,
        id: Sha256Digest,
        share: f64,
        before: Option<TrafficShare>,
        allow_contract_change: bool,
    ) -> Result<TrafficShare, ChangeError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(ChangeError::Share);
        }
        let requested = TrafficShare { id, share };
        if before == Some(requested) {
            return Ok(requested);
        }
        if self.record.active == Some(id) {
            return Err(ChangeError::Active(id));
        }
        let ready = self.ready(id)?;
        self.check_contract(&ready, allow_contract_change)?;
        ready.health.reset();
        Ok(requested)
    }

    /// Returns the revision if it can serve at once.
    fn ready(&self, id: Sha256Digest) -> Result<Arc<ReadyRevision>, ChangeError> {
        if let Some(ready) = self.state.ready.get(&id) {
            return Ok(Arc::clone(ready));
        }
        let state = match self.record.entry(id).map(|entry| &entry.status) {
            Some(Status::Staging | Status::Staged) if self.state.failures.contains_key(&id) => {
                format!(
                    "cannot serve on this node: {}",
                    self.state.failures.get(&id).map_or("", String::as_str)
                )
            }
            Some(Status::Staging | Status::Staged) => {
                "is still being staged; wait until it is".to_owned()
            }
            Some(Status::Failed(reason)) => format!("failed: {reason}"),
            Some(Status::Retired) => "was retired; push it again".to_owned(),
            None => "is not ready".to_owned(),
        };
        Err(ChangeError::NotReady { id, state })
    }

    /// Refuses a revision that does not recognise all people of the active one, unless that is
    /// allowed.
    fn check_contract(&self, ready: &ReadyRevision, is_allowed: bool) -> Result<(), ChangeError> {
        let Some(active) = self.record.active.and_then(|id| self.state.ready.get(&id)) else {
            return Ok(());
        };
        match ready.view.people_lost_by_switching_from(&active.view) {
            people if people > 0 && !is_allowed => Err(ChangeError::Contract {
                id: ready.id(),
                people,
            }),
            _ => Ok(()),
        }
    }
}

impl Deployment {
    /// Returns the revision with an id that begins with these digits.
    pub fn find(&self, prefix: &str) -> Result<Sha256Digest, ChangeError> {
        let state = self.locked();
        let mut found = state
            .record
            .revisions
            .iter()
            .filter(|entry| entry.has_id_prefix(prefix))
            .map(|entry| entry.id);
        match (found.next(), found.next()) {
            (Some(_), _) if prefix.len() < SHORTEST => {
                Err(ChangeError::Ambiguous(prefix.to_owned()))
            }
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => Err(ChangeError::Ambiguous(prefix.to_owned())),
            _ => Err(ChangeError::Unknown(prefix.to_owned())),
        }
    }

    /// Makes a change and records it in the audit log.
    ///
    /// # Errors
    ///
    /// If it is refused or cannot be written; nothing changed then.
    pub fn change(
        &self,
        change: RevisionChange,
        actor: &Actor,
    ) -> Result<ChangeOutcome, ChangeError> {
        let outcome = self
            .check_nodes(change)
            .and_then(|()| self.commit(|draft| draft.apply(change)));
        self.record_change(
            actor,
            change.audit_action(),
            &change.audit_detail(),
            &outcome,
        );
        let outcome = outcome?;
        self.wait_applied(&outcome)?;
        Ok(outcome)
    }

    /// Waits until every node serves by the record after a change.
    fn wait_applied(&self, outcome: &ChangeOutcome) -> Result<(), PendingChange> {
        let store = self.builder.people.store();
        store.wait_applied(&outcome.shared, Instant::now() + NODES_TIMEOUT)
    }

    /// Refuses a revision that shall answer requests and that another live node has not staged.
    fn check_nodes(&self, change: RevisionChange) -> Result<(), ChangeError> {
        let id = match change {
            RevisionChange::Activate {
                id, partial: false, ..
            }
            | RevisionChange::Canary { id, .. } => Some(id),
            RevisionChange::RollBack { partial: false } => {
                let mut state = self.locked();
                if self.builder.people.store().is_shared() {
                    self.read_record(&mut state)?;
                }
                state.record.previous
            }
            _ => None,
        };
        let Some(id) = id else { return Ok(()) };
        let state = |node: NodeRevisions| match node.revisions.get(&id) {
            Some(Ok(())) => None,
            Some(Err(reason)) => Some(format!("{} ({reason})", node.node)),
            None => Some(node.node),
        };
        let nodes = self.builder.people.store().nodes()?;
        let others = nodes.into_iter().filter(|node| !node.is_own);
        let nodes: Vec<String> = others.filter_map(state).collect();
        match nodes.is_empty() {
            true => Ok(()),
            false => Err(ChangeError::NotReadyOnNodes { id, nodes }),
        }
    }

    /// Works out a change on a copy of the record, writes it, and applies it. If the change is
    /// refused or cannot be written, nothing changes.
    pub(super) fn commit(
        &self,
        work: impl FnMut(&mut ChangeDraft<'_>) -> Result<Sha256Digest, ChangeError>,
    ) -> Result<ChangeOutcome, ChangeError> {
        self.commit_locked(&mut self.locked(), work)
    }

    /// Works out a change again if another node wrote the record meanwhile.
    pub(super) fn commit_locked(
        &self,
        state: &mut DeploymentState,
        mut work: impl FnMut(&mut ChangeDraft<'_>) -> Result<Sha256Digest, ChangeError>,
    ) -> Result<ChangeOutcome, ChangeError> {
        let store = &**self.builder.people.store();
        let mut conflicts = 0;
        loop {
            if store.is_shared() {
                self.read_record(state)?;
            }
            let mut draft = ChangeDraft {
                record: state.record.clone(),
                state,
            };
            let id = work(&mut draft)?;
            let record = draft.record;
            if record == state.record {
                return Ok(ChangeOutcome {
                    id,
                    changed: false,
                    shared: store.revisions_change(),
                });
            }
            match self.state_folder.write(store, &record) {
                Err(StateError::Conflict) if conflicts < MAX_CONFLICTS => conflicts += 1,
                written => {
                    let shared = written?;
                    self.adopt_record(state, record);
                    return Ok(ChangeOutcome {
                        id,
                        changed: true,
                        shared,
                    });
                }
            }
        }
    }

    /// Makes a record the current one, and applies it.
    pub(super) fn adopt_record(&self, state: &mut DeploymentState, record: Record) {
        let is_shared = self.builder.people.store().is_shared();
        // Counters continue unless their share or revision changed.
        if record.canary != state.record.canary {
            state.canary = record
                .canary
                .map(|canary| share_counter(canary.share, is_shared));
        }
        if record.shadow != state.record.shadow {
            let kept = state.shadow.take().filter(|_| {
                record.shadow.map(|new| new.id) == state.record.shadow.map(|old| old.id)
            });
            let agreement: Arc<Agreement> =
                kept.map(|(_, agreement)| agreement).unwrap_or_default();
            state.shadow = record
                .shadow
                .map(|shadow| (share_counter(shadow.share, is_shared), agreement));
        }
        // A revision that becomes active is tried anew, on every node.
        if let Some(active) = record
            .active
            .filter(|_| record.active != state.record.active)
            && let Some(ready) = state.ready.get(&active)
        {
            ready.health.reset();
        }
        state.record = record;
        self.apply_record(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_detail_names_share_and_permission() {
        let id = Sha256Digest::of(b"revision");
        let activate = |allow_contract_change| RevisionChange::Activate {
            id,
            allow_contract_change,
            partial: false,
        };
        let canary = |allow_contract_change| RevisionChange::Canary {
            id,
            share: 0.25,
            allow_contract_change,
        };
        for (change, detail) in [
            (activate(false), ""),
            (activate(true), "change of contract allowed"),
            (canary(false), "share 0.25"),
            (canary(true), "share 0.25, change of contract allowed"),
            (RevisionChange::Shadow { id, share: 1.0 }, "share 1"),
            (RevisionChange::RollBack { partial: false }, ""),
        ] {
            assert_eq!(change.audit_detail(), detail, "{change:?}");
        }
    }
}
