//! Revision: one pipeline with its exact models, settings and limits.
//!
//! A revision is data. The module `stage` makes it, `run` runs requests on it, and `templates` makes
//! templates with its policy. A request keeps the revision that it began with.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use rostro_common::digest::Sha256Digest;
use rostro_common::ids::ContractId;
use rostro_inference::Models;
use rostro_models::Thresholds;

use crate::bindings::{Identity, Setting};
use crate::component::version::Minor;
use crate::component::{CompiledComponent, Function};
use crate::half::{Half, PerHalf};
use crate::settings::Settings;
use crate::settings::declared::{self, InvalidValue};
use crate::settings::names::{SettingNames, UnknownSetting};

/// Embedding contract. Only embeddings of one contract are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Digest of the recogniser, alignment and preprocessing.
    pub id: ContractId,
    /// Length of an embedding.
    pub dimension: usize,
}

/// Why a request cannot choose the value of a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChoice {
    /// Vision does not declare that requests may choose it.
    #[error("the pipeline `{pipeline}` lets no request choose `{name}`")]
    NotOffered {
        /// Name of the setting.
        name: String,
        /// Name of the pipeline.
        pipeline: String,
    },
    /// The value breaks the declared type.
    #[error(transparent)]
    Value(#[from] InvalidValue),
}

/// Pipeline that is ready to serve.
#[derive(Debug)]
pub struct Revision {
    pub(super) id: Sha256Digest,
    pub(super) identity: Identity,
    pub(super) policy_identity: Identity,
    pub(super) vision: CompiledComponent,
    /// Policy component, if it is not the vision component. A function that it lacks is the vision
    /// component's.
    pub(super) policy: Option<CompiledComponent>,
    pub(super) models: Models,
    pub(super) settings: Arc<Settings>,
    /// Settings of a separate policy component, without models.
    pub(super) policy_settings: Arc<Settings>,
    pub(super) state_versions: PerHalf<u32>,
    /// Settings that the vision component and a separate policy component declare.
    pub(super) declared: PerHalf<Vec<Setting>>,
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

    /// Returns the name and version of the component that decides.
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

    /// Returns the component that has a function, and the settings that it reads. A policy component
    /// comes before the vision component.
    pub fn component(&self, function: Function) -> (&CompiledComponent, &Arc<Settings>) {
        match &self.policy {
            Some(policy) if policy.has(function) => (policy, &self.policy_settings),
            _ => (&self.vision, &self.settings),
        }
    }

    /// Returns true if a function is the policy component's, and not the vision component's.
    pub(super) fn is_separate(&self, function: Function) -> bool {
        let policy = self.policy.as_ref();
        policy.is_some_and(|policy| policy.has(function))
    }

    /// Returns the SHA-256 digest of the thresholds and settings that can affect its templates.
    pub fn template_settings_digest(&self) -> Sha256Digest {
        let Settings {
            thresholds, own, ..
        } = &**self.component(Function::Template).1;
        let own = own.iter().map(|(key, value)| format!("{key}={value}"));
        let thresholds = format!("{} {}", thresholds.detection, thresholds.similarity);
        let texts: Vec<String> = own.chain([thresholds]).collect();
        Sha256Digest(digest_parts(texts.iter().map(|text| text.as_bytes())))
    }

    /// Returns the key of the states that its components keep of a stream. A revision with another
    /// key drops the memory of its streams.
    #[must_use]
    pub fn stream_key(&self) -> String {
        format!(
            "{} {} {} {} {}",
            self.contract.id,
            self.identity.name,
            self.state_versions.vision,
            self.policy_identity.name,
            self.state_versions.policy
        )
    }

    /// Checks that a request may choose the value of a setting.
    ///
    /// # Errors
    ///
    /// [`InvalidChoice`], if vision does not let requests choose it, or the value breaks its type.
    pub fn check_choice(&self, name: &str, value: &str) -> Result<(), InvalidChoice> {
        let mut declared = self.declared.vision.iter();
        let offered = declared.find(|setting| setting.by_request && setting.name == name);
        let Some(offered) = offered else {
            return Err(InvalidChoice::NotOffered {
                name: name.to_owned(),
                pipeline: self.name().to_owned(),
            });
        };
        Ok(declared::check(offered, value)?)
    }

    /// Returns those of a request's values that the component of a function lets requests choose.
    pub(super) fn choices(
        &self,
        function: Function,
        values: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let declared = match self.is_separate(function) {
            true => &self.declared.policy,
            false => &self.declared.vision,
        };
        let is_offered = |(name, value): &(&String, &String)| {
            declared.iter().any(|setting| {
                setting.by_request
                    && setting.name == **name
                    && declared::check(setting, value).is_ok()
            })
        };
        let offered = values.iter().filter(is_offered);
        offered
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Returns true if the component of a half knows a setting, or does not declare its settings.
    pub fn may_know(&self, half: Half, setting: &str) -> bool {
        let (component, declared) = match (half, &self.policy) {
            (Half::Policy, Some(policy)) => (policy, &self.declared.policy),
            _ => (&self.vision, &self.declared.vision),
        };
        component.minor() == Minor::V0_1 || declared.iter().any(|known| known.name == setting)
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
            policy: self.vision.seconds(Half::Policy)
                + self
                    .policy
                    .as_ref()
                    .map_or(0.0, |policy| policy.seconds(Half::Policy)),
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
