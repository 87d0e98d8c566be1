//! What an operator, or the breaker, may change: each asks for a state, so that asking again
//! changes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rostro_common::digest::Sha256Digest;
use rostro_models::PackError;
use rostro_sandbox::component::error::ComponentError;
use rostro_sandbox::limits::LimitError;

use super::breaker::{OFF, Rule, client_number};
use super::record::{Record, StateError, Status, TrafficShare};
use super::routes::ShareCounter;
use super::{Actor, Agreement, Deployment, DeploymentState, Outcome, ReadyRevision};
use crate::audit::{Action, ActionOutcome};
use crate::executor::Client;

/// The fewest digits of an id that name a revision.
const SHORTEST: usize = 4;

/// What came of a change that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeOutcome {
    /// The revision that it is about.
    pub id: Sha256Digest,
    /// Whether anything is other than before.
    pub changed: bool,
}

/// Why a change is refused.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such revision.
    #[error("there is no revision {0}; `rostro pipeline list` shows which there are")]
    Unknown(String),
    /// Several begin so, or could.
    #[error("several revisions may begin with `{0}`; give more of its digits, at least {SHORTEST}")]
    Ambiguous(String),
    /// It is not ready.
    #[error("the revision {} {why}", .id.short())]
    NotReady {
        /// Which.
        id: Sha256Digest,
        /// What it is instead.
        why: String,
    },
    /// Its embeddings are not those that people are known by.
    #[error(
        "the revision {} makes other embeddings or templates: {people} people would not be recognised before they are enrolled again; to go \
         on, allow the change of contract (--allow-contract-change)",
        .id.short()
    )]
    Contract {
        /// Which.
        id: Sha256Digest,
        /// How many people are affected.
        people: usize,
    },
    /// It serves.
    #[error("the revision {} is active; activate another first, then it can be retired, or be canary or shadow", .0.short())]
    Active(Sha256Digest),
    /// It plays the other part beside the active one.
    #[error("the revision {} is the {part}; end that first (`rostro pipeline {part} --off`)", .id.short())]
    OtherPart {
        /// Which.
        id: Sha256Digest,
        /// `canary` or `shadow`.
        part: &'static str,
    },
    /// There is none to go back to.
    #[error(
        "there is no previous revision to go back to; name one with `rostro pipeline activate`"
    )]
    NoPrevious,
    /// A share is none.
    #[error("a share must be between 0 and 1")]
    Share,
    /// As many as may be are ready.
    #[error("{most} revisions are ready or being staged, as many as are kept; retire one first")]
    TooMany {
        /// How many.
        most: usize,
    },
    /// The bytes are not those that were meant.
    #[error(
        "{size} bytes with the SHA-256 {given} arrived, not those with {wanted}: send it again"
    )]
    OtherBytes {
        /// What they should be.
        wanted: Sha256Digest,
        /// What they are.
        given: Sha256Digest,
        /// How many.
        size: usize,
    },
    /// A policy was asked for, and the component has none.
    #[error(
        "the component exports no policy, of which alone there was a push; push it without --policy-only (policy_only)"
    )]
    NoPolicy,
    /// It is no component.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A limit of its own is none.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// Its pack cannot be used.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// What is remembered cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
}

impl ChangeError {
    /// The revision that it is about.
    pub(super) fn revision(&self) -> Option<Sha256Digest> {
        match self {
            Self::NotReady { id, .. }
            | Self::OtherPart { id, .. }
            | Self::Contract { id, .. }
            | Self::Active(id) => Some(*id),
            _ => None,
        }
    }
}

/// What is written of a change beside its name.
fn how(allow_contract: bool, how: String) -> String {
    let allowed = allow_contract.then(|| "change of contract allowed".to_owned());
    [Some(how).filter(|how| !how.is_empty()), allowed]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
}

/// What a change is worked out on.
struct ChangeDraft<'b> {
    record: Record,
    state: &'b DeploymentState,
}

impl ChangeDraft<'_> {
    /// The revision, if it could serve at once.
    fn ready(&self, id: Sha256Digest) -> Result<Arc<ReadyRevision>, ChangeError> {
        if let Some(live) = self.state.ready.get(&id) {
            return Ok(Arc::clone(live));
        }
        let why = match self.record.entry(id).map(|entry| &entry.status) {
            Some(Status::Staging) => "is still being staged; wait until it is".to_owned(),
            Some(Status::Failed(reason)) => format!("failed: {reason}"),
            Some(Status::Retired) => "was retired; push it again".to_owned(),
            Some(Status::Staged) | None => "is not ready".to_owned(),
        };
        Err(ChangeError::NotReady { id, why })
    }

    /// Refuses a revision for whom people are strangers whom the active one knows, unless that is
    /// allowed.
    fn check_contract(&self, live: &ReadyRevision, allowed: bool) -> Result<(), ChangeError> {
        let Some(active) = self.record.active.and_then(|id| self.state.ready.get(&id)) else {
            return Ok(());
        };
        match live.view.people_lost_by_switching_from(&active.view) {
            people if people > 0 && !allowed => Err(ChangeError::Contract {
                id: live.id(),
                people,
            }),
            _ => Ok(()),
        }
    }
}

impl Deployment {
    /// The revision whose digest begins so.
    pub fn find(&self, begin: &str) -> Result<Sha256Digest, ChangeError> {
        let state = self.locked();
        let mut found = state
            .record
            .revisions
            .iter()
            .filter(|entry| entry.has_id_prefix(begin))
            .map(|entry| entry.id);
        match (found.next(), found.next()) {
            (Some(_), _) if begin.len() < SHORTEST => Err(ChangeError::Ambiguous(begin.to_owned())),
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => Err(ChangeError::Ambiguous(begin.to_owned())),
            _ => Err(ChangeError::Unknown(begin.to_owned())),
        }
    }

    /// Has a revision serve; the one that did before is kept ready as the previous one.
    /// `allow_contract` says that people may become strangers.
    pub fn activate(
        &self,
        id: Sha256Digest,
        allow_contract: bool,
        actor: &Actor,
    ) -> Result<ChangeOutcome, ChangeError> {
        self.change(
            Action::Activate,
            how(allow_contract, String::new()),
            actor,
            |draft| {
                if draft.record.active == Some(id) {
                    return Ok(id);
                }
                let live = draft.ready(id)?;
                draft.check_contract(&live, allow_contract)?;
                live.health.forgive();
                draft.record.clear_roles(id);
                draft.record.retire_previous();
                draft.record.previous = draft.record.active.replace(id);
                draft.record.rolled_back = false;
                Ok(id)
            },
        )
    }

    /// Has the previous revision serve again. The one that did until now stays ready and is
    /// nobody's previous one: asking again changes nothing.
    pub fn roll_back(&self, actor: &Actor) -> Result<ChangeOutcome, ChangeError> {
        self.change(Action::Rollback, String::new(), actor, |draft| {
            let Some(previous) = draft.record.previous else {
                // It was rolled back already.
                return draft
                    .record
                    .active
                    .filter(|_| draft.record.rolled_back)
                    .ok_or(ChangeError::NoPrevious);
            };
            draft.ready(previous)?.health.forgive();
            draft.record.clear_roles(previous);
            draft.record.active = Some(previous);
            draft.record.rolled_back = true;
            Ok(previous)
        })
    }

    /// Has a revision answer a share of the requests, and those that ask for it; with a share of
    /// zero only those.
    pub fn canary(
        &self,
        id: Sha256Digest,
        share: f64,
        allow_contract: bool,
        actor: &Actor,
    ) -> Result<ChangeOutcome, ChangeError> {
        self.change(
            Action::Canary,
            how(allow_contract, format!("share {share}")),
            actor,
            |draft| {
                if draft.record.shadow.is_some_and(|shadow| shadow.id == id) {
                    return Err(ChangeError::OtherPart { id, part: "shadow" });
                }
                draft.record.canary =
                    Some(draft.beside(id, share, draft.record.canary, allow_contract)?);
                Ok(id)
            },
        )
    }

    /// Has a revision see a share of the requests, whose answers are compared and thrown away.
    pub fn shadow(
        &self,
        id: Sha256Digest,
        share: f64,
        actor: &Actor,
    ) -> Result<ChangeOutcome, ChangeError> {
        self.change(Action::Shadow, format!("share {share}"), actor, |draft| {
            if draft.record.canary.is_some_and(|canary| canary.id == id) {
                return Err(ChangeError::OtherPart { id, part: "canary" });
            }
            draft.record.shadow = Some(draft.beside(id, share, draft.record.shadow, true)?);
            Ok(id)
        })
    }

    /// Takes a revision away: requests that it works on end, and then it is dropped.
    pub fn retire(&self, id: Sha256Digest, actor: &Actor) -> Result<ChangeOutcome, ChangeError> {
        self.change(Action::Retire, String::new(), actor, |draft| {
            if draft.record.active == Some(id) {
                return Err(ChangeError::Active(id));
            }
            draft.record.clear_roles(id);
            if let Some(entry) = draft.record.entry_mut(id) {
                entry.status = Status::Retired;
            }
            Ok(id)
        })
    }

    /// Ends a revision's part as canary; it stays ready.
    pub fn end_canary(
        &self,
        id: Sha256Digest,
        actor: &Actor,
    ) -> Result<ChangeOutcome, ChangeError> {
        self.change(Action::EndCanary, String::new(), actor, |draft| {
            draft.record.canary = draft.record.canary.filter(|beside| beside.id != id);
            Ok(id)
        })
    }

    /// Ends a revision's part as shadow; it stays ready.
    pub fn end_shadow(
        &self,
        id: Sha256Digest,
        actor: &Actor,
    ) -> Result<ChangeOutcome, ChangeError> {
        self.change(Action::EndShadow, String::new(), actor, |draft| {
            draft.record.shadow = draft.record.shadow.filter(|beside| beside.id != id);
            Ok(id)
        })
    }

    /// Has a revision taken out after so many failures in a row from now on.
    pub fn set_breaker(&self, failures: u32) {
        self.breaker.store(failures, Ordering::Relaxed);
    }

    /// Counts how a client's request went on a revision, and takes the revision out if too many
    /// failed, in a row or of the last minute's: the previous one serves then. An active one that
    /// nothing could take the place of stays.
    pub(crate) fn note_outcome(&self, live: &ReadyRevision, client: &Client, outcome: &Outcome) {
        if self.builder.shutdown.has_begun() {
            // How cancelled work ends says nothing about the revision.
            return;
        }
        let in_a_row = live.health.note(outcome, client_number(client));
        let cause = match outcome {
            Outcome::Failure(cause) => cause,
            Outcome::Success | Outcome::Ignored => return,
        };
        let breaker = self.breaker.load(Ordering::Relaxed);
        if in_a_row >= breaker && in_a_row.is_multiple_of(breaker) {
            self.trip(live, Rule::InARow(in_a_row), cause);
        } else if breaker < OFF
            && let Some(excess) = live.health.excess()
            && excess.is_enough(|client| self.has_other_client(live, client))
        {
            // One that stays is said again only after as many requests.
            live.health.forget_share();
            self.trip(live, Rule::Share(excess.share), cause);
        }
    }

    /// Returns true if another client than this asked any other revision within the last minute.
    fn has_other_client(&self, live: &ReadyRevision, client: u64) -> bool {
        self.locked()
            .ready
            .values()
            .any(|other| !std::ptr::eq(&**other, live) && other.health.has_other_client(client))
    }

    fn trip(&self, live: &ReadyRevision, rule: Rule, cause: &str) {
        let id = live.id();
        let reason = format!("taken out {rule}, the last: {cause}");
        let outcome = self.changed(|draft| {
            // It may have been taken out, and staged anew, since the request began.
            if !draft
                .state
                .ready
                .get(&id)
                .is_some_and(|ready| std::ptr::eq(&**ready, live))
            {
                return Ok(id);
            }
            if draft.record.active == Some(id) {
                let previous = draft
                    .record
                    .previous
                    .filter(|previous| draft.ready(*previous).is_ok())
                    .ok_or(ChangeError::NoPrevious)?;
                draft.ready(previous)?.health.forgive();
                draft.record.clear_roles(previous);
                draft.record.active = Some(previous);
                draft.record.rolled_back = true;
            }
            draft.record.clear_roles(id);
            if let Some(entry) = draft
                .record
                .entry_mut(id)
                .filter(|entry| entry.status == Status::Staged)
            {
                entry.status = Status::Failed(reason.clone());
            }
            Ok(id)
        });
        let actor = Actor::part("breaker");
        match outcome {
            Ok(ChangeOutcome { changed: true, .. }) => {
                let mut state = self.locked();
                state.broken += 1;
                state.trips.count(rule, false);
                drop(state);
                tracing::error!(revision = id.short(), "{}", reason.escape_debug());
                self.audit.note(
                    &actor,
                    Action::Break,
                    Some(id),
                    ActionOutcome::Done,
                    &reason,
                );
            }
            Ok(_) => {}
            Err(error) => {
                let mut state = self.locked();
                state.stuck += 1;
                state.trips.count(rule, true);
                drop(state);
                let reason = format!("it goes on to serve, for {error}; it was to be {reason}");
                tracing::error!(revision = id.short(), "{}", reason.escape_debug());
                self.audit.note(
                    &actor,
                    Action::Break,
                    Some(id),
                    ActionOutcome::Refused,
                    &reason,
                );
            }
        }
    }

    /// Works out a change on a copy of the record, writes that, and puts it in force; nothing of it
    /// happens if it is refused or cannot be written.
    fn change(
        &self,
        action: Action,
        how: String,
        actor: &Actor,
        work: impl FnOnce(&mut ChangeDraft<'_>) -> Result<Sha256Digest, ChangeError>,
    ) -> Result<ChangeOutcome, ChangeError> {
        let outcome = self.changed(work);
        self.note(actor, action, &how, &outcome);
        outcome
    }

    fn changed(
        &self,
        work: impl FnOnce(&mut ChangeDraft<'_>) -> Result<Sha256Digest, ChangeError>,
    ) -> Result<ChangeOutcome, ChangeError> {
        let mut state = self.locked();
        let mut draft = ChangeDraft {
            record: state.record.clone(),
            state: &state,
        };
        let id = work(&mut draft)?;
        let record = draft.record;
        if record == state.record {
            return Ok(ChangeOutcome { id, changed: false });
        }
        self.store.write(&record)?;
        // Shares and agreements go on counting unless they are of something new.
        if record.canary != state.record.canary {
            state.canary = record
                .canary
                .map(|beside| Arc::new(ShareCounter::new(beside.share)));
        }
        if record.shadow != state.record.shadow {
            let kept = state.shadow.take().filter(|_| {
                record.shadow.map(|new| new.id) == state.record.shadow.map(|old| old.id)
            });
            let agreement: Arc<Agreement> =
                kept.map(|(_, agreement)| agreement).unwrap_or_default();
            state.shadow = record
                .shadow
                .map(|beside| (Arc::new(ShareCounter::new(beside.share)), agreement));
        }
        state.record = record;
        self.put_in_force(&mut state);
        Ok(ChangeOutcome { id, changed: true })
    }
}

impl ChangeDraft<'_> {
    /// A part beside the active revision.
    fn beside(
        &self,
        id: Sha256Digest,
        share: f64,
        now: Option<TrafficShare>,
        allow_contract: bool,
    ) -> Result<TrafficShare, ChangeError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(ChangeError::Share);
        }
        let wanted = TrafficShare { id, share };
        if now == Some(wanted) {
            return Ok(wanted);
        }
        if self.record.active == Some(id) {
            return Err(ChangeError::Active(id));
        }
        let live = self.ready(id)?;
        self.check_contract(&live, allow_contract)?;
        live.health.forgive();
        Ok(wanted)
    }
}
