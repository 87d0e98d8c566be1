//! The record of revisions: which exist, the roles of each, and the changes of roles.
//!
//! The record is data. [`super::state_folder`] reads and writes it; the serde names are its file format.

pub(super) mod copy;
mod former_ids;
pub(super) mod needed;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use rostro_common::digest::Sha256Digest;
use rostro_models::Manifest;
use rostro_sandbox::pipeline::revision_id::RevisionInputs;

/// Form of a record without settings of revisions, which every program reads.
const FORM: u32 = 1;

/// Form of a record with settings of revisions. A program that would drop them refuses it.
const FORM_WITH_SETTINGS: u32 = 2;

/// The parts of a revision. Its id is a digest of these and of the pack's models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RevisionSpec {
    /// The component that serves vision.
    pub vision: Sha256Digest,
    /// The component that serves the policy, if it is another.
    pub policy: Option<Sha256Digest>,
    /// The model pack.
    pub pack: String,
    /// Limits tighter than the service's, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
    /// Settings of its own, by name. They override those of the configuration and the pack.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl RevisionSpec {
    /// Returns the input of the revision's id.
    pub(crate) fn inputs<'a>(&'a self, manifest: &'a Manifest) -> RevisionInputs<'a> {
        RevisionInputs {
            vision: self.vision,
            policy: self.policy,
            manifest,
            limits: &self.limits,
            settings: &self.settings,
        }
    }

    /// Returns the digests of the components.
    pub(crate) fn components(&self) -> impl Iterator<Item = Sha256Digest> {
        [Some(self.vision), self.policy].into_iter().flatten()
    }
}

/// Status of a revision in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "status", content = "reason")]
pub(crate) enum Status {
    /// It is being staged.
    Staging,
    /// It can serve.
    Staged,
    /// It cannot serve, or the circuit breaker took it out.
    Failed(String),
    /// An operator or a later revision took its place.
    Retired,
}

impl Status {
    /// Returns true if the revision must be ready, or made ready.
    pub(crate) fn is_wanted(&self) -> bool {
        matches!(self, Self::Staging | Self::Staged)
    }

    /// Returns true if the revision may become ready again.
    pub(crate) fn needs_components(&self) -> bool {
        *self != Self::Retired
    }
}

/// One revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RevisionEntry {
    /// The revision's id.
    pub id: Sha256Digest,
    /// Id by version 1 of the hash. The file has it as `id`, and the current one here.
    #[serde(
        default,
        rename = "current_id",
        skip_serializing_if = "Option::is_none"
    )]
    pub former_id: Option<Sha256Digest>,
    /// Its parts.
    #[serde(flatten)]
    pub spec: RevisionSpec,
    /// Names and contract that its components report. None before it was staged.
    pub about: Option<RevisionInfo>,
    /// Time at which this host first received it (RFC 3339).
    pub since: String,
    /// Whether enrolments are embedded for it before it is activated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enrol: bool,
    /// Its status.
    #[serde(flatten)]
    pub status: Status,
}

/// Names and contract that the components of a revision report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RevisionInfo {
    /// The pipeline's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its policy's name.
    pub policy: String,
    /// Its policy's version.
    pub policy_version: String,
    /// The contract of its embeddings.
    pub contract: String,
}

/// The configuration's texts for the pipeline; none where the default holds. Files of the same name
/// may change with an upgrade, which is no operator's decision; a changed text is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredTexts {
    /// `--pipeline`.
    pub pipeline: Option<String>,
    /// `--policy`.
    pub policy: Option<String>,
    /// `--pack`.
    pub pack: Option<String>,
}

/// A revision that gets a share of the requests, next to the active one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrafficShare {
    /// The revision.
    pub id: Sha256Digest,
    /// Its share, 0 to 1.
    pub share: f64,
}

/// All revisions, and their roles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(super) form: u32,
    /// The revision of the configuration at the last start.
    pub configured: Option<Sha256Digest>,
    /// The configuration's texts for it. None in a record of a program that did not write them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_texts: Option<ConfiguredTexts>,
    /// The revision that serves.
    pub active: Option<Sha256Digest>,
    /// The revision that served before. It is kept ready.
    pub previous: Option<Sha256Digest>,
    /// The revision that answers a share of the requests.
    pub canary: Option<TrafficShare>,
    /// The revision that sees a share of the requests, without answering them.
    pub shadow: Option<TrafficShare>,
    /// Whether the last change of the active revision was a rollback. A second rollback does not
    /// undo it.
    #[serde(default)]
    pub rolled_back: bool,
    /// Contract of the gallery's samples that state none: that of the first revision that served.
    #[serde(default, rename = "unmarked")]
    pub legacy: Option<String>,
    /// All revisions, oldest first.
    pub revisions: Vec<RevisionEntry>,
}

impl Record {
    /// Parses the text of a record.
    ///
    /// # Errors
    ///
    /// The reason why it is not a record.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut record: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if !(FORM..=FORM_WITH_SETTINGS).contains(&record.form) {
            let form = record.form;
            return Err(format!(
                "it has the form {form}, and this host reads {FORM} and {FORM_WITH_SETTINGS}"
            ));
        }
        record.exchange_ids();
        Ok(record)
    }

    /// Retires the previous revision, unless it has another role.
    pub(crate) fn retire_previous(&mut self) {
        let Some(id) = self.previous else { return };
        let has_role = self.has_share(id);
        if let Some(entry) = self
            .entry_mut(id)
            .filter(|entry| !has_role && entry.status != Status::Staging)
        {
            entry.status = Status::Retired;
        }
    }

    /// Sets the form that the content needs, before it is written.
    pub(super) fn set_form(&mut self) {
        let has_settings = |entry: &RevisionEntry| !entry.spec.settings.is_empty();
        self.form = match self.revisions.iter().any(has_settings) {
            true => FORM_WITH_SETTINGS,
            false => FORM,
        };
    }

    /// Returns an empty record of the current form.
    pub(super) fn empty() -> Self {
        Self {
            form: FORM,
            ..Self::default()
        }
    }

    /// Returns true if the revision is the canary or the shadow.
    pub(super) fn has_share(&self, id: Sha256Digest) -> bool {
        [self.canary, self.shadow]
            .into_iter()
            .flatten()
            .any(|share| share.id == id)
    }

    /// Returns the digests of the components of all revisions that are not retired.
    pub(super) fn components(&self) -> impl Iterator<Item = Sha256Digest> {
        self.revisions
            .iter()
            .filter(|entry| entry.status.needs_components())
            .flat_map(|entry| entry.spec.components())
    }

    pub(crate) fn entry(&self, id: Sha256Digest) -> Option<&RevisionEntry> {
        self.revisions.iter().find(|entry| entry.id == id)
    }

    pub(crate) fn entry_mut(&mut self, id: Sha256Digest) -> Option<&mut RevisionEntry> {
        self.revisions.iter_mut().find(|entry| entry.id == id)
    }

    /// Removes failed and retired revisions but for the newest `most`.
    pub(crate) fn forget_old(&mut self, most: usize) {
        let is_expired =
            |entry: &RevisionEntry| matches!(entry.status, Status::Failed(_) | Status::Retired);
        let mut over = self
            .revisions
            .iter()
            .filter(|entry| is_expired(entry))
            .count()
            .saturating_sub(most);
        self.revisions.retain(|entry| {
            let is_removed = over > 0 && is_expired(entry);
            over -= usize::from(is_removed);
            !is_removed
        });
    }

    /// Retires the revision of the last start's configuration if it has no role, because it would
    /// stay ready forever otherwise.
    pub(crate) fn retire_configured(&mut self) {
        let Some(id) = self.configured else { return };
        let has_role = self.has_share(id) || [self.active, self.previous].contains(&Some(id));
        if let Some(entry) = self
            .entry_mut(id)
            .filter(|entry| !has_role && matches!(entry.status, Status::Staged | Status::Staging))
        {
            entry.status = Status::Retired;
        }
    }

    /// Takes a revision out of every role except the active one.
    pub(crate) fn clear_roles(&mut self, id: Sha256Digest) {
        if self.previous == Some(id) {
            self.previous = None;
        }
        for share in [&mut self.canary, &mut self.shadow] {
            if share.is_some_and(|share| share.id == id) {
                *share = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Earlier programs read only form 1, and would drop the settings.
    #[test]
    fn settings_raise_form() {
        let spec = RevisionSpec {
            vision: Sha256Digest([1; 32]),
            policy: None,
            pack: "testing".to_owned(),
            limits: BTreeMap::new(),
            settings: BTreeMap::new(),
        };
        let mut record = Record::empty();
        record.revisions.push(RevisionEntry {
            id: Sha256Digest([2; 32]),
            former_id: None,
            spec,
            about: None,
            since: "2026-01-01T00:00:00Z".to_owned(),
            enrol: false,
            status: Status::Staged,
        });
        let form = |record: &mut Record| {
            record.set_form();
            let text = serde_json::to_vec(record).unwrap();
            assert_eq!(Record::parse(&text).unwrap(), *record);
            record.form
        };
        assert_eq!(form(&mut record), FORM);
        let settings = &mut record.revisions[0].spec.settings;
        settings.insert("rivals".to_owned(), "off".to_owned());
        assert_eq!(form(&mut record), FORM_WITH_SETTINGS);
        record.form = FORM_WITH_SETTINGS + 1;
        let text = serde_json::to_vec(&record).unwrap();
        assert!(
            Record::parse(&text)
                .unwrap_err()
                .contains("this host reads 1 and 2")
        );
    }
}
