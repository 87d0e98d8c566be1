//! Staging: makes a revision from components and a model pack.
//!
//! [`Revision::stage`] checks the exports, asks the components for their descriptions, loads the
//! models, and analyzes one picture. A failure leaves nothing behind.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use rostro_common::cancel::CancelScope;
use rostro_common::ids::ContractId;
use rostro_common::text::sanitize_names;
use rostro_inference::precision::PrecisionMode;
use rostro_inference::{Batching, Model, ModelBytes, ModelError, Models, OnnxRuntime};
use rostro_models::{Channels, ModelSpec, Pack, PackError, Thresholds};

use super::describe::describe;
use super::revision::{Contract, Revision, digest_parts};
use super::revision_id::RevisionInputs;
use crate::bindings::{
    ChannelOrder, Description, EmbeddingContract, Model as ModelSettings, Purpose,
};
use crate::component::version::Minor;
use crate::component::{CompiledComponent, Function};
use crate::error::RunError;
use crate::half::{Half, PerHalf};
use crate::limits::LimitError;
use crate::settings::Settings;
use crate::settings::declared::{self, InvalidValue};
use crate::settings::names::{SettingNames, UnknownSettings};
use crate::validate::InvalidOutput;

/// Grey PNG of one pixel.
const SMALLEST_PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\
    :~\x9bU\0\0\0\nIDATx\x9cch\0\0\0\x82\0\x81w\xcdr\xb6\0\0\0\0IEND\xaeB`\x82";

/// Options of an operator that apply to every revision.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Detection threshold; the pack's by default.
    pub detection: Option<f32>,
    /// Similarity threshold; the pack's by default.
    pub similarity: Option<f32>,
    /// Largest image to decode, in pixels.
    pub max_pixels: u64,
    /// Settings of the pipeline by key.
    pub own: BTreeMap<String, String>,
}

/// Input of staging.
#[derive(Debug)]
pub struct StageRequest<'a> {
    /// Runtime that loads the models.
    pub runtime: &'a OnnxRuntime,
    /// Model pack.
    pub pack: &'a Pack,
    /// Vision component. It also exports the policy if `policy` is `None`.
    pub vision: CompiledComponent,
    /// Policy component.
    pub policy: Option<CompiledComponent>,
    /// Limits of the revision's own, by name.
    pub limits: &'a BTreeMap<String, String>,
    /// Settings of the revision's own, by name.
    pub settings: &'a BTreeMap<String, String>,
    /// Options of the operator.
    pub tuning: &'a Tuning,
}

/// Reason why a revision cannot be staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Neither component has a function.
    #[error(
        "no component of the revision exports `{function}`: {found}; push a pipeline that exports \
         it, or a policy next to one",
        function = .function.name()
    )]
    MissingFunction {
        /// The function.
        function: Function,
        /// What the components export.
        found: String,
    },
    /// A limit of the revision is invalid.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The pack lacks a model.
    #[error(
        "the pipeline needs a model for the role `{role}`, and the pack `{pack}` has only \
         {found:?}; choose another pack with --pack"
    )]
    MissingModel {
        /// Role without a model.
        role: String,
        /// Name of the pack.
        pack: String,
        /// Roles of the pack.
        found: Vec<String>,
    },
    /// A model cannot be loaded.
    #[error("{0}; reinstall its pack with `rostro models install`")]
    Model(#[from] ModelError),
    /// Every run is to use 8-bit integers, and the pack has no variant for that.
    #[error(
        "the pack `{pack}` has no 8-bit variant of its model for the role `{role}`; make it with \
         `rostro models quantize {pack} --photos DIR`, or start with --precision auto"
    )]
    NoVariant {
        /// Role of the recogniser.
        role: String,
        /// Name of the pack.
        pack: String,
    },
    /// The 8-bit variant cannot be used, and every run is to use it.
    #[error("{0}; start with --precision auto to compute frames in floats")]
    Variant(#[source] PackError),
    /// The 8-bit variant cannot replace its model, and every run is to use it.
    #[error(
        "{0}; make it again with `rostro models quantize --force`, or start with --precision auto"
    )]
    VariantModel(#[source] ModelError),
    /// The pack does not state the length of the embeddings.
    #[error(
        "the pipeline makes embeddings with the model for `{role}`, for which the pack `{pack}` \
         states no dimension"
    )]
    NoDimension {
        /// Role of the recogniser.
        role: String,
        /// Name of the pack.
        pack: String,
    },
    /// The pipeline refuses a setting of the operator or the pack.
    #[error(
        "{0}; correct it in --setting, in the settings of the revision, or in the pack's manifest"
    )]
    Setting(#[source] RunError),
    /// A setting does not follow the type that the component declares.
    #[error(
        "{0}; correct it in --setting, in the settings of the revision, or in the pack's manifest"
    )]
    SettingType(#[from] InvalidValue),
    /// The revision has a setting that its components do not know.
    #[error("{0}; push it again without it")]
    UnknownSettings(#[from] UnknownSettings),
    /// A component fails in `describe`.
    #[error("the pipeline cannot describe itself: {0}")]
    Describe(#[source] RunError),
    /// The pipeline cannot analyze a picture.
    #[error("the pipeline fails on a picture of one pixel: {0}")]
    Trial(#[source] RunError),
    /// A description breaks a rule of the interface.
    #[error("the pipeline describes itself wrongly: {0}")]
    Description(#[from] InvalidOutput),
}

impl StageError {
    /// Returns the error of a model that cannot be loaded.
    fn of_model(error: ModelError) -> Self {
        match error {
            ModelError::LoadVariant { .. } | ModelError::VariantMismatch { .. } => {
                Self::VariantModel(error)
            }
            error => Self::Model(error),
        }
    }

    /// Returns the error of a failed `describe`.
    fn of_describe(error: RunError) -> Self {
        match error {
            RunError::Setting { .. } => Self::Setting(error),
            RunError::Output(invalid) => Self::Description(invalid),
            error => Self::Describe(error),
        }
    }

    /// Returns the error of a failed analysis.
    fn of_trial(error: RunError) -> Self {
        if matches!(error, RunError::Setting { .. }) {
            Self::Setting(error)
        } else {
            Self::Trial(error)
        }
    }
}

impl Revision {
    /// Stages a pipeline. Each call of a component gets a scope from `scope`, which does not cover
    /// the loading of the models.
    ///
    /// # Errors
    ///
    /// [`StageError`] names the failed step.
    pub fn stage(
        request: StageRequest<'_>,
        scope: impl Fn() -> CancelScope,
    ) -> Result<Arc<Self>, StageError> {
        let StageRequest {
            runtime,
            pack,
            vision,
            policy,
            limits: own_limits,
            settings: revision_settings,
            tuning,
        } = request;
        let limits = Arc::new(vision.limits().at_most(own_limits)?);
        let vision = vision.with_limits(Arc::clone(&limits));
        let policy = policy.map(|policy| policy.with_limits(limits));
        check_functions(&vision, policy.as_ref())?;

        let settings = Settings {
            thresholds: thresholds(pack, tuning),
            max_pixels: tuning.max_pixels,
            models: HashMap::new(),
            own: own_settings(pack, tuning, revision_settings),
        };
        let described = describe_both(&vision, policy.as_ref(), &settings, &scope)?;
        described.names.check(revision_settings)?;
        let mut vision_settings = settings_of(&vision, &described.vision, &settings)?;
        let policy_settings = match (&policy, &described.policy) {
            (Some(policy), Some(description)) => settings_of(policy, description, &settings)?,
            _ => vision_settings.clone(),
        };

        let contract_parts = described.vision.contract.as_ref();
        let contract_parts = contract_parts.ok_or_else(missing_contract)?;
        let models = load_models(runtime, pack, &described.vision, contract_parts)?;
        for (role, model) in &models {
            let (spec, _) = find_model(pack, role)?;
            let model = model_settings(role, spec, model);
            vision_settings.models.insert(role.clone(), model);
        }
        let contract = contract(pack, contract_parts)?;

        let id = RevisionInputs {
            vision: vision.digest(),
            policy: policy.as_ref().map(CompiledComponent::digest),
            manifest: pack.manifest(),
            limits: own_limits,
            settings: revision_settings,
        }
        .id();
        let decides = policy
            .as_ref()
            .filter(|policy| policy.has(Function::Decide));
        let decider = described.policy.as_ref().filter(|_| decides.is_some());
        let decider = decider.unwrap_or(&described.vision);
        let revision = Arc::new(Self {
            id,
            identity: described.vision.identity.clone(),
            policy_identity: decider.identity.clone(),
            state_versions: PerHalf {
                vision: described.vision.state_version,
                policy: decider.state_version,
            },
            declared: PerHalf {
                vision: described.vision.settings.clone(),
                policy: described
                    .policy
                    .as_ref()
                    .map(|policy| policy.settings.clone())
                    .unwrap_or_default(),
            },
            vision,
            policy,
            models: Models::new(models),
            settings: Arc::new(vision_settings),
            policy_settings: Arc::new(policy_settings),
            contract,
            unknown_settings: described.names.unknown(&tuning.own),
            setting_names: described.names,
        });
        try_once(&revision, scope())?;
        Ok(revision)
    }
}

/// Fails unless the components have all functions between them.
fn check_functions(
    vision: &CompiledComponent,
    policy: Option<&CompiledComponent>,
) -> Result<(), StageError> {
    let has = |function: &Function| {
        vision.has(*function)
            || (*function != Function::Vision && policy.is_some_and(|policy| policy.has(*function)))
    };
    let functions = [Function::Vision].into_iter().chain(Function::RULES);
    match functions.into_iter().find(|function| !has(function)) {
        None => Ok(()),
        Some(function) => Err(StageError::MissingFunction {
            function,
            found: [Some(vision), policy]
                .into_iter()
                .flatten()
                .map(|component| sanitize_names(component.exports()))
                .collect::<Vec<_>>()
                .join("; "),
        }),
    }
}

/// Descriptions of the components, and the settings that they know.
struct Descriptions {
    vision: Description,
    policy: Option<Description>,
    names: SettingNames,
}

/// Asks the components for their descriptions.
fn describe_both(
    vision: &CompiledComponent,
    policy: Option<&CompiledComponent>,
    settings: &Settings,
    scope: &impl Fn() -> CancelScope,
) -> Result<Descriptions, StageError> {
    let describe = |component, role| {
        describe(component, role, settings, &scope()).map_err(StageError::of_describe)
    };
    let (vision, mut names) = describe(vision, Half::Vision)?;
    let policy = policy.map(|policy| describe(policy, Half::Policy));
    let policy = policy.transpose()?;
    let policy = policy.map(|(description, of_policy)| {
        names.extend(of_policy);
        description
    });
    Ok(Descriptions {
        vision,
        policy,
        names,
    })
}

/// Returns the settings that a component reads. As of 0.2, those that it declares.
fn settings_of(
    component: &CompiledComponent,
    description: &Description,
    all: &Settings,
) -> Result<Settings, InvalidValue> {
    let own = match component.minor() {
        Minor::V0_1 => all.own.clone(),
        Minor::V0_2 => declared::resolve(&description.settings, &all.own)?,
    };
    Ok(Settings { own, ..all.clone() })
}

/// Returns the error of a description that validation would have refused.
fn missing_contract() -> StageError {
    InvalidOutput::new("describe", "vision without an embedding contract").into()
}

/// Loads the models for the roles of a pipeline. Its recogniser may have an 8-bit variant.
fn load_models(
    runtime: &OnnxRuntime,
    pack: &Pack,
    described: &Description,
    contract: &EmbeddingContract,
) -> Result<Vec<(String, Model)>, StageError> {
    let load = |role: &String| {
        let (spec, original) = find_model(pack, role)?;
        let variant = if *role == contract.recognizer {
            read_variant(runtime.precision(), pack, role)?
        } else {
            None
        };
        let bytes = ModelBytes {
            original,
            int8: variant.as_deref(),
        };
        let model = runtime
            .model(role, bytes, batching(spec))
            .map_err(StageError::of_model)?;
        Ok((role.clone(), model))
    };
    described.models.iter().map(load).collect()
}

/// Reads the variant of a model, as far as the mode needs one.
fn read_variant(
    mode: PrecisionMode,
    pack: &Pack,
    role: &str,
) -> Result<Option<Vec<u8>>, StageError> {
    match mode {
        PrecisionMode::Float => Ok(None),
        PrecisionMode::Auto => Ok(pack.read_variant(role).unwrap_or_else(|error| {
            tracing::warn!("{error}; frames are computed in floats");
            None
        })),
        PrecisionMode::Int8 => {
            let variant = pack.read_variant(role).map_err(StageError::Variant)?;
            let missing = || StageError::NoVariant {
                role: role.to_owned(),
                pack: pack.name().to_owned(),
            };
            variant.ok_or_else(missing).map(Some)
        }
    }
}

/// Analyzes the smallest picture once, so that refused settings and models of another kind are
/// found before the revision serves.
fn try_once(revision: &Arc<Revision>, scope: CancelScope) -> Result<(), StageError> {
    revision
        .begin(scope)
        .without_time_limit()
        .analyze(SMALLEST_PICTURE, Purpose::Detect)
        .map_err(StageError::of_trial)?;
    Ok(())
}

fn thresholds(pack: &Pack, tuning: &Tuning) -> Thresholds {
    let recommended = pack.manifest().thresholds;
    Thresholds {
        detection: tuning.detection.unwrap_or(recommended.detection),
        similarity: tuning.similarity.unwrap_or(recommended.similarity),
    }
}

/// Returns the pack's settings, overridden by the operator's, and these by the revision's.
fn own_settings(
    pack: &Pack,
    tuning: &Tuning,
    revision: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut own = pack.manifest().settings.clone();
    own.extend(tuning.own.clone());
    own.extend(revision.clone());
    own
}

/// Returns the embedding contract of a pipeline with the models of a pack.
fn contract(pack: &Pack, described: &EmbeddingContract) -> Result<Contract, StageError> {
    let (spec, _) = find_model(pack, &described.recognizer)?;
    let dimension = spec.dimension.ok_or_else(|| StageError::NoDimension {
        role: described.recognizer.clone(),
        pack: pack.name().to_owned(),
    })?;
    let parts = [
        &spec.sha256,
        &dimension.to_string(),
        &described.alignment,
        &described.preprocessing,
    ];
    let digest = digest_parts(parts.map(|part| part.as_bytes()));
    Ok(Contract {
        id: ContractId::from_digest(digest),
        dimension: usize::try_from(dimension).unwrap_or(usize::MAX),
    })
}

fn find_model<'p>(pack: &'p Pack, role: &str) -> Result<(&'p ModelSpec, &'p [u8]), StageError> {
    pack.model(role).ok_or_else(|| StageError::MissingModel {
        role: role.to_owned(),
        pack: pack.name().to_owned(),
        found: pack.manifest().models.keys().cloned().collect(),
    })
}

/// Returns the batching of a model. A model with a batch size or a dimension in the pack returns
/// one row for each image.
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
