//! Recovery at a start: the revision that serves, from the record and the configuration.
//!
//! [`RecoveryPlan`] is worked out from the record alone. [`start`] executes it, because only making
//! a revision shows whether it can serve. [`RecoveryPlan::update`] records the result.

use std::collections::BTreeMap;

use rostro_common::digest::Sha256Digest;
use rostro_gallery::Store;
use rostro_sandbox::settings::names::UnknownSettings;

use super::builder::{MakeError, Occasion, RevisionBuilder, StagedRevision};
use super::ready::ReadyRevision;
use super::record::{ConfiguredTexts, Record, RevisionEntry, RevisionInfo, RevisionSpec, Status};
use super::state_folder::{StateError, StateFolder};
use super::{Actor, shortened};
use crate::audit::{Action, ActionOutcome, Audit};

/// The pipeline of the command line and the configuration.
#[derive(Debug)]
pub struct Configured {
    /// The component of the pipeline.
    pub vision: Vec<u8>,
    /// The component of the policy, if it is another.
    pub policy: Option<Vec<u8>>,
    /// The model pack.
    pub pack: String,
    /// The configuration's texts for these.
    pub texts: ConfiguredTexts,
    /// Whether it may serve although it does not know a setting of the configuration.
    pub may_lack_settings: bool,
}

impl Configured {
    /// Stores the components, and returns the parts of the revision.
    pub(super) fn store(
        &self,
        folder: &StateFolder,
        store: &dyn Store,
    ) -> Result<RevisionSpec, StateError> {
        for bytes in [Some(&self.vision), self.policy.as_ref()]
            .into_iter()
            .flatten()
        {
            folder.keep_in(store, bytes)?;
        }
        Ok(self.spec())
    }

    /// Returns the parts of the revision.
    fn spec(&self) -> RevisionSpec {
        RevisionSpec {
            vision: Sha256Digest::of(&self.vision),
            policy: self.policy.as_deref().map(Sha256Digest::of),
            pack: self.pack.clone(),
            limits: BTreeMap::new(),
            settings: BTreeMap::new(),
        }
    }

    /// Warns if the configuration makes another revision than `active`, by which all nodes serve.
    pub(super) fn warn_unless_active(
        &self,
        builder: &RevisionBuilder,
        record: &Record,
        active: Sha256Digest,
    ) {
        // An unknown id is another one, because the pack cannot be used here.
        let configured = builder.id(&self.spec()).ok();
        if configured == Some(active) {
            return;
        }
        let active = active.short();
        let entry = configured.and_then(|id| record.entry(id));
        match entry.filter(|entry| entry.status.is_wanted()) {
            Some(entry) => {
                let id = entry.id.short();
                tracing::warn!(
                    revision = id,
                    "the configured pipeline does not serve, because {active} is active in the database; activate it for all nodes with \
                     `rostro pipeline activate {id}`"
                );
            }
            None => tracing::warn!(
                "the configured pipeline does not serve, because {active} is active in the database; push it for all nodes with \
                 `rostro pipeline push`, and activate it then"
            ),
        }
    }
}

/// The decision of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StartChoice {
    /// Serve the active revision of the record.
    Remembered,
    /// Serve the active revision of the record, and stage the configured one.
    RememberedAndStaged,
    /// Serve the configured revision.
    Configured,
}

/// Returns the decision of a start at which the configuration makes the revision `configured`.
///
/// A record of an older program has no configured texts. They count as unchanged, because the first
/// start of a newer program is most likely an upgrade. An upgrade must not retire a revision that
/// an operator activated.
fn choose(record: &Record, configured: Sha256Digest, texts: &ConfiguredTexts) -> StartChoice {
    let has_other_texts = record
        .configured_texts
        .as_ref()
        .is_some_and(|before| before != texts);
    if record.active.is_none() {
        StartChoice::Configured
    } else if record.active == Some(configured) {
        StartChoice::Remembered
    } else if has_other_texts {
        StartChoice::Configured
    } else if record.configured == Some(configured) {
        StartChoice::Remembered
    } else if record.configured == record.active {
        StartChoice::Configured
    } else {
        StartChoice::RememberedAndStaged
    }
}

/// The configured revision, for its entry in the record.
#[derive(Debug)]
pub(super) struct ConfiguredEntry<'t> {
    pub former_id: Option<Sha256Digest>,
    pub spec: RevisionSpec,
    pub texts: &'t ConfiguredTexts,
}

/// Plan of a start.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RecoveryPlan {
    /// The configured revision, which serves if no candidate can.
    pub configured: Sha256Digest,
    /// Revisions of the record to try, in this order.
    pub candidates: Vec<Sha256Digest>,
    /// Whether the configured revision is staged if a candidate serves.
    stages_configured: bool,
}

impl RecoveryPlan {
    /// Returns the plan of a start at which the configuration makes the revision `configured`.
    pub(super) fn new(record: &Record, configured: Sha256Digest, texts: &ConfiguredTexts) -> Self {
        let choice = choose(record, configured, texts);
        let candidates = match choice {
            StartChoice::Configured => Vec::new(),
            StartChoice::Remembered | StartChoice::RememberedAndStaged => {
                [record.active, record.previous]
                    .into_iter()
                    .flatten()
                    .collect()
            }
        };
        Self {
            configured,
            candidates,
            stages_configured: choice == StartChoice::RememberedAndStaged,
        }
    }

    /// Returns true if the configured revision is staged while `active` serves.
    pub(super) fn is_configured_staged(&self, active: Sha256Digest) -> bool {
        self.stages_configured && active != self.configured
    }

    /// Records that `active` serves after a start at the time `now`. Returns the other revisions to
    /// stage again.
    pub(super) fn update(
        &self,
        record: &mut Record,
        active: Sha256Digest,
        info: RevisionInfo,
        configured: ConfiguredEntry<'_>,
        now: String,
    ) -> Vec<Sha256Digest> {
        if record.active != Some(active) {
            record.retire_previous();
            record.previous = record.active;
            record.rolled_back = false;
        }
        record.clear_roles(active);
        record.active = Some(active);
        if record.configured != Some(self.configured) {
            record.retire_configured();
        }
        record.configured = Some(self.configured);
        record.configured_texts = Some(configured.texts.clone());
        record.legacy.get_or_insert_with(|| info.contract.clone());
        if record.entry(self.configured).is_none() {
            record.revisions.push(RevisionEntry {
                id: self.configured,
                former_id: configured.former_id,
                spec: configured.spec,
                about: None,
                since: now,
                enrol: false,
                status: Status::Staging,
            });
        }
        if self.is_configured_staged(active)
            && let Some(entry) = record.entry_mut(self.configured)
        {
            // It may have failed or been retired before.
            entry.status = Status::Staging;
        }
        if let Some(entry) = record.entry_mut(active) {
            entry.about = Some(info);
            entry.status = Status::Staged;
        }
        let staged_again: Vec<Sha256Digest> = record
            .revisions
            .iter()
            .filter(|entry| entry.id != active && is_kept_ready(record, entry))
            .map(|entry| entry.id)
            .collect();
        for id in &staged_again {
            if let Some(entry) = record.entry_mut(*id) {
                entry.status = Status::Staging;
            }
        }
        staged_again
    }
}

/// Returns true if a revision must be ready again after a start.
fn is_kept_ready(record: &Record, entry: &RevisionEntry) -> bool {
    record.previous == Some(entry.id) || record.has_share(entry.id) || entry.status.is_wanted()
}

/// The revision that serves after a start.
#[derive(Debug)]
pub(super) struct StartedRevision {
    pub staged: StagedRevision,
    /// `Restored` or `Configured`.
    pub outcome: ActionOutcome,
}

/// Makes the first candidate of the plan that can serve, or else the configured revision. Marks
/// candidates that cannot serve as failed in the record.
pub(super) fn start(
    plan: &RecoveryPlan,
    configured: &RevisionSpec,
    record: &mut Record,
    builder: &RevisionBuilder,
    folder: &StateFolder,
    audit: &Audit,
) -> Result<StartedRevision, MakeError> {
    for &id in &plan.candidates {
        let Some(entry) = record.entry_mut(id) else {
            continue;
        };
        match builder.make(folder, id, &entry.spec, Occasion::Restore) {
            Ok(staged) => {
                return Ok(StartedRevision {
                    staged,
                    outcome: ActionOutcome::Restored,
                });
            }
            // The record stays as it is for the next start.
            Err(MakeError::Stopping) => break,
            Err(error) => {
                tracing::error!(revision = id.short(), "cannot be restored: {error}");
                audit.note(
                    &Actor::part("start"),
                    Action::Restore,
                    Some(id),
                    ActionOutcome::Failed,
                    &shortened(&error.to_string()),
                );
                entry.status = Status::Failed(error.to_string());
            }
        }
    }
    Ok(StartedRevision {
        staged: builder.make(folder, plan.configured, configured, Occasion::Configure)?,
        outcome: ActionOutcome::Configured,
    })
}

/// Checks the configuration's settings against those that a revision knows. An unknown one is
/// misspelt or meant for another pipeline: an error if `is_strict`, and a warning otherwise.
pub(super) fn check_settings(
    builder: &RevisionBuilder,
    ready: &ReadyRevision,
    is_strict: bool,
) -> Result<(), UnknownSettings> {
    match ready.revision.setting_names().check(&builder.tuning.own) {
        Err(unknown) if is_strict => Err(unknown),
        Err(unknown) => {
            tracing::warn!(revision = ready.id().short(), "{unknown}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Sha256Digest {
        Sha256Digest::of(name.as_bytes())
    }

    fn texts(pipeline: &str) -> ConfiguredTexts {
        ConfiguredTexts {
            pipeline: Some(pipeline.to_owned()),
            ..ConfiguredTexts::default()
        }
    }

    fn spec() -> RevisionSpec {
        RevisionSpec {
            vision: id("vision"),
            policy: None,
            pack: "testing".to_owned(),
            limits: BTreeMap::new(),
            settings: BTreeMap::new(),
        }
    }

    fn configured(texts: &ConfiguredTexts) -> ConfiguredEntry<'_> {
        ConfiguredEntry {
            former_id: None,
            spec: spec(),
            texts,
        }
    }

    fn info() -> RevisionInfo {
        RevisionInfo {
            name: "name".to_owned(),
            version: "1".to_owned(),
            policy: "policy".to_owned(),
            policy_version: "1".to_owned(),
            contract: "contract".to_owned(),
        }
    }

    /// A record of revisions with these statuses, of which `x` is active and `a` configured.
    fn record(entries: &[(&str, Status)]) -> Record {
        let mut record = Record::empty();
        record.active = Some(id("x"));
        record.configured = Some(id("a"));
        record.revisions = entries
            .iter()
            .map(|(name, status)| RevisionEntry {
                id: id(name),
                former_id: None,
                spec: spec(),
                about: None,
                since: String::new(),
                enrol: false,
                status: status.clone(),
            })
            .collect();
        record
    }

    /// The configuration made the revision `a` at the last start and makes `b` now. An operator
    /// pushed `x`.
    #[test]
    fn choose_keeps_activated_revision() {
        use StartChoice::{Configured, Remembered, RememberedAndStaged};
        for (configured, active, made, before, now, choice) in [
            (None, None, "a", None, "p", Configured),
            // Nothing changed.
            (Some("a"), Some("a"), "a", Some("p"), "p", Remembered),
            (Some("a"), Some("x"), "a", Some("p"), "p", Remembered),
            // Another file under the same name.
            (Some("a"), Some("a"), "b", Some("p"), "p", Configured),
            (
                Some("a"),
                Some("x"),
                "b",
                Some("p"),
                "p",
                RememberedAndStaged,
            ),
            (Some("a"), Some("b"), "b", Some("p"), "p", Remembered),
            // Another text, for another revision or the same.
            (Some("a"), Some("x"), "b", Some("p"), "q", Configured),
            (Some("a"), Some("x"), "a", Some("p"), "q", Configured),
            (Some("a"), Some("x"), "x", Some("p"), "q", Remembered),
            // A record of before.
            (Some("a"), Some("a"), "b", None, "p", Configured),
            (Some("a"), Some("x"), "b", None, "p", RememberedAndStaged),
            (Some("a"), Some("x"), "a", None, "p", Remembered),
        ] {
            let record = Record {
                configured: configured.map(id),
                active: active.map(id),
                configured_texts: before.map(texts),
                ..Record::default()
            };
            let case = format!("{configured:?} {active:?} {made} {before:?} {now}");
            assert_eq!(choose(&record, id(made), &texts(now)), choice, "{case}");
        }
    }

    #[test]
    fn plan_tries_active_then_previous() {
        let mut record = record(&[]);
        record.previous = Some(id("p"));
        let remembered = RecoveryPlan::new(&record, id("b"), &texts("p"));
        assert_eq!(remembered.candidates, [id("x"), id("p")]);
        assert!(remembered.is_configured_staged(id("x")));
        // No candidate can serve: the configured revision serves and is not staged.
        assert!(!remembered.is_configured_staged(id("b")));
        record.active = None;
        let configured = RecoveryPlan::new(&record, id("b"), &texts("p"));
        assert_eq!(configured.candidates, []);
    }

    #[test]
    fn update_stages_configured_next_to_active() {
        let mut record = record(&[
            ("a", Status::Staged),
            ("x", Status::Staged),
            ("r", Status::Retired),
        ]);
        let plan = RecoveryPlan::new(&record, id("b"), &texts("p"));
        let staged = plan.update(
            &mut record,
            id("x"),
            info(),
            configured(&texts("p")),
            "now".to_owned(),
        );
        assert_eq!(staged, [id("b")]);
        assert_eq!(record.active, Some(id("x")));
        assert_eq!(record.configured, Some(id("b")));
        assert_eq!(record.legacy.as_deref(), Some("contract"));
        let status = |name| &record.entry(id(name)).unwrap().status;
        // The configured revision of the last start has no role.
        assert_eq!(*status("a"), Status::Retired);
        assert_eq!(*status("b"), Status::Staging);
        assert_eq!(*status("x"), Status::Staged);
        assert_eq!(*status("r"), Status::Retired);
    }

    #[test]
    fn update_keeps_replaced_revision_as_previous() {
        let mut record = record(&[("x", Status::Staged), ("a", Status::Retired)]);
        let plan = RecoveryPlan::new(&record, id("b"), &texts("p"));
        let staged = plan.update(
            &mut record,
            id("b"),
            info(),
            configured(&texts("p")),
            "now".to_owned(),
        );
        assert_eq!(
            (record.active, record.previous),
            (Some(id("b")), Some(id("x")))
        );
        assert_eq!(staged, [id("x")]);
    }
}
