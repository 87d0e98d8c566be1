//! Calls of guests: instances, and the classification of failures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use rostro_common::cancel::CancelScope;
use rostro_common::text::sanitize;
use rostro_inference::Models;
use rostro_inference::precision::PrecisionGrant;

use crate::component::{CompiledComponent, Function};
use crate::error::{RunError, TrapKind};
use crate::guest::Guest;
use crate::guest::linker::WaitRefused;
use crate::guest::state::GuestInputs;
use crate::half::Half;
use crate::limits::{LimitReached, OutOfCapacity};
use crate::review::Review;
use crate::settings::Settings;
use crate::validate;
use crate::wasmtime_errors::{function_names, run_limit};

/// Starts a guest.
pub(super) fn start(
    component: &CompiledComponent,
    half: Half,
    inputs: GuestInputs,
    models: &Models,
    scope: &CancelScope,
) -> Result<Guest, RunError> {
    let started = Instant::now();
    let has_own_deadline = component.limits().end(scope.deadline()) < scope.deadline();
    let span = inputs.span.clone();
    span.in_scope(|| component.instantiate(half, inputs, models, scope))
        .map_err(|error| match is_interrupted(&error) {
            true if scope.is_cancelled() => RunError::Cancelled,
            true if has_own_deadline => LimitReached::time(component.limits()).into(),
            true => RunError::Deadline {
                had: scope.deadline().saturating_duration_since(started),
            },
            false => run_limit(&error, component.limits())
                .map_or_else(|| classify(&error, String::new()), RunError::Limit),
        })
}

/// Starts a guest without models and without a time limit of its own.
pub(super) fn start_without_models(
    component: &CompiledComponent,
    half: Half,
    settings: &Arc<Settings>,
    scope: &CancelScope,
) -> Result<Guest, RunError> {
    let span = tracing::info_span!(
        target: "rostro::guest",
        "guest",
        component = component.digest().short(),
        half = half.name()
    );
    let inputs = GuestInputs {
        settings: Arc::clone(settings),
        review: Review::default(),
        precision: PrecisionGrant::default(),
        choices: BTreeMap::new(),
        span,
    };
    start(
        &component.without_time_limit(),
        half,
        inputs,
        &Models::default(),
        scope,
    )
}

/// Calls a function of a guest, and counts its CPU time for a half.
pub(super) fn call<T>(
    component: &CompiledComponent,
    half: Half,
    guest: &mut Guest,
    work: impl FnOnce(&mut Guest) -> wasmtime::Result<T>,
) -> Result<T, RunError> {
    let span = guest.store.data().span().clone();
    span.in_scope(|| component.call(half, guest, work))
        .map_err(|error| failure(guest, &error))
}

/// Validates templates, also against the component's limit.
pub(super) fn check_templates(
    component: &CompiledComponent,
    templates: Vec<Vec<f32>>,
    dimension: usize,
) -> Result<Vec<Vec<f32>>, RunError> {
    let limit = component.limits().templates();
    if templates.len() > limit {
        return Err(LimitReached::returned("templates", limit, templates.len()).into());
    }
    Ok(validate::templates(templates, dimension)?)
}

/// Returns a guest's text on one line, within bounds.
pub(super) fn bounded_text(text: &str) -> String {
    sanitize(&text.chars().take(500).collect::<String>())
}

/// Returns the error of a call of a function that the component lacks, which staging refuses.
pub(super) fn missing(function: Function) -> RunError {
    RunError::Trap {
        kind: TrapKind::Other,
        cause: format!("the component does not export {}", function.name()),
        stderr: String::new(),
    }
}

/// Classifies the error of a call.
fn failure(guest: &Guest, error: &wasmtime::Error) -> RunError {
    let state = guest.store.data();
    // A cancellation makes models fail, so the guest's reaction to that is not its own failure.
    if state.is_cancelled() {
        return RunError::Cancelled;
    }
    if let Some(limit) = run_limit(error, state.limits()) {
        return RunError::Limit(limit);
    }
    if is_interrupted(error) {
        return state.stop_error();
    }
    let classified = classify(error, bounded_text(&state.failure_text()));
    match (classified, state.report().refused()) {
        (RunError::Trap { .. }, Some(refused)) => refused.clone().into(),
        (classified, _) => classified,
    }
}

fn is_interrupted(error: &wasmtime::Error) -> bool {
    error.downcast_ref::<Trap>() == Some(&Trap::Interrupt)
}

fn classify(error: &wasmtime::Error, stderr: String) -> RunError {
    if let Some(limit) = error.downcast_ref::<LimitReached>() {
        return RunError::Limit(limit.clone());
    }
    if let Some(out_of_capacity) = error.downcast_ref::<OutOfCapacity>() {
        return RunError::OutOfCapacity(out_of_capacity.clone());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return RunError::OutOfCapacity(OutOfCapacity::Instances);
    }
    if let Some(I32Exit(status)) = error.downcast_ref::<I32Exit>() {
        return RunError::Trap {
            kind: TrapKind::Exit,
            cause: format!("it exited with status {status}"),
            stderr,
        };
    }
    let kind = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => TrapKind::Unreachable,
        Some(Trap::StackOverflow) => TrapKind::StackOverflow,
        _ if error.is::<WaitRefused>() => TrapKind::Wait,
        _ => TrapKind::Other,
    };
    let functions = bounded_text(&function_names(error));
    let cause = error.root_cause().to_string();
    RunError::Trap {
        kind,
        cause: if functions.is_empty() {
            cause
        } else {
            format!("{cause} (in {functions})")
        },
        stderr,
    }
}
