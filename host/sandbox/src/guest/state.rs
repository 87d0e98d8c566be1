//! Data of a guest's store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Span;
use wasmtime::ResourceLimiter;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_nn::wit::WasiNnCtx;

use rostro_common::cancel::CancelScope;
use rostro_inference::model_time::ModelTime;
use rostro_inference::precision::PrecisionGrant;
use rostro_inference::{LastFailure, Models, Tensor};

use crate::bindings::ReviewLevel;
use crate::engine::TICK;
use crate::error::RunError;
use crate::guest::report::{GuestReport, LogLevel};
use crate::limits::{GuestMeter, LimitReached, Limiter, Limits, Usage};
use crate::review::Review;
use crate::settings::Settings;
use crate::validate::identifiers::is_name;

/// Stages that are kept of a request, because a guest could invent any number.
const STAGES: usize = 16;

/// Longest name of a stage in bytes.
const STAGE_NAME: usize = 32;

/// Lines of standard error that are logged, and their longest length in characters.
const STDERR_LINES: usize = 50;
const STDERR_LINE: usize = 500;

/// Overhead of a log line in bytes: the time, the level and the request.
const LOG_LINE: usize = 128;

/// Input that a guest can read.
pub(crate) struct GuestInputs {
    /// Settings of the revision.
    pub settings: Arc<Settings>,
    /// Strictness of the review of photos.
    pub review: Review,
    /// Precision of its models.
    pub precision: PrecisionGrant,
    /// Values of settings that the request chooses, by name.
    pub choices: BTreeMap<String, String>,
    /// Span of the guest's log lines.
    pub span: Span,
}

impl Default for GuestInputs {
    fn default() -> Self {
        Self {
            settings: Arc::default(),
            review: Review::default(),
            precision: PrecisionGrant::default(),
            choices: BTreeMap::new(),
            span: Span::none(),
        }
    }
}

/// Data of a guest's store.
pub(crate) struct GuestState {
    wasi: WasiCtx,
    nn: WasiNnCtx,
    /// Error of the last failed model.
    failure: LastFailure,
    model_time: ModelTime,
    table: ResourceTable,
    limiter: Limiter,
    settings: Arc<Settings>,
    choices: BTreeMap<String, String>,
    review: Review,
    span: Span,
    stderr: MemoryOutputPipe,
    log_bytes_left: usize,
    stages: Vec<(String, Duration)>,
    report: GuestReport,
    started: Instant,
    /// Scope of the request.
    request: CancelScope,
    /// Scope of the guest, which ends no later than the request's.
    scope: CancelScope,
}

impl GuestState {
    pub(crate) fn new(
        limits: &Limits,
        meter: GuestMeter,
        inputs: GuestInputs,
        models: &Models,
        request: &CancelScope,
        end: Instant,
    ) -> Self {
        let GuestInputs {
            settings,
            review,
            precision,
            choices,
            span,
        } = inputs;
        let scope = request.with_deadline(end);
        let (failure, model_time) = (LastFailure::default(), ModelTime::default());
        let stderr = MemoryOutputPipe::new(limits.log_bytes());
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles());
        Self {
            // Standard input is empty, standard output is discarded, and there are no files,
            // arguments, variables or sockets.
            wasi: WasiCtx::builder().stderr(stderr.clone()).build(),
            nn: models.context(&failure, &model_time, &scope, &precision),
            failure,
            model_time,
            table,
            limiter: Limiter::new(limits, meter),
            settings,
            choices,
            review,
            span,
            stderr,
            log_bytes_left: limits.log_bytes(),
            stages: Vec::new(),
            report: GuestReport::default(),
            started: Instant::now(),
            request: request.clone(),
            scope,
        }
    }

    /// Returns the limits of the guest.
    pub(crate) fn limits(&self) -> &Limits {
        self.limiter.limits()
    }

    /// Returns the highest usage so far.
    pub(crate) fn usage(&self) -> Usage {
        let log_bytes = self.limits().log_bytes() - self.log_bytes_left;
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Usage {
            log_bytes,
            milliseconds,
            ..self.limiter.peak()
        }
    }

    /// Returns the CPU time of its models.
    pub(crate) fn model_time(&self) -> ModelTime {
        self.model_time.clone()
    }

    /// Returns true after the guest's deadline or a cancellation.
    pub(crate) fn is_expired(&self) -> bool {
        self.scope.is_expired()
    }

    /// Returns true if the epoch must stop the guest. A tick passes after the deadline first, so
    /// that the host call in progress reports the deadline.
    pub(crate) fn is_overdue(&self) -> bool {
        self.scope.is_cancelled() || Instant::now() >= self.scope.deadline() + TICK
    }

    /// Returns true after a cancellation.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.scope.is_cancelled()
    }

    /// Returns the error of a stopped guest: a cancellation, its own time limit, or the request's
    /// deadline.
    pub(crate) fn stop_error(&self) -> RunError {
        match self.scope.deadline() < self.request.deadline() {
            _ if self.scope.is_cancelled() => RunError::Cancelled,
            true => RunError::Limit(LimitReached::time(self.limits())),
            false => RunError::Deadline {
                had: self
                    .request
                    .deadline()
                    .saturating_duration_since(self.started),
            },
        }
    }

    /// Adds a tensor that the host holds for the guest.
    ///
    /// # Errors
    ///
    /// If the guest has too many tensors or handles, or too little memory for it.
    pub(crate) fn push_tensor(&mut self, tensor: Tensor) -> wasmtime::Result<Resource<Tensor>> {
        let tensor = self.table.push(tensor)?;
        self.count_tensors()?;
        Ok(tensor)
    }

    /// Returns the resources and the context of `wasi:nn`.
    pub(crate) fn wasi_nn(&mut self) -> (&mut ResourceTable, &mut WasiNnCtx) {
        (&mut self.table, &mut self.nn)
    }

    /// Updates the tensors that the host holds for the guest, which count as its memory.
    ///
    /// # Errors
    ///
    /// If they are too many or too large.
    fn count_tensors(&mut self) -> wasmtime::Result<()> {
        let tensors = self
            .table
            .iter_mut()
            .filter_map(|entry| entry.downcast_ref::<Tensor>());
        let (count, bytes) = tensors.fold((0, 0), |(count, bytes), tensor| {
            (count + 1, bytes + tensor.data.len())
        });
        self.limiter.set_tensors(count, bytes)
    }

    /// Returns the text on standard error. A Rust guest writes its panic message there.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.contents())
            .trim()
            .to_owned()
    }

    /// Returns the guest's description of its failure: standard error, or the last warning in the
    /// log, where Python and JavaScript guests report errors.
    pub(crate) fn failure_text(&self) -> String {
        let stderr = self.stderr();
        if stderr.is_empty() {
            self.report.last_warning().to_owned()
        } else {
            stderr
        }
    }

    /// Returns the span of the guest's log lines.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Takes the error of a model that failed since the last call.
    pub(crate) fn take_model_failure(&self) -> Option<String> {
        self.failure.take()
    }

    /// Returns the reports of the guest.
    pub(crate) fn report(&self) -> &GuestReport {
        &self.report
    }

    /// Returns the reports of the guest, to begin a call or to take its reports.
    pub(crate) fn report_mut(&mut self) -> &mut GuestReport {
        &mut self.report
    }

    /// Returns the settings that the guest can read.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the strictness of the review of photos.
    pub(super) fn review_level(&self) -> ReviewLevel {
        self.review.level()
    }

    /// Returns the value of a setting, and records that the guest asked for it.
    pub(super) fn setting(&mut self, key: &str) -> Option<String> {
        self.report.add_requested(key);
        let chosen = self.choices.get(key);
        chosen.or_else(|| self.settings.own.get(key)).cloned()
    }

    /// Adds time to a stage of the request.
    pub(super) fn add_stage(&mut self, name: String, time: Duration) {
        if let Some((_, total)) = self.stages.iter_mut().find(|(known, _)| *known == name) {
            *total = total.saturating_add(time);
        } else if self.stages.len() < STAGES && name.len() <= STAGE_NAME && is_name(&name) {
            self.stages.push((name, time));
        }
    }

    /// Writes a line to the host's log, within the guest's limit.
    pub(super) fn log_line(&mut self, level: LogLevel, message: &str) {
        if level == LogLevel::Warn {
            self.report.set_last_warning(message);
        }
        // Escaping only makes it longer.
        if message.len() > self.log_bytes_left {
            return;
        }
        // Escaped, so that a guest cannot forge lines of its own.
        let message = message.escape_debug().to_string();
        let Some(remaining) = self
            .log_bytes_left
            .checked_sub(message.len().saturating_add(LOG_LINE))
        else {
            return;
        };
        self.log_bytes_left = remaining;
        match level {
            LogLevel::Debug => tracing::debug!(target: "rostro::guest", "guest: {message}"),
            LogLevel::Info => tracing::info!(target: "rostro::guest", "guest: {message}"),
            LogLevel::Warn => tracing::warn!(target: "rostro::guest", "guest: {message}"),
        }
    }

    /// Takes the stages that the guest reported since the last call, in the order of first mention.
    /// Each name occurs once.
    pub(crate) fn take_stages(&mut self) -> Vec<(String, Duration)> {
        std::mem::take(&mut self.stages)
    }
}

impl Drop for GuestState {
    /// Logs standard error at the level `debug`, which `rostro pipeline check` and `try` show to
    /// authors.
    fn drop(&mut self) {
        if tracing::enabled!(target: "rostro::guest", tracing::Level::DEBUG) {
            for line in self.stderr().lines().take(STDERR_LINES) {
                let line: String = line.chars().take(STDERR_LINE).collect();
                tracing::debug!(
                    target: "rostro::guest",
                    parent: &self.span,
                    "guest wrote: {}",
                    line.escape_debug()
                );
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
