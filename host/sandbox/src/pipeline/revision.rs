//! Revision: one pipeline with its exact models, settings and limits.
//!
//! A revision is data. The module `stage` makes it, `run` runs requests on it, and `templates` makes
//! templates with its policy. A request keeps the revision that it began with.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use rostro_common::digest::Sha256Digest;
use rostro_common::ids::ContractId;
use rostro_inference::Models;
use rostro_models::Thresholds;

use crate::bindings::Identity;
use crate::component::CompiledComponent;
use crate::half::{Half, PerHalf};
use crate::settings::Settings;
use crate::settings::names::{SettingNames, UnknownSetting};

/// Embedding contract. Only embeddings of one contract are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Digest of the recogniser, alignment and preprocessing.
    pub id: ContractId,
    /// Length of an embedding.
    pub dimension: usize,
}

/// Pipeline that is ready to serve.
#[derive(Debug)]
pub struct Revision {
    pub(super) id: Sha256Digest,
    pub(super) identity: Identity,
    pub(super) policy_identity: Identity,
    pub(super) vision: CompiledComponent,
    /// Policy component, if it is not the vision component.
    pub(super) policy: Option<CompiledComponent>,
    pub(super) models: Models,
    pub(super) settings: Arc<Settings>,
    /// Settings of a separate policy component, without models.
    pub(super) policy_settings: Arc<Settings>,
    pub(super) contract: Contract,
    pub(super) setting_names: SettingNames,
    pub(super) unknown_settings: Vec<UnknownSetting>,
}

impl Revision {
    /// Returns the pipeline's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Returns the pipeline's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.identity.version
    }

    /// Returns the name and version of its policy.
    pub fn policy_identity(&self) -> &Identity {
        &self.policy_identity
    }

    /// Returns its id. Two revisions with one id give equal answers.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.id
    }

    /// Returns its embedding contract.
    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Returns the thresholds in force.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        self.settings.thresholds
    }

    /// Returns the component that exports its policy, and that component's settings.
    pub fn policy_component(&self) -> (&CompiledComponent, &Arc<Settings>) {
        match &self.policy {
            Some(policy) => (policy, &self.policy_settings),
            None => (&self.vision, &self.settings),
        }
    }

    /// Returns the SHA-256 digest of the thresholds and settings that its policy can read.
    pub fn settings_digest(&self) -> Sha256Digest {
        let Settings {
            thresholds, own, ..
        } = &**self.policy_component().1;
        let own = own.iter().map(|(key, value)| format!("{key}={value}"));
        let thresholds = format!("{} {}", thresholds.detection, thresholds.similarity);
        let texts: Vec<String> = own.chain([thresholds]).collect();
        Sha256Digest(digest_parts(texts.iter().map(|text| text.as_bytes())))
    }

    /// Returns the names of the settings that it knows.
    pub fn setting_names(&self) -> &SettingNames {
        &self.setting_names
    }

    /// Returns the operator's settings that it does not know.
    pub fn unknown_settings(&self) -> &[UnknownSetting] {
        &self.unknown_settings
    }

    /// Returns the CPU time of its guests.
    pub fn seconds(&self) -> PerHalf<f64> {
        PerHalf {
            vision: self.vision.seconds(Half::Vision),
            policy: self.policy_component().0.seconds(Half::Policy),
        }
    }
}

/// Digests parts with their lengths, so that no two lists of parts have the same input.
pub(super) fn digest_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
