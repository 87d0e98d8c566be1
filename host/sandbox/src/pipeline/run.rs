//! The work of one request on one revision: fresh instances, checked answers, and what went wrong
//! in words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use rostro_common::cancel::CancelScope;
use rostro_common::text::sanitize;
use rostro_inference::Models;

use crate::bindings::{
    Analysis, Decision, Description, Face, Identity, Probe, Purpose, ReviewOutcome, VisionError,
    policy::PolicyHost, vision::VisionHost,
};
use crate::component::frames as wasm_frames;
use crate::component::{CompiledComponent, Guest, Half};
use crate::guest::report::{RawSamples, RefusedSetting, Warning};
use crate::guest::state::GuestInputs;
use crate::limits::{LimitReached, Limits, OutOfCapacity, Usage};
use crate::pipeline::revision::Revision;
use crate::review::Review;
use crate::settings::Settings;
use crate::settings::names::SettingNames;
use crate::validate::{self, InvalidOutput};

/// Why a run of a pipeline failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The image is damaged or in an unknown format.
    #[error("{0}")]
    Undecodable(String),
    /// The image has too many pixels.
    #[error("the image has {width}×{height} pixels; at most {max_pixels} are decoded")]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The most pixels that are decoded.
        max_pixels: u64,
    },
    /// A model failed, as the guest reports.
    #[error("the pipeline's model failed: {0}")]
    Model(String),
    /// The pipeline cannot use the value of a setting.
    #[error("{}", refusal(.key, .message))]
    Setting {
        /// The setting.
        key: String,
        /// What is wrong with its value, in the guest's words.
        message: String,
    },
    /// The guest's time was up.
    #[error("the pipeline did not finish before the deadline: it had {} ms", .had.as_millis())]
    Deadline {
        /// How much time it had.
        had: Duration,
    },
    /// Nobody waits for the answer any more.
    #[error("nobody waits for the answer any more")]
    Cancelled,
    /// The other guests have the memory that it scope.
    #[error(transparent)]
    OutOfCapacity(#[from] OutOfCapacity),
    /// The guest hit a limit of the sandbox.
    #[error("the pipeline hit the {0}")]
    Limit(#[from] LimitReached),
    /// The guest trapped, or exited.
    #[error("the pipeline failed: {cause}{}", if .stderr.is_empty() { String::new() } else { format!("; it wrote: {}", .stderr) })]
    Trap {
        /// What happened.
        cause: String,
        /// What it wrote to standard error, bounded.
        stderr: String,
    },
    /// The guest's answer breaks the interface's rules.
    #[error("the pipeline's answer is refused: {0}")]
    Output(#[from] InvalidOutput),
}

/// The work of one request. Instances are made when first needed, used by this request alone, and
/// dropped with it.
pub struct Run {
    revision: Arc<Revision>,
    scope: CancelScope,
    /// Whether a limit on a guest's own time holds.
    is_hurried: bool,
    review: Review,
    vision: Option<Guest>,
    policy: Option<Guest>,
    stages: Vec<(String, Duration)>,
    warnings: Vec<Warning>,
    raw: RawSamples,
}

impl RunError {
    /// Whether it may be otherwise at another moment, whoever asks for what.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Deadline { .. } | Self::Cancelled | Self::OutOfCapacity(_)
        )
    }
}

impl Run {
    pub(crate) fn new(revision: Arc<Revision>, scope: CancelScope) -> Self {
        Self {
            revision,
            scope,
            is_hurried: true,
            review: Review::default(),
            vision: None,
            policy: None,
            stages: Vec::new(),
            warnings: Vec::new(),
            raw: RawSamples::new(),
        }
    }

    /// The same, whatever a guest's own time: staging is done where requests go first, and must not
    /// fail for that.
    pub fn without_time_limit(self) -> Self {
        Self {
            is_hurried: false,
            ..self
        }
    }

    /// The same, with photos judged so strictly.
    pub fn reviewing(self, review: Review) -> Self {
        Self { review, ..self }
    }

    /// Asks a component that serves vision what it is, before it has any models. The settings that
    /// it asks for meanwhile are added to `known`.
    pub fn describe(
        plugin: &CompiledComponent,
        settings: &Settings,
        known: &mut SettingNames,
        scope: &CancelScope,
    ) -> Result<Description, RunError> {
        let mut guest = alone(plugin, Half::Vision, &Arc::new(settings.clone()), scope)?;
        let vision = vision_of(plugin, &mut guest)?;
        let described = call(plugin, Half::Vision, &mut guest, |guest| {
            vision
                .rostro_pipeline_vision()
                .call_describe(&mut guest.store)
        })?;
        let report = guest.store.data().report();
        known.add(
            report.asked().clone(),
            plugin.asks_for_all_settings(Half::Vision) && !report.is_asked_cut(),
        );
        accepted(&guest, described)
    }

    /// Asks a component that serves policy what it is. The settings that it asks for meanwhile are
    /// added to `known`.
    pub fn describe_policy(
        plugin: &CompiledComponent,
        settings: &Settings,
        known: &mut SettingNames,
        scope: &CancelScope,
    ) -> Result<Identity, RunError> {
        let mut guest = alone(plugin, Half::Policy, &Arc::new(settings.clone()), scope)?;
        let policy = policy_of(plugin, &mut guest)?;
        let described = call(plugin, Half::Policy, &mut guest, |guest| {
            policy
                .rostro_pipeline_policy()
                .call_describe(&mut guest.store)
        })?;
        let report = guest.store.data().report();
        known.add(
            report.asked().clone(),
            plugin.asks_for_all_settings(Half::Policy) && !report.is_asked_cut(),
        );
        accepted(&guest, described)
    }

    /// Has a policy make a person's templates, in an instance of its own that gets no models.
    pub(crate) fn template_alone(
        plugin: &CompiledComponent,
        settings: &Arc<Settings>,
        samples: &[Vec<f32>],
        dimension: usize,
        scope: &CancelScope,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        let mut guest = alone(plugin, Half::Policy, settings, scope)?;
        let policy = policy_of(plugin, &mut guest)?;
        let make = |guest: &mut Guest| {
            policy
                .rostro_pipeline_policy()
                .call_template(&mut guest.store, samples)
        };
        templates_of(
            plugin,
            call(plugin, Half::Policy, &mut guest, make)?,
            dimension,
        )
    }

    /// Finds the faces in an encoded image.
    ///
    /// # Errors
    ///
    /// [`RunError`]; after any but [`RunError::Undecodable`] and [`RunError::TooLarge`] the run is
    /// of no further use.
    pub fn analyze(&mut self, image: &[u8], purpose: Purpose) -> Result<Analysis, RunError> {
        let plugin = self.revision.vision();
        let guest = match &mut self.vision {
            Some(guest) => guest,
            empty => {
                let plugin = if self.is_hurried {
                    plugin
                } else {
                    &plugin.without_time_limit()
                };
                let given = given(
                    &self.revision,
                    Half::Vision,
                    self.revision.settings(),
                    self.review,
                );
                empty.insert(start(
                    plugin,
                    Half::Vision,
                    given,
                    self.revision.models(),
                    &self.scope,
                )?)
            }
        };
        let vision = vision_of(plugin, guest)?;
        self.raw.clear();
        guest
            .store
            .data_mut()
            .report_mut()
            .begin(purpose == Purpose::Enroll);
        let look = |guest: &mut Guest| {
            vision
                .rostro_pipeline_vision()
                .call_analyze(&mut guest.store, image, purpose)
        };
        let answer = call(plugin, Half::Vision, guest, look)?;
        let state = guest.store.data_mut();
        self.stages.append(&mut state.take_stages());
        note(&mut self.warnings, state.report_mut().take_warnings());
        match answer {
            Ok(analysis) if analysis.faces.len() > plugin.limits().faces() => Err(
                LimitReached::returned("faces", plugin.limits().faces(), analysis.faces.len())
                    .into(),
            ),
            Ok(analysis) => {
                let dimension = self.revision.contract().dimension;
                let analysis = validate::analysis(analysis, dimension, purpose)?;
                self.raw = validate::raw_samples(
                    guest.store.data_mut().report_mut().take_raw(),
                    analysis.faces.len(),
                    dimension,
                )?;
                Ok(analysis)
            }
            Err(VisionError::Undecodable(cause)) => Err(RunError::Undecodable(printable(&cause))),
            Err(VisionError::TooLarge(size)) => Err(RunError::TooLarge {
                width: size.width,
                height: size.height,
                max_pixels: size.max_pixels,
            }),
            // What a model said of its failure is not passed on to the guest.
            Err(VisionError::Model(_)) if guest.store.data().is_expired() => {
                Err(guest.store.data().stopped())
            }
            Err(VisionError::Model(cause)) => {
                let state = guest.store.data();
                Err(match (state.report().refused(), state.take_failure()) {
                    (Some(refused), _) => refused.clone().into(),
                    (None, Some(failure)) => {
                        RunError::Model(format!("{}: {failure}", printable(&cause)))
                    }
                    (None, None) => RunError::Model(printable(&cause)),
                })
            }
        }
    }

    /// Chooses the face of an enrolment photo; `analysis` is what vision said of it.
    ///
    /// # Errors
    ///
    /// If the policy fails or answers wrongly.
    pub fn review(&mut self, analysis: &Analysis) -> Result<ReviewOutcome, RunError> {
        let faces: Vec<Face> = analysis
            .faces
            .iter()
            .map(|analyzed| analyzed.face.clone())
            .collect();
        let embedded: Vec<bool> = analysis
            .faces
            .iter()
            .map(|analyzed| !analyzed.embedding.is_empty())
            .collect();
        let outcome = self.policy(|policy, guest| {
            policy
                .rostro_pipeline_policy()
                .call_review(&mut guest.store, &faces)
        })?;
        Ok(validate::review(outcome, &embedded)?)
    }

    /// The vectors that stand for a person with these samples.
    ///
    /// # Errors
    ///
    /// If the policy fails or answers wrongly.
    pub fn template(&mut self, samples: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, RunError> {
        let templates = self.policy(|policy, guest| {
            policy
                .rostro_pipeline_policy()
                .call_template(&mut guest.store, samples)
        })?;
        let (plugin, _) = self.revision.deciding();
        templates_of(plugin, templates, self.revision.contract().dimension)
    }

    /// Decides who each face is.
    ///
    /// # Errors
    ///
    /// If the policy fails or answers wrongly.
    pub fn decide(&mut self, probes: &[Probe]) -> Result<Vec<Decision>, RunError> {
        let decisions = self.policy(|policy, guest| {
            policy
                .rostro_pipeline_policy()
                .call_decide(&mut guest.store, probes)
        })?;
        Ok(validate::decisions(decisions, probes)?)
    }

    /// What the guests said of the time they took, by stage.
    #[must_use]
    pub fn stages(&self) -> &[(String, Duration)] {
        &self.stages
    }

    /// The warnings since the last call, each once.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// The recogniser's raw output for a face of the last analysis, if vision handed it over.
    pub fn take_raw(&mut self, face: u32) -> Option<Vec<f32>> {
        self.raw.remove(&face)
    }

    /// The most that its guests used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let guests = [&self.vision, &self.policy].into_iter().flatten();
        guests
            .map(|guest| guest.store.data().usage())
            .fold(Usage::default(), Usage::most)
    }

    /// Calls the policy: in vision's own instance where one component serves both, else in one of
    /// its own.
    fn policy<T>(
        &mut self,
        work: impl FnOnce(&PolicyHost, &mut Guest) -> wasmtime::Result<T>,
    ) -> Result<T, RunError> {
        let revision = &self.revision;
        let (plugin, slot, settings) = match revision.policy() {
            Some(plugin) => (plugin, &mut self.policy, revision.policy_settings()),
            None => (revision.vision(), &mut self.vision, revision.settings()),
        };
        let guest = match slot {
            Some(guest) => guest,
            // Policies get no models.
            empty => {
                let plugin = if self.is_hurried {
                    plugin
                } else {
                    &plugin.without_time_limit()
                };
                let given = given(revision, Half::Policy, settings, self.review);
                empty.insert(start(
                    plugin,
                    Half::Policy,
                    given,
                    &Models::default(),
                    &self.scope,
                )?)
            }
        };
        let policy = policy_of(plugin, guest)?;
        guest.store.data_mut().report_mut().begin(false);
        let answer = call(plugin, Half::Policy, guest, |guest| work(&policy, guest))?;
        note(
            &mut self.warnings,
            guest.store.data_mut().report_mut().take_warnings(),
        );
        Ok(answer)
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("revision", &self.revision.digest())
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// What a guest of a revision can read; its log lines name the revision and the half.
fn given(revision: &Revision, half: Half, settings: &Arc<Settings>, review: Review) -> GuestInputs {
    let span = tracing::info_span!(target: "rostro::guest", "guest", revision = revision.digest().short(), half = half.name());
    GuestInputs {
        settings: Arc::clone(settings),
        review,
        span,
    }
}

/// A guest without models that is not held to a time of its own.
fn alone(
    plugin: &CompiledComponent,
    half: Half,
    settings: &Arc<Settings>,
    scope: &CancelScope,
) -> Result<Guest, RunError> {
    let span = tracing::info_span!(target: "rostro::guest", "guest", component = plugin.digest().short(), half = half.name());
    start(
        &plugin.without_time_limit(),
        half,
        GuestInputs {
            settings: Arc::clone(settings),
            review: Review::default(),
            span,
        },
        &Models::default(),
        scope,
    )
}

fn start(
    plugin: &CompiledComponent,
    half: Half,
    given: GuestInputs,
    models: &Models,
    scope: &CancelScope,
) -> Result<Guest, RunError> {
    let begun = Instant::now();
    let is_own = plugin.limits().end(scope.deadline()) < scope.deadline();
    let span = given.span.clone();
    span.in_scope(|| plugin.instantiate(half, given, models, scope))
        .map_err(|error| match is_interrupted(&error) {
            true if scope.is_cancelled() => RunError::Cancelled,
            true if is_own => LimitReached::time(plugin.limits()).into(),
            true => RunError::Deadline {
                had: scope.deadline().saturating_duration_since(begun),
            },
            false => limit_hidden(&error, plugin.limits())
                .map_or_else(|| classify(&error, String::new()), RunError::Limit),
        })
}

/// Calls a guest on that half's account.
fn call<T>(
    plugin: &CompiledComponent,
    half: Half,
    guest: &mut Guest,
    work: impl FnOnce(&mut Guest) -> wasmtime::Result<T>,
) -> Result<T, RunError> {
    let span = guest.store.data().span().clone();
    span.in_scope(|| plugin.call(half, guest, work))
        .map_err(|error| failure(guest, &error))
}

/// What a guest says of itself, unless it refused a setting meanwhile.
fn accepted<T>(guest: &Guest, described: T) -> Result<T, RunError> {
    match guest.store.data().report().refused() {
        Some(refused) => Err(refused.clone().into()),
        None => Ok(described),
    }
}

/// Adds warnings that are not there yet.
pub fn note(warnings: &mut Vec<Warning>, more: Vec<Warning>) {
    for warning in more {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

/// What is said of a refused setting: the guest's sentence, and the key unless the sentence names
/// it.
fn refusal(key: &str, message: &str) -> String {
    if message.contains(key) {
        format!("a setting is refused: {message}")
    } else {
        format!("the setting {key} is refused: {message}")
    }
}

impl From<RefusedSetting> for RunError {
    fn from(RefusedSetting { key, message }: RefusedSetting) -> Self {
        Self::Setting { key, message }
    }
}

fn templates_of(
    plugin: &CompiledComponent,
    templates: Vec<Vec<f32>>,
    dimension: usize,
) -> Result<Vec<Vec<f32>>, RunError> {
    let most = plugin.limits().templates();
    if templates.len() > most {
        return Err(LimitReached::returned("templates", most, templates.len()).into());
    }
    Ok(validate::templates(templates, dimension)?)
}

fn vision_of(plugin: &CompiledComponent, guest: &mut Guest) -> Result<VisionHost, RunError> {
    let indices = plugin.vision().ok_or_else(|| missing("vision"))?;
    indices
        .load(&mut guest.store, &guest.instance)
        .map_err(|error| failure(guest, &error))
}

fn policy_of(plugin: &CompiledComponent, guest: &mut Guest) -> Result<PolicyHost, RunError> {
    let indices = plugin.policy().ok_or_else(|| missing("policy"))?;
    indices
        .load(&mut guest.store, &guest.instance)
        .map_err(|error| failure(guest, &error))
}

fn missing(half: &str) -> RunError {
    RunError::Trap {
        cause: format!("the component does not serve {half}"),
        stderr: String::new(),
    }
}

fn failure(guest: &Guest, error: &wasmtime::Error) -> RunError {
    let state = guest.store.data();
    // Whatever else it was: its models failed at the moment that nobody waited any more, and what
    // it made of that is no fault of its own.
    if state.is_cancelled() {
        return RunError::Cancelled;
    }
    match limit_hidden(error, state.limits()) {
        Some(limit) => RunError::Limit(limit),
        None if is_interrupted(error) => state.stopped(),
        None => match (
            classify(error, printable(&state.said())),
            state.report().refused(),
        ) {
            (RunError::Trap { .. }, Some(refused)) => refused.clone().into(),
            (failure, _) => failure,
        },
    }
}

/// The limit behind an error of Wasmtime's own that does not name it. Its type for the first is
/// private.
fn limit_hidden(error: &wasmtime::Error, limits: &Limits) -> Option<LimitReached> {
    let cause = error.root_cause().to_string();
    if let Some((_, scope)) = cause.split_once("instance count too high at ") {
        let scope: usize = scope.parse().unwrap_or_default();
        return Some(LimitReached::wanted(
            "instances",
            limits.instances(),
            scope.saturating_sub(1),
            scope,
        ));
    }
    if cause.contains("fuel allocated for hostcalls has been exhausted") {
        let asked = "one call or answer has more bytes".to_owned();
        return Some(LimitReached {
            name: "transfer-mib",
            limit: limits.transfer_bytes() >> 20,
            asked,
        });
    }
    // Resources of the component's own, which are in Wasmtime's table and not in the host's.
    if cause.contains("handle limit exceeded") {
        return Some(LimitReached::wanted(
            "handles",
            limits.handles(),
            limits.handles(),
            limits.handles() + 1,
        ));
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return Some(LimitReached::wanted(
            "handles",
            limits.handles(),
            limits.handles(),
            limits.handles() + 1,
        ));
    }
    None
}

fn is_interrupted(error: &wasmtime::Error) -> bool {
    error.downcast_ref::<Trap>() == Some(&Trap::Interrupt)
}

fn classify(error: &wasmtime::Error, stderr: String) -> RunError {
    if let Some(limit) = error.downcast_ref::<LimitReached>() {
        return RunError::Limit(limit.clone());
    }
    if let Some(crowded) = error.downcast_ref::<OutOfCapacity>() {
        return RunError::OutOfCapacity(crowded.clone());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return RunError::OutOfCapacity(OutOfCapacity::Instances);
    }
    if let Some(I32Exit(status)) = error.downcast_ref::<I32Exit>() {
        return RunError::Trap {
            cause: format!("it exited with status {status}"),
            stderr,
        };
    }
    let functions = printable(&wasm_frames::functions(error));
    let cause = error.root_cause().to_string();
    RunError::Trap {
        cause: if functions.is_empty() {
            cause
        } else {
            format!("{cause} (in {functions})")
        },
        stderr,
    }
}

/// A guest's words on one line and within bounds.
fn printable(text: &str) -> String {
    sanitize(&text.chars().take(500).collect::<String>())
}
