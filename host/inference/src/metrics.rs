//! Metrics of models.
//!
//! Labels are the roles of installed packs and the kinds of failures. They are few, and a guest
//! cannot create any. A model keeps its handles, so that a run needs no lookup.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use rostro_common::LATENCY_BUCKETS;
use rostro_common::cancel::CancelScope;

use crate::error::ModelError;

/// Name and value of a label.
type ModelLabel = (&'static str, String);

/// Metrics of all models. Clones share them.
#[derive(Clone, Debug)]
pub struct ModelMeters {
    seconds: Family<[ModelLabel; 1], Histogram, fn() -> Histogram>,
    waits: Family<[ModelLabel; 1], Histogram, fn() -> Histogram>,
    images: Family<[ModelLabel; 1], Counter>,
    int8_images: Family<[ModelLabel; 1], Counter>,
    failures: Family<[ModelLabel; 2], Counter>,
}

/// Metrics of one model.
#[derive(Debug)]
pub(super) struct ModelMeter {
    seconds: Histogram,
    images: Counter,
    int8_images: Counter,
    refused: Counter,
    late: Counter,
    cancelled: Counter,
    failed: Counter,
}

impl Default for ModelMeters {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        Self {
            seconds: Family::new_with_constructor(histogram),
            waits: Family::new_with_constructor(histogram),
            images: Family::default(),
            int8_images: Family::default(),
            failures: Family::default(),
        }
    }
}

impl ModelMeters {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help =
            "Time of a guest's successful calls of a model, with waiting for sessions, by model";
        registry.register("inference_seconds", help, self.seconds.clone());
        let help = "Time that a run waited for a session, by model; a call with several images \
            may have several runs";
        registry.register("inference_wait_seconds", help, self.waits.clone());
        registry.register(
            "inference_images",
            "Images of successful calls of a model, by model",
            self.images.clone(),
        );
        registry.register(
            "inference_int8_images",
            "Images that a model computed in 8-bit integers, by model",
            self.int8_images.clone(),
        );
        let help = "Failed calls of a model, by model and reason: refused (its inputs), late (no \
            session in time), cancelled (the client hung up) or failed";
        registry.register("inference_failures", help, self.failures.clone());
    }

    /// Returns the metrics of the model for a role.
    pub(super) fn model(&self, role: &str) -> ModelMeter {
        let label = || ("model", role.to_owned());
        let failures = |reason: &str| {
            self.failures
                .get_or_create_owned(&[label(), ("reason", reason.to_owned())])
        };
        ModelMeter {
            seconds: self.seconds.get_or_create_owned(&[label()]),
            images: self.images.get_or_create_owned(&[label()]),
            int8_images: self.int8_images.get_or_create_owned(&[label()]),
            refused: failures("refused"),
            late: failures("late"),
            cancelled: failures("cancelled"),
            failed: failures("failed"),
        }
    }

    /// Returns the histogram of waiting times of the model for a role.
    pub(super) fn waits(&self, role: &str) -> Histogram {
        self.waits
            .get_or_create_owned(&[("model", role.to_owned())])
    }
}

impl ModelMeter {
    /// Records a successful call with its number of images.
    pub(super) fn record_answer(&self, images: usize, duration: Duration) {
        self.images.inc_by(images as u64);
        self.seconds.observe(duration.as_secs_f64());
    }

    /// Records images of a successful run in 8-bit integers.
    pub(super) fn record_int8(&self, images: usize) {
        self.int8_images.inc_by(images as u64);
    }

    /// Records a call with invalid inputs.
    pub(super) fn record_refusal(&self) {
        self.refused.inc();
    }

    /// Records a call that failed after its inputs were checked.
    pub(super) fn record_failure(&self, error: &ModelError, scope: &CancelScope) {
        match error {
            ModelError::Late { .. } if scope.is_cancelled() => self.cancelled.inc(),
            ModelError::Late { .. } => self.late.inc(),
            _ => self.failed.inc(),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn labels_do_not_grow_with_calls() {
        let meters = ModelMeters::default();
        for name in ["detector", "recognizer"].into_iter().cycle().take(100) {
            // Every staged revision prepares its models again.
            let meter = meters.model(name);
            meter.record_answer(3, Duration::from_millis(7));
            meter.record_int8(2);
            meter.record_refusal();
            let (late, (cancelled, guard)) = (
                CancelScope::from(Instant::now()),
                CancelScope::with_guard(Instant::now()),
            );
            drop(guard);
            for scope in [late, cancelled] {
                meter.record_failure(
                    &ModelError::Late {
                        name: name.to_owned(),
                    },
                    &scope,
                );
            }
            meters.waits(name).observe(0.0);
        }
        let mut registry = Registry::with_prefix("rostro");
        meters.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "rostro_inference_seconds_bucket{le=\"0.01\",model=\"detector\"} 50",
            "rostro_inference_seconds_count{model=\"detector\"} 50",
            "rostro_inference_wait_seconds_count{model=\"recognizer\"} 50",
            "rostro_inference_images_total{model=\"recognizer\"} 150",
            "rostro_inference_int8_images_total{model=\"recognizer\"} 100",
            "rostro_inference_failures_total{model=\"detector\",reason=\"refused\"} 50",
            "rostro_inference_failures_total{model=\"detector\",reason=\"late\"} 50",
            "rostro_inference_failures_total{model=\"detector\",reason=\"cancelled\"} 50",
            "rostro_inference_failures_total{model=\"detector\",reason=\"failed\"} 0",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is not in {text}"
            );
        }
        assert_eq!(text.matches("rostro_inference_failures_total").count(), 8);
    }
}
