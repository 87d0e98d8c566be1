//! A revision: one pipeline with the exact models that it runs on.
//!
//! [`Revision::stage`] turns files into something that can serve; [`Revision::begin`] starts the
//! work of one request on it. A request keeps the revision that it began with.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use rostro_common::cancel::CancelScope;
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::ContractId;
use rostro_inference::{Batching, Model, ModelError, Models, OnnxRuntime};
use rostro_models::{Channels, ModelSpec, Pack, Thresholds};

use crate::bindings::vision::rostro::pipeline::settings::{ChannelOrder, Model as ModelSettings};
use crate::bindings::{Identity, Purpose};
use crate::component::{CompiledComponent, ComponentError, Half, PerHalf};
use crate::limits::LimitError;
use crate::pipeline::run::{Run, RunError};
use crate::settings::Settings;
use crate::settings::names::{SettingNames, UnknownSetting};
use crate::validate::{self, InvalidOutput};

/// A grey PNG of one pixel.
const SMALLEST_PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU\0\0\0\nIDATx\x9cch\0\0\0\x82\0\x81w\xcdr\xb6\0\0\0\0IEND\xaeB`\x82";

/// What an operator chooses beside the files of a revision.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// The operating point; where none, the pack's.
    pub detection: Option<f32>,
    /// The similarity threshold; where none, the pack's.
    pub similarity: Option<f32>,
    /// The largest image to decode, in pixels.
    pub max_pixels: u64,
    /// The operator's own keys for the pipeline.
    pub own: BTreeMap<String, String>,
}

/// What embeddings mean: only those of one contract are ever compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Names all the rest.
    pub id: ContractId,
    /// Numbers in an embedding.
    pub dimension: usize,
}

/// A pipeline that is ready to serve.
#[derive(Debug)]
pub struct Revision {
    identity: Identity,
    policy_identity: Identity,
    vision: CompiledComponent,
    /// The policy, where it is another component than vision.
    policy: Option<CompiledComponent>,
    models: Models,
    settings: Arc<Settings>,
    /// What a policy of its own may read: the same without models.
    policy_settings: Arc<Settings>,
    contract: Contract,
    digest: Sha256Digest,
    setting_names: SettingNames,
    unknown_settings: Vec<UnknownSetting>,
}

/// What makes templates of a person's samples: a policy, and what it may read.
#[derive(Clone, Debug)]
pub struct Templates {
    policy: CompiledComponent,
    settings: Arc<Settings>,
    dimension: usize,
}

impl Templates {
    /// The vectors that stand for a person with these embeddings.
    ///
    /// # Errors
    ///
    /// If the policy fails or answers wrongly.
    pub fn of(
        &self,
        embeddings: &[Vec<f32>],
        scope: &CancelScope,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        Run::template_alone(
            &self.policy,
            &self.settings,
            embeddings,
            self.dimension,
            scope,
        )
    }
}

/// Why a revision cannot be staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The component for vision cannot be used.
    #[error("pipeline: {0}")]
    Pipeline(#[source] ComponentError),
    /// The component for policy cannot be used.
    #[error("policy: {0}")]
    Policy(#[source] ComponentError),
    /// A limit of its own is none.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The pipeline wants a model that the pack does not have.
    #[error(
        "the pipeline needs a model for the role `{role}`, and the pack `{pack}` has only {found:?}; choose another pack with --pack"
    )]
    MissingModel {
        /// The role that is not filled.
        role: String,
        /// The pack.
        pack: String,
        /// The roles that it fills.
        found: Vec<String>,
    },
    /// A model cannot be loaded.
    #[error("{0}; reinstall its pack with `rostro models install`")]
    Model(#[from] ModelError),
    /// The pipeline's embeddings have no length.
    #[error(
        "the pipeline makes embeddings with the model for `{role}`, for which the pack `{pack}` states no dimension"
    )]
    NoDimension {
        /// The recogniser's role.
        role: String,
        /// The pack.
        pack: String,
    },
    /// The pipeline cannot use a setting of the operator's or the pack's.
    #[error("{0}; correct it in --setting or in the pack's manifest")]
    Setting(#[source] RunError),
    /// The component fails when it is asked what it is.
    #[error("the pipeline cannot describe itself: {0}")]
    Describe(#[source] RunError),
    /// It cannot analyse a picture.
    #[error("the pipeline fails on a picture of one pixel: {0}")]
    Trial(#[source] RunError),
    /// What it says of itself breaks the interface's rules.
    #[error("the pipeline describes itself wrongly: {0}")]
    Description(#[from] InvalidOutput),
}

impl StageError {
    /// The error of a `describe` that failed.
    fn describing(error: RunError) -> Self {
        if matches!(error, RunError::Setting { .. }) {
            Self::Setting(error)
        } else {
            Self::Describe(error)
        }
    }

    /// The error of a trial that failed.
    fn trying(error: RunError) -> Self {
        if matches!(error, RunError::Setting { .. }) {
            Self::Setting(error)
        } else {
            Self::Trial(error)
        }
    }
}

impl Revision {
    /// Makes a pipeline ready: `vision` sees, `policy` decides (or `vision` does, where there is
    /// none), on the models of `pack`. Each call of a component gets a scope of its own from
    /// `scope`; loading the models is not counted.
    ///
    /// # Errors
    ///
    /// [`StageError`] says what does not fit; nothing is left behind.
    pub fn stage(
        runtime: &OnnxRuntime,
        pack: &Pack,
        vision: CompiledComponent,
        policy: Option<CompiledComponent>,
        own_limits: &BTreeMap<String, String>,
        tuning: &Tuning,
        scope: impl Fn() -> CancelScope,
    ) -> Result<Arc<Self>, StageError> {
        let limits = Arc::new(vision.limits().at_most(own_limits)?);
        let (vision, policy) = (
            vision.within(Arc::clone(&limits)),
            policy.map(|policy| policy.within(limits)),
        );
        vision.require(Half::Vision).map_err(StageError::Pipeline)?;
        match &policy {
            Some(policy) => policy.require(Half::Policy).map_err(StageError::Policy)?,
            None => vision.require(Half::Policy).map_err(StageError::Pipeline)?,
        }
        let mut settings = Settings {
            thresholds: thresholds(pack, tuning),
            max_pixels: tuning.max_pixels,
            models: HashMap::new(),
            own: own_settings(pack, tuning),
        };
        let mut setting_names = SettingNames::none();
        let description = Run::describe(&vision, &settings, &mut setting_names, &scope())
            .map_err(StageError::describing)?;
        let description = validate::description(description)?;
        let identity = description.identity;
        let policy_identity = match &policy {
            Some(policy) => {
                let described =
                    Run::describe_policy(policy, &settings, &mut setting_names, &scope());
                validate::identity(described.map_err(StageError::describing)?)?
            }
            // Its policy has settings of its own.
            None if vision.asks_for_all_settings(Half::Policy) => {
                let described =
                    Run::describe_policy(&vision, &settings, &mut setting_names, &scope());
                validate::identity(described.map_err(StageError::describing)?)?;
                identity.clone()
            }
            None => identity.clone(),
        };
        let unknown_settings = setting_names.unknown(&tuning.own);
        let policy_settings = Arc::new(settings.clone());
        let mut models = Vec::new();
        for role in description.models {
            let (spec, bytes) = granted(pack, &role)?;
            let model = runtime.model(&role, bytes, batching(spec))?;
            settings
                .models
                .insert(role.clone(), model_settings(&role, spec, &model));
            models.push((role, model));
        }
        let recognizer = &description.contract.recognizer;
        let (spec, _) = granted(pack, recognizer)?;
        let dimension = spec.dimension.ok_or_else(|| StageError::NoDimension {
            role: recognizer.clone(),
            pack: pack.name().to_owned(),
        })?;
        let contract = Contract {
            id: contract_id(&[
                &spec.sha256,
                &dimension.to_string(),
                &description.contract.alignment,
                &description.contract.preprocessing,
            ]),
            dimension: usize::try_from(dimension).unwrap_or(usize::MAX),
        };
        let digest = Self::digest_of(
            vision.digest(),
            policy.as_ref().map(CompiledComponent::digest),
            pack,
            own_limits,
        );
        let (models, settings) = (Models::new(models), Arc::new(settings));
        let revision = Self {
            identity,
            policy_identity,
            vision,
            policy,
            models,
            settings,
            policy_settings,
            contract,
            digest,
            setting_names,
            unknown_settings,
        };
        Arc::new(revision).tried(scope())
    }

    /// Runs vision once on the smallest picture, so that settings that it does not understand and
    /// models of another kind are found before anybody is served.
    fn tried(self: Arc<Self>, scope: CancelScope) -> Result<Arc<Self>, StageError> {
        self.begin(scope)
            .without_time_limit()
            .analyze(SMALLEST_PICTURE, Purpose::Detect)
            .map_err(StageError::trying)?;
        Ok(self)
    }

    /// Starts the work of one request, until a deadline or for as long as it is scope.
    #[must_use]
    pub fn begin(self: &Arc<Self>, scope: impl Into<CancelScope>) -> Run {
        Run::new(Arc::clone(self), scope.into())
    }

    /// What the pipeline calls itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// The pipeline's version, as it says.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.identity.version
    }

    /// What its policy calls itself, and that one's version.
    pub fn policy_identity(&self) -> &Identity {
        &self.policy_identity
    }

    /// SHA-256 over the digests of the components and the models, and its own limits: two revisions
    /// with the same digest answer the same.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// The digest that a revision of these components, this pack and these limits of its own has.
    #[must_use]
    pub fn digest_of(
        vision: Sha256Digest,
        policy: Option<Sha256Digest>,
        pack: &Pack,
        limits: &BTreeMap<String, String>,
    ) -> Sha256Digest {
        let components = [vision, policy.unwrap_or(vision)].map(|digest| digest.0);
        let manifest = pack.manifest();
        // All that a guest can learn of the pack: the same models with other thresholds are another
        // revision.
        let models = manifest.models.iter().map(|(role, spec)| {
            let ModelSpec { sha256, width, height, mean, std, channels, dimension, batch, .. } = spec;
            format!("{role} {sha256} {width:?}×{height:?} {mean} {std} {channels:?} {dimension:?} {batch:?}")
        });
        let settings = manifest
            .settings
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let thresholds = format!(
            "{} {}",
            manifest.thresholds.detection, manifest.thresholds.similarity
        );
        let limits = limits
            .iter()
            .map(|(name, value)| format!("limit {name}={value}"));
        let pack: Vec<String> = models
            .chain(settings)
            .chain([thresholds])
            .chain(limits)
            .collect();
        let parts = components
            .iter()
            .map(|digest| digest.as_slice())
            .chain(pack.iter().map(|text| text.as_bytes()));
        Sha256Digest(digest_of(parts))
    }

    /// What its embeddings mean.
    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The thresholds in force.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        self.settings.thresholds
    }

    pub(crate) fn vision(&self) -> &CompiledComponent {
        &self.vision
    }

    pub(crate) fn policy(&self) -> Option<&CompiledComponent> {
        self.policy.as_ref()
    }

    /// The component that decides, one of its own or vision's, and what it may read.
    pub fn deciding(&self) -> (&CompiledComponent, &Arc<Settings>) {
        match &self.policy {
            Some(policy) => (policy, &self.policy_settings),
            None => (&self.vision, &self.settings),
        }
    }

    /// SHA-256 of the thresholds and the settings that its policy may read.
    pub fn settings_digest(&self) -> Sha256Digest {
        let Settings {
            thresholds, own, ..
        } = &**self.deciding().1;
        let own = own.iter().map(|(key, value)| format!("{key}={value}"));
        let texts: Vec<String> = own
            .chain([format!(
                "{} {}",
                thresholds.detection, thresholds.similarity
            )])
            .collect();
        Sha256Digest(digest_of(texts.iter().map(|text| text.as_bytes())))
    }

    /// The settings that it knows.
    pub fn setting_names(&self) -> &SettingNames {
        &self.setting_names
    }

    /// The operator's settings that it does not know.
    pub fn unknown_settings(&self) -> &[UnknownSetting] {
        &self.unknown_settings
    }

    /// What makes templates in this revision.
    pub fn templates(&self) -> Templates {
        let (policy, settings) = self.deciding();
        Templates {
            policy: policy.clone(),
            settings: Arc::clone(settings),
            dimension: self.contract.dimension,
        }
    }

    /// Time on the processor that its guests took so far.
    pub fn seconds(&self) -> PerHalf<f64> {
        PerHalf {
            vision: self.vision.seconds(Half::Vision),
            policy: self.deciding().0.seconds(Half::Policy),
        }
    }

    pub(crate) fn models(&self) -> &Models {
        &self.models
    }

    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    pub(crate) fn policy_settings(&self) -> &Arc<Settings> {
        &self.policy_settings
    }
}

fn thresholds(pack: &Pack, tuning: &Tuning) -> Thresholds {
    let recommended = pack.manifest().thresholds;
    Thresholds {
        detection: tuning.detection.unwrap_or(recommended.detection),
        similarity: tuning.similarity.unwrap_or(recommended.similarity),
    }
}

/// The operator's settings, and the pack's where the operator sets nothing.
fn own_settings(pack: &Pack, tuning: &Tuning) -> BTreeMap<String, String> {
    let mut own = pack.manifest().settings.clone();
    own.extend(tuning.own.clone());
    own
}

fn granted<'p>(pack: &'p Pack, role: &str) -> Result<(&'p ModelSpec, &'p [u8]), StageError> {
    pack.model(role).ok_or_else(|| StageError::MissingModel {
        role: role.to_owned(),
        pack: pack.name().to_owned(),
        found: pack.manifest().models.keys().cloned().collect(),
    })
}

/// A model of which the pack says how many images it takes, or how long an embedding is, gives a
/// row for each image.
fn batching(spec: &ModelSpec) -> Batching {
    match (spec.batch, spec.dimension) {
        (None, None) => Batching::Whole,
        (most, _) => Batching::Images {
            most: most.and_then(|most| NonZeroUsize::new(most as usize)),
        },
    }
}

fn model_settings(role: &str, spec: &ModelSpec, model: &Model) -> ModelSettings {
    ModelSettings {
        graph: role.to_owned(),
        input: model
            .inputs()
            .first()
            .map(|input| input.name.clone())
            .unwrap_or_default(),
        width: spec.width,
        height: spec.height,
        mean: spec.mean,
        std: spec.std,
        channels: match spec.channels {
            Channels::Rgb => ChannelOrder::Rgb,
            Channels::Bgr => ChannelOrder::Bgr,
        },
        dimension: spec.dimension,
    }
}

/// Digests parts with their lengths, so that no two lists of parts run together.
fn digest_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn contract_id(parts: &[&str]) -> ContractId {
    ContractId::from_digest(digest_of(parts.iter().map(|part| part.as_bytes())))
}
