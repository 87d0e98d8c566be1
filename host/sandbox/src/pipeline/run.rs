//! Run: the work of one request on one revision, in fresh instances and with validated answers.

use std::sync::Arc;
use std::time::Duration;

use rostro_common::cancel::CancelScope;
use rostro_inference::Models;
use rostro_inference::precision::{Precision, PrecisionGrant};

use super::call::{bounded_text, call, check_templates, load_policy, load_vision, start};
use super::revision::Revision;
use crate::bindings::{
    Analysis, Decision, Face, Probe, Purpose, ReviewOutcome, VisionError, policy::PolicyHost,
};
use crate::component::CompiledComponent;
use crate::error::RunError;
use crate::guest::Guest;
use crate::guest::report::{RawSamples, Warning};
use crate::guest::state::GuestInputs;
use crate::half::Half;
use crate::limits::{LimitReached, Usage};
use crate::review::Review;
use crate::settings::Settings;
use crate::validate;

/// Work of one request. Instances are made when first needed, serve this request alone, and are
/// dropped with it.
pub struct Run {
    revision: Arc<Revision>,
    scope: CancelScope,
    /// Whether the time limit of guests applies.
    has_time_limit: bool,
    review: Review,
    precision: PrecisionGrant,
    vision: Option<Guest>,
    policy: Option<Guest>,
    stages: Vec<(String, Duration)>,
    warnings: Vec<Warning>,
    raw: RawSamples,
}

impl Revision {
    /// Begins the work of one request, until the scope ends.
    #[must_use]
    pub fn begin(self: &Arc<Self>, scope: impl Into<CancelScope>) -> Run {
        Run {
            revision: Arc::clone(self),
            scope: scope.into(),
            has_time_limit: true,
            review: Review::default(),
            precision: PrecisionGrant::default(),
            vision: None,
            policy: None,
            stages: Vec::new(),
            warnings: Vec::new(),
            raw: RawSamples::new(),
        }
    }
}

impl Run {
    /// Disables the time limit of guests. For staging, which runs at low priority, so that wall
    /// time is not a fair measure.
    pub fn without_time_limit(self) -> Self {
        Self {
            has_time_limit: false,
            ..self
        }
    }

    /// Sets the strictness of the review of photos.
    pub fn with_review(self, review: Review) -> Self {
        Self { review, ..self }
    }

    /// Permits 8-bit integers where they are faster. Only for frames, because embeddings that are
    /// stored or handed out must not depend on the processor.
    pub fn permitting_int8(self) -> Self {
        Self {
            precision: PrecisionGrant::int8(),
            ..self
        }
    }

    /// Finds the faces in an encoded image.
    ///
    /// # Errors
    ///
    /// [`RunError`]. The run is unusable after any error but [`RunError::Undecodable`] and
    /// [`RunError::TooLarge`].
    pub fn analyze(&mut self, image: &[u8], purpose: Purpose) -> Result<Analysis, RunError> {
        let component = &self.revision.vision;
        let guest = match &mut self.vision {
            Some(guest) => guest,
            empty => {
                let component = if self.has_time_limit {
                    component
                } else {
                    &component.without_time_limit()
                };
                let settings = &self.revision.settings;
                let inputs = GuestInputs {
                    precision: self.precision.clone(),
                    ..guest_inputs(&self.revision, Half::Vision, settings, self.review)
                };
                let models = &self.revision.models;
                empty.insert(start(component, Half::Vision, inputs, models, &self.scope)?)
            }
        };
        let vision = load_vision(component, guest)?;
        self.raw.clear();
        guest
            .store
            .data_mut()
            .report_mut()
            .begin(purpose == Purpose::Enroll);
        let analyze = |guest: &mut Guest| {
            vision
                .rostro_pipeline_vision()
                .call_analyze(&mut guest.store, image, purpose)
        };
        let answer = call(component, Half::Vision, guest, analyze)?;
        let state = guest.store.data_mut();
        self.stages.append(&mut state.take_stages());
        add_new_warnings(&mut self.warnings, state.report_mut().take_warnings());
        match answer {
            Ok(analysis) => {
                let dimension = self.revision.contract.dimension;
                let analysis = check_analysis(component, analysis, dimension, purpose)?;
                self.raw = validate::raw_samples(
                    guest.store.data_mut().report_mut().take_raw(),
                    analysis.faces.len(),
                    dimension,
                )?;
                Ok(analysis)
            }
            Err(error) => Err(vision_failure(guest, error)),
        }
    }

    /// Reviews the faces of an enrolment photo.
    ///
    /// # Errors
    ///
    /// If the policy fails or its answer is invalid.
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
        let outcome = self.call_policy(|policy, guest| {
            policy
                .rostro_pipeline_policy()
                .call_review(&mut guest.store, &faces)
        })?;
        Ok(validate::review(outcome, &embedded)?)
    }

    /// Makes the templates of a person with these samples.
    ///
    /// # Errors
    ///
    /// If the policy fails or its answer is invalid.
    pub fn template(&mut self, samples: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, RunError> {
        let templates = self.call_policy(|policy, guest| {
            policy
                .rostro_pipeline_policy()
                .call_template(&mut guest.store, samples)
        })?;
        let (component, _) = self.revision.policy_component();
        check_templates(component, templates, self.revision.contract.dimension)
    }

    /// Decides on the identity of each face.
    ///
    /// # Errors
    ///
    /// If the policy fails or its answer is invalid.
    pub fn decide(&mut self, probes: &[Probe]) -> Result<Vec<Decision>, RunError> {
        let decisions = self.call_policy(|policy, guest| {
            policy
                .rostro_pipeline_policy()
                .call_decide(&mut guest.store, probes)
        })?;
        Ok(validate::decisions(decisions, probes)?)
    }

    /// Returns the durations of stages that the guests reported.
    #[must_use]
    pub fn stages(&self) -> &[(String, Duration)] {
        &self.stages
    }

    /// Returns the least precision of its models so far.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision.used()
    }

    /// Takes the warnings since the last call. Each occurs once.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// Takes the recogniser's raw output for a face of the last analysis, if vision passed it.
    pub fn take_raw(&mut self, face: u32) -> Option<Vec<f32>> {
        self.raw.remove(&face)
    }

    /// Returns the highest usage of its guests so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let guests = [&self.vision, &self.policy].into_iter().flatten();
        guests
            .map(|guest| guest.store.data().usage())
            .fold(Usage::default(), Usage::max)
    }

    /// Calls the policy in an instance of its own, or in that of vision if one component exports
    /// both.
    fn call_policy<T>(
        &mut self,
        work: impl FnOnce(&PolicyHost, &mut Guest) -> wasmtime::Result<T>,
    ) -> Result<T, RunError> {
        let revision = &self.revision;
        let (component, settings) = revision.policy_component();
        let slot = match revision.policy {
            Some(_) => &mut self.policy,
            None => &mut self.vision,
        };
        let guest = match slot {
            Some(guest) => guest,
            // Policies get no models.
            empty => {
                let component = if self.has_time_limit {
                    component
                } else {
                    &component.without_time_limit()
                };
                let inputs = guest_inputs(revision, Half::Policy, settings, self.review);
                let models = Models::default();
                empty.insert(start(
                    component,
                    Half::Policy,
                    inputs,
                    &models,
                    &self.scope,
                )?)
            }
        };
        let policy = load_policy(component, guest)?;
        guest.store.data_mut().report_mut().begin(false);
        let answer = call(component, Half::Policy, guest, |guest| work(&policy, guest))?;
        add_new_warnings(
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

/// Adds warnings that the list does not contain.
pub fn add_new_warnings(warnings: &mut Vec<Warning>, more: Vec<Warning>) {
    for warning in more {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

/// Returns the input of a guest. Its log lines name the revision and the half.
fn guest_inputs(
    revision: &Revision,
    half: Half,
    settings: &Arc<Settings>,
    review: Review,
) -> GuestInputs {
    let span = tracing::info_span!(
        target: "rostro::guest",
        "guest",
        revision = revision.digest().short(),
        half = half.name()
    );
    GuestInputs {
        settings: Arc::clone(settings),
        review,
        precision: PrecisionGrant::default(),
        span,
    }
}

/// Validates an analysis, also against the component's limit.
fn check_analysis(
    component: &CompiledComponent,
    analysis: Analysis,
    dimension: usize,
    purpose: Purpose,
) -> Result<Analysis, RunError> {
    let (limit, faces) = (component.limits().faces(), analysis.faces.len());
    if faces > limit {
        return Err(LimitReached::returned("faces", limit, faces).into());
    }
    Ok(validate::analysis(analysis, dimension, purpose)?)
}

/// Classifies an error that vision returned.
fn vision_failure(guest: &Guest, error: VisionError) -> RunError {
    let state = guest.store.data();
    match error {
        VisionError::Undecodable(cause) => RunError::Undecodable(bounded_text(&cause)),
        VisionError::TooLarge(size) => RunError::TooLarge {
            width: size.width,
            height: size.height,
            max_pixels: size.max_pixels,
        },
        // The end of the scope makes models fail, and the guest does not see that reason.
        VisionError::Model(_) if state.is_expired() => state.stop_error(),
        VisionError::Model(cause) => {
            let cause = bounded_text(&cause);
            match (state.report().refused(), state.take_model_failure()) {
                (Some(refused), _) => refused.clone().into(),
                (None, Some(failure)) => RunError::Model(format!("{cause}: {failure}")),
                (None, None) => RunError::Model(cause),
            }
        }
    }
}
