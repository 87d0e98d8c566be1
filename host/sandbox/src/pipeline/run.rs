//! Run: the work of one request on one revision, in fresh instances and with validated answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rostro_common::cancel::CancelScope;
use rostro_inference::Models;
use rostro_inference::precision::{Precision, PrecisionGrant};

use super::call::{bounded_text, check_templates, start};
use super::functions;
use super::revision::Revision;
use crate::bindings::{
    Face, GuestContext, Probe, Purpose, RawAnalysis, ReviewOutcome, VisionError,
};
use crate::component::{CompiledComponent, Function};
use crate::error::RunError;
use crate::guest::Guest;
use crate::guest::report::{RawSamples, Warning};
use crate::guest::state::GuestInputs;
use crate::half::Half;
use crate::limits::{LimitReached, Usage};
use crate::review::Review;
use crate::settings::Settings;
use crate::stream::StreamMemory;
use crate::types::{Analysis, Decisions};
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
    context: GuestContext,
    choices: BTreeMap<String, String>,
    /// Memory of the stream that the frame belongs to.
    stream: Option<StreamMemory>,
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
            context: GuestContext {
                stream: None,
                group: None,
                time: now_ms(),
                context: String::new(),
            },
            choices: BTreeMap::new(),
            stream: None,
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

    /// Sets what the guests are told about the request.
    pub fn with_context(self, context: GuestContext) -> Self {
        Self { context, ..self }
    }

    /// Sets the values of settings that the request chooses. [`Revision::check_choice`] validates
    /// them.
    pub fn with_choices(self, choices: BTreeMap<String, String>) -> Self {
        Self { choices, ..self }
    }

    /// Makes the image a frame of a stream with this memory, unless the limit `state-kib` forbids
    /// it.
    pub fn with_stream(self, memory: StreamMemory) -> Self {
        // A revision of the same kind may have had a looser limit.
        let limit = self.revision.vision.limits().state_bytes();
        let stream = (limit > 0).then(|| memory.with_states_within(limit));
        Self { stream, ..self }
    }

    /// Takes the memory of the stream after the frame.
    pub fn take_stream(&mut self) -> Option<StreamMemory> {
        self.stream.take()
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
                    choices: self.revision.choices(Function::Vision, &self.choices),
                    ..guest_inputs(&self.revision, Half::Vision, settings, self.review)
                };
                let models = &self.revision.models;
                empty.insert(start(component, Half::Vision, inputs, models, &self.scope)?)
            }
        };
        self.raw.clear();
        guest
            .store
            .data_mut()
            .report_mut()
            .begin(purpose == Purpose::Enroll);
        let state = self.stream.as_ref().map(|stream| stream.vision.as_slice());
        let context = &self.context;
        let answer = functions::analyze(component, guest, image, purpose, context, state)?;
        let state = guest.store.data_mut();
        self.stages.append(&mut state.take_stages());
        add_new_warnings(&mut self.warnings, state.report_mut().take_warnings());
        let raw = answer.map_err(|error| vision_failure(guest, error))?;
        let dimension = self.revision.contract.dimension;
        let (analysis, state) =
            check_analysis(component, raw, dimension, purpose, self.stream.as_ref())?;
        self.raw = validate::raw_samples(
            guest.store.data_mut().report_mut().take_raw(),
            analysis.faces.len(),
            dimension,
        )?;
        if let Some(stream) = &mut self.stream
            && purpose == Purpose::Recognize
        {
            if let Some(state) = state {
                stream.vision = state;
            }
            stream.record(
                analysis
                    .faces
                    .iter()
                    .filter_map(|face| Some((face.track?, face.embedding.as_slice()))),
            );
        }
        Ok(analysis)
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
        let context = self.context.clone();
        let outcome = self.call_rule(Function::Review, |component, guest| {
            functions::review(component, guest, &faces, &context)
        })?;
        Ok(validate::review(outcome, &embedded)?)
    }

    /// Makes the templates of a person with these samples.
    ///
    /// # Errors
    ///
    /// If the policy fails or its answer is invalid.
    pub fn template(&mut self, samples: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, RunError> {
        let function = Function::Template;
        let templates = self.call_rule(function, |component, guest| {
            functions::template(component, guest, samples)
        })?;
        let (component, _) = self.revision.component(function);
        check_templates(component, templates, self.revision.contract.dimension)
    }

    /// Decides on the identity of each face.
    ///
    /// # Errors
    ///
    /// If the policy fails or its answer is invalid.
    pub fn decide(&mut self, probes: &[Probe]) -> Result<Decisions, RunError> {
        let function = Function::Decide;
        let context = self.context.clone();
        let state = self.stream.as_ref().map(|stream| stream.policy.clone());
        let mut outcome = self.call_rule(function, |component, guest| {
            functions::decide(component, guest, probes, &context, state.as_deref())
        })?;
        let state = outcome.state.take();
        let decisions = validate::decisions(outcome, probes)?;
        let (component, _) = self.revision.component(function);
        check_state(component, state.as_deref())?;
        if let (Some(stream), Some(state)) = (&mut self.stream, state) {
            stream.policy = state;
        }
        Ok(decisions)
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

    /// Calls a rule in the instance of the policy component, or in that of vision if the policy
    /// component lacks it.
    fn call_rule<T>(
        &mut self,
        function: Function,
        work: impl FnOnce(&CompiledComponent, &mut Guest) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let revision = &self.revision;
        let (component, settings) = revision.component(function);
        let slot = match revision.is_separate(function) {
            true => &mut self.policy,
            false => &mut self.vision,
        };
        let guest = match slot {
            Some(guest) => guest,
            // Rules get no models.
            empty => {
                let component = if self.has_time_limit {
                    component
                } else {
                    &component.without_time_limit()
                };
                let inputs = GuestInputs {
                    choices: revision.choices(function, &self.choices),
                    ..guest_inputs(revision, Half::Policy, settings, self.review)
                };
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
        guest.store.data_mut().report_mut().begin(false);
        let answer = work(component, guest)?;
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
        choices: BTreeMap::new(),
        span,
    }
}

/// Validates an analysis, also against the component's limits. Returns it and the new state of the
/// stream.
fn check_analysis(
    component: &CompiledComponent,
    mut raw: RawAnalysis,
    dimension: usize,
    purpose: Purpose,
    stream: Option<&StreamMemory>,
) -> Result<(Analysis, Option<Vec<u8>>), RunError> {
    let (limit, faces) = (component.limits().faces(), raw.faces.len());
    if faces > limit {
        return Err(LimitReached::returned("faces", limit, faces).into());
    }
    let state = raw.state.take();
    check_state(component, state.as_deref())?;
    Ok((validate::analysis(raw, dimension, purpose, stream)?, state))
}

/// Fails if the state of a stream is larger than the component's limit.
fn check_state(component: &CompiledComponent, state: Option<&[u8]>) -> Result<(), LimitReached> {
    let (limit, size) = (
        component.limits().state_bytes(),
        state.map_or(0, <[u8]>::len),
    );
    if size > limit {
        let kib = size.div_ceil(1 << 10);
        return Err(LimitReached::returned("state-kib", limit >> 10, kib));
    }
    Ok(())
}

/// Returns the time in milliseconds since 1970-01-01 UTC.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
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
