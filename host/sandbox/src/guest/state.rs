//! What the host keeps for one guest while it runs: the data of its store, and the host's half of
//! `settings`, `telemetry` and `samples`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Span;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{ResourceLimiter, StoreContextMut};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::sync as wasi_sync;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_nn::wit::{WasiNnCtx, WasiNnView};

use rostro_common::cancel::CancelScope;
use rostro_inference::model_time::ModelTime;
use rostro_inference::{LastFailure, Models, Tensor, TensorType};

use crate::bindings::vision::rostro::pipeline::{samples, settings, telemetry};
use crate::engine::TICK;
use crate::guest::report::GuestReport;
use crate::limits::{GuestMeter, LimitReached, Limiter, Limits, Usage};
use crate::pipeline::run::RunError;
use crate::review::Review;
use crate::settings::Settings;

/// Names of stages that are kept of a request; a guest that invents more is not worth the memory.
const STAGES: usize = 16;

/// Longest name of a stage in bytes.
const STAGE_NAME: usize = 32;

/// Lines that are shown of what a guest wrote to standard error, and the longest, in characters.
const STDERR_LINES: usize = 50;
const STDERR_LINE: usize = 500;

/// What a line of the log costs beside its words, in bytes: the time, the level and the request.
const LOG_LINE: usize = 128;

/// What a guest can read.
pub(crate) struct GuestInputs {
    /// The same for every request of a revision.
    pub settings: Arc<Settings>,
    /// How strictly it is to judge photos.
    pub review: Review,
    /// Names the guest in the log, around its lines.
    pub span: Span,
}

impl Default for GuestInputs {
    fn default() -> Self {
        Self {
            settings: Arc::default(),
            review: Review::default(),
            span: Span::none(),
        }
    }
}

/// The data of a guest's store.
pub(crate) struct GuestState {
    wasi: WasiCtx,
    nn: WasiNnCtx,
    /// What a model said that failed.
    failure: LastFailure,
    model_time: ModelTime,
    table: ResourceTable,
    limiter: Limiter,
    settings: Arc<Settings>,
    review: Review,
    span: Span,
    stderr: MemoryOutputPipe,
    log_bytes_left: usize,
    stages: Vec<(String, Duration)>,
    report: GuestReport,
    begun: Instant,
    /// For how long the request is scope, and the guest: no longer.
    request: CancelScope,
    scope: CancelScope,
}

impl GuestState {
    pub(crate) fn new(
        limits: &Limits,
        meter: GuestMeter,
        given: GuestInputs,
        models: &Models,
        request: &CancelScope,
        end: Instant,
    ) -> Self {
        let GuestInputs {
            settings,
            review,
            span,
        } = given;
        let scope = request.with_deadline(end);
        let (failure, model_time) = (LastFailure::default(), ModelTime::default());
        let stderr = MemoryOutputPipe::new(limits.log_bytes());
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles());
        Self {
            // Standard input is empty, standard output goes nowhere, and there are no files,
            // arguments, variables or sockets.
            wasi: WasiCtx::builder().stderr(stderr.clone()).build(),
            nn: models.context(&failure, &model_time, &scope),
            failure,
            model_time,
            table,
            limiter: Limiter::new(limits, meter),
            settings,
            review,
            span,
            stderr,
            log_bytes_left: limits.log_bytes(),
            stages: Vec::new(),
            report: GuestReport::default(),
            begun: Instant::now(),
            request: request.clone(),
            scope,
        }
    }

    /// The limits that the guest is held to.
    pub(crate) fn limits(&self) -> &Limits {
        self.limiter.limits()
    }

    /// The most that the guest used so far.
    pub(crate) fn usage(&self) -> Usage {
        let log_bytes = self.limits().log_bytes() - self.log_bytes_left;
        let milliseconds = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Usage {
            log_bytes,
            milliseconds,
            ..self.limiter.most()
        }
    }

    /// What its models take of its thread's time.
    pub(crate) fn model_time(&self) -> ModelTime {
        self.model_time.clone()
    }

    /// Whether the guest's time is up, or nobody waits for it any more.
    pub(crate) fn is_expired(&self) -> bool {
        self.scope.is_expired()
    }

    /// Whether the guest is to be stopped: a tick after its time, so that whoever waits is told of
    /// the deadline by what keeps it.
    pub(crate) fn is_overdue(&self) -> bool {
        self.scope.is_cancelled() || Instant::now() >= self.scope.deadline() + TICK
    }

    /// Whether nobody waits for the guest any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.scope.is_cancelled()
    }

    /// Why a guest was stopped: its time was up, its own or the request's, or nobody waits any
    /// more.
    pub(crate) fn stopped(&self) -> RunError {
        match self.scope.deadline() < self.request.deadline() {
            _ if self.scope.is_cancelled() => RunError::Cancelled,
            true => RunError::Limit(LimitReached::time(self.limits())),
            false => RunError::Deadline {
                had: self
                    .request
                    .deadline()
                    .saturating_duration_since(self.begun),
            },
        }
    }

    /// Counts the tensors that the guest holds, one of which it may just have made: what the host
    /// keeps for it is its memory, too.
    ///
    /// # Errors
    ///
    /// If they are too many, or too large.
    fn count_tensors(&mut self) -> wasmtime::Result<()> {
        let tensors = self
            .table
            .iter_mut()
            .filter_map(|entry| entry.downcast_ref::<Tensor>());
        let (count, bytes) = tensors.fold((0, 0), |(count, bytes), tensor| {
            (count + 1, bytes + tensor.data.len())
        });
        self.limiter.tensors(count, bytes)
    }

    /// What the guest wrote to standard error: of a Rust guest that trapped, its panic message.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.contents())
            .trim()
            .to_owned()
    }

    /// What the guest said of its failure: what it wrote to standard error, or its last warning in
    /// the log, as of Python and JavaScript.
    pub(crate) fn said(&self) -> String {
        let stderr = self.stderr();
        if stderr.is_empty() {
            self.report.last_warning().to_owned()
        } else {
            stderr
        }
    }

    /// Names the guest in the log.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Why a model failed, if one did since the last call.
    pub(crate) fn take_failure(&self) -> Option<String> {
        self.failure.take()
    }

    /// What the guest reported next to its answers.
    pub(crate) fn report(&self) -> &GuestReport {
        &self.report
    }

    /// The same, to begin a call or to take what one left.
    pub(crate) fn report_mut(&mut self) -> &mut GuestReport {
        &mut self.report
    }

    /// The stages that the guest reported since the last call, each name once, in the order of
    /// first mention.
    pub(crate) fn take_stages(&mut self) -> Vec<(String, Duration)> {
        std::mem::take(&mut self.stages)
    }
}

/// Links everything that a guest may import.
///
/// # Errors
///
/// None in practice: names are linked once each.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    settings::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    telemetry::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    samples::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    wasmtime_wasi_nn::wit::add_to_linker(linker, |state: &mut GuestState| {
        WasiNnView::new(&mut state.table, &mut state.nn)
    })?;
    wasmtime_wasi::p2::add_to_linker_with_options_sync(linker, &wasi_sync::LinkOptions::default())?;
    linker.allow_shadowing(true);
    count_tensors(linker)?;
    refuse_waiting(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Makes tensors as `wasmtime-wasi-nn` does, but counts them: it would hold as many as there are
/// handles, each as large as a call.
fn count_tensors(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type Parts = (Vec<u32>, TensorType, Vec<u8>);
    let make = |mut store: StoreContextMut<'_, GuestState>, (dimensions, ty, data): Parts| {
        let state = store.data_mut();
        let tensor = state.table.push(Tensor {
            dimensions,
            ty,
            data,
        })?;
        state.count_tensors()?;
        Ok((tensor,))
    };
    linker
        .instance("wasi:nn/tensor@0.2.0-rc-2024-10-28")?
        .func_wrap("[constructor]tensor", make)
}

/// Makes waiting trap: an epoch interrupts a guest that computes and not one that sleeps in a host
/// call, which would keep its worker past every deadline. There is nothing to wait for here.
fn refuse_waiting(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type Pollables = Vec<Resource<DynPollable>>;
    let refused = || wasmtime::format_err!("it waits or sleeps, which a pipeline cannot");
    let mut poll = linker.instance("wasi:io/poll@0.2.12")?;
    poll.func_wrap("poll", move |_, (_,): (Pollables,)| {
        Err::<(Vec<u32>,), _>(refused())
    })?;
    poll.func_wrap(
        "[method]pollable.block",
        move |_, (_,): (Resource<DynPollable>,)| Err::<(), _>(refused()),
    )
}

impl Drop for GuestState {
    /// Shows what the guest wrote to standard error, where authors look for it: in `rostro pipeline
    /// check` and `try`, and at the level `debug`.
    fn drop(&mut self) {
        if tracing::enabled!(target: "rostro::guest", tracing::Level::DEBUG) {
            for line in self.stderr().lines().take(STDERR_LINES) {
                let line: String = line.chars().take(STDERR_LINE).collect();
                tracing::debug!(target: "rostro::guest", parent: &self.span, "guest wrote: {}", line.escape_debug());
            }
        }
    }
}

impl ResourceLimiter for GuestState {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.count_tensors()?;
        self.limiter.memory_growing(current, desired, maximum)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.limiter.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.limiter.instances()
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl settings::Host for GuestState {
    fn get_thresholds(&mut self) -> settings::Thresholds {
        let thresholds = self.settings.thresholds;
        settings::Thresholds {
            detection: thresholds.detection,
            similarity: thresholds.similarity,
        }
    }

    fn max_pixels(&mut self) -> u64 {
        self.settings.max_pixels
    }

    fn memory_limit(&mut self) -> u64 {
        self.limits().memory_bytes() as u64
    }

    fn get_model(&mut self, role: String) -> Option<settings::Model> {
        self.settings.models.get(&role).cloned()
    }

    fn get_review(&mut self) -> settings::ReviewLevel {
        self.review.level()
    }

    fn get(&mut self, key: String) -> Option<String> {
        self.report.ask(&key);
        self.settings.own.get(&key).cloned()
    }

    fn refused(&mut self, key: String, message: String) {
        self.report.refuse(&key, &message);
    }
}

impl samples::Host for GuestState {
    fn raw(&mut self, face: u32, embedding: Vec<f32>) {
        self.report.sample(face, embedding);
    }
}

impl telemetry::Host for GuestState {
    fn stage(&mut self, name: String, nanoseconds: u64) {
        let time = Duration::from_nanos(nanoseconds);
        if let Some((_, total)) = self.stages.iter_mut().find(|(known, _)| *known == name) {
            *total = total.saturating_add(time);
        } else if self.stages.len() < STAGES
            && name.len() <= STAGE_NAME
            && crate::validate::is_name(&name)
        {
            self.stages.push((name, time));
        }
    }

    fn log(&mut self, level: telemetry::Level, message: String) {
        if matches!(level, telemetry::Level::Warn) {
            self.report.say(&message);
        }
        // Longer before it is escaped than there is room for after it.
        if message.len() > self.log_bytes_left {
            return;
        }
        // Escaped, so that a guest cannot forge lines of its own.
        let message = message.escape_debug().to_string();
        let Some(left) = self
            .log_bytes_left
            .checked_sub(message.len().saturating_add(LOG_LINE))
        else {
            return;
        };
        self.log_bytes_left = left;
        match level {
            telemetry::Level::Debug => tracing::debug!(target: "rostro::guest", "guest: {message}"),
            telemetry::Level::Info => tracing::info!(target: "rostro::guest", "guest: {message}"),
            telemetry::Level::Warn => tracing::warn!(target: "rostro::guest", "guest: {message}"),
        }
    }

    fn warning(&mut self, code: String, message: String) {
        self.report.warn(code, &message);
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::Store;
    use wasmtime::component::Component;

    use super::*;
    use crate::component::Half;
    use crate::engine::Engine;

    /// Sleeps for the nanoseconds that it is given.
    const SLEEPER: &str = r#"
        (component
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $pollable (sub resource)))
                (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
            (alias export $poll "pollable" (type $pollable))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                (alias outer 1 $pollable (type $imported))
                (export "pollable" (type $own (eq $imported)))
                (export "subscribe-duration" (func (param "when" u64) (result (own $own))))))
            (core func $subscribe (canon lower (func $clock "subscribe-duration")))
            (core func $block (canon lower (func $poll "[method]pollable.block")))
            (core module $module
                (import "" "subscribe" (func $subscribe (param i64) (result i32)))
                (import "" "block" (func $block (param i32)))
                (func (export "sleep") (param i64) (call $block (call $subscribe (local.get 0)))))
            (core instance $instance (instantiate $module (with "" (instance
                (export "subscribe" (func $subscribe))
                (export "block" (func $block))))))
            (func (export "sleep") (param "nanoseconds" u64) (canon lift (core func $instance "sleep"))))
    "#;

    #[test]
    fn a_guest_that_sleeps_is_stopped_at_once() {
        let limits = Limits::default();
        let engine = Engine::new(limits.clone(), 1).unwrap();
        let mut linker = Linker::new(engine.wasmtime());
        add_to_linker(&mut linker).unwrap();
        let component =
            Component::new(engine.wasmtime(), wat::parse_str(SLEEPER).unwrap()).unwrap();
        let (meter, now) = (engine.meters().of(Half::Vision).clone(), Instant::now());
        let state = GuestState::new(
            &limits,
            meter,
            GuestInputs::default(),
            &Models::default(),
            &now.into(),
            now,
        );
        let mut store = Store::new(engine.wasmtime(), state);
        store.set_epoch_deadline(1_000_000);
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let sleep = instance
            .get_typed_func::<(u64,), ()>(&mut store, "sleep")
            .unwrap();
        let begun = Instant::now();
        let error = sleep.call(&mut store, (3_600_000_000_000,)).unwrap_err();
        assert!(
            format!("{error:?}").contains("it waits or sleeps"),
            "{error:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
